"""Methods without test-time training, that every other row is compared with."""
