"""Metrics: pure functions of saved records."""
