"""Quantization: which scheme a target wants, calibration that streams, and which layers lose too much."""
