"""Kinds of task, one file each: data, head and loss."""
