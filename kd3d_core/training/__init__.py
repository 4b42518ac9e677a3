"""Training: configuration, tasks, one visible loop, checkpoints."""
