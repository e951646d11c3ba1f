"""What can be learned: classes of samples, later frames of maps."""
