"""Backbones: open_clip models and the embedded tiny-clip."""
