"""Snapshots of objects and of the process, and the differences between two of them."""
