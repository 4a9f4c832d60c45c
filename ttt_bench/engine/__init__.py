"""The engine: turns chunks of samples into records."""
