"""Extra terms of a fine-tuning loss, one file each."""
