"""Numbers of the original releases, and the code that computes them again."""
