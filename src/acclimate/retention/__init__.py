"""Ways to keep what the model knew before, one file each."""
