"""Builders of raw material: one module per kind of source."""
