"""What keeps evaluation apart from training: splits, copies, near-copies, contamination."""
