"""Finished runs side by side: which may be, and what their difference is worth."""
