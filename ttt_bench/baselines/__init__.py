"""Methods without test-time training, the baselines of every comparison."""
