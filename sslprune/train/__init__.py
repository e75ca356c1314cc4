"""The one training loop: optimisers and schedules, checkpoints, the log."""
