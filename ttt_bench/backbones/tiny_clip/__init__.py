"""The embedded dual encoder: its image tower, its open_clip configuration and its weights."""
