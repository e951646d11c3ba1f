"""Training: batches, losses, the training loop, checkpoints and progress."""
