"""The methods that this plugin adds: APM's test-time training."""
