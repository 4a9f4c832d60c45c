"""Photographs with ImageNet labels, the same corrupted, and a classifier for them."""
