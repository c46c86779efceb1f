"""Processors that are not here, emulated by qemu in user mode: without root rights, without registering a format."""
