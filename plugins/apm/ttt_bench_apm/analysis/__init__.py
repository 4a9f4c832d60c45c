"""Figures and measurements of what the two networks compute."""
