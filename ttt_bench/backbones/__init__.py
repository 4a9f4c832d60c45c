"""Backbones: open_clip models, the embedded tiny-clip, and timm classifiers."""
