"""Pooling and heads."""
