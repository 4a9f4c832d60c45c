"""Runs and results from Python; the commands `run` and `compare` are thin over this room."""
