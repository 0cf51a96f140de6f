"""Metrics, significance, calibration and probes."""
