"""Pretrained models, one file per family."""
