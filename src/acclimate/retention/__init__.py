"""Ways to keep what a model knew, one file each."""
