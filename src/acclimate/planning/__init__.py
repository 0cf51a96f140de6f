"""What the training stages will take, told before they run, by trying a few of their steps."""
