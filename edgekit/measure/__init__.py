"""Measuring: latency and memory of artifacts, quality against the original, and the statistics of both."""
