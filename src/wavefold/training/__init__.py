"""Training: batches, losses, the loop, its state on disk, and metrics."""
