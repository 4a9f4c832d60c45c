"""Executors: where the chunks of a run are computed. All of them give the same records."""
