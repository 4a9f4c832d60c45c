"""Fake inputs that a check gives a method: planted labels, backbones that spy or fail."""
