"""Kinds of task, one folder each; `acclimate.kinds` says what a kind must be."""
