"""Fine-tuning strategies, one file each."""
