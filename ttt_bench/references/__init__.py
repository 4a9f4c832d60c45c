"""Published numbers, kept apart from measured ones."""
