"""Finished runs side by side: read, grouped into tables, compared in pairs."""
