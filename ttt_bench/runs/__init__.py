"""A run on disk: its protocol card, its plan of chunks, its folder and the files in it."""
