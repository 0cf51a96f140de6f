"""Metrics, significance, calibration, probes and the report."""
