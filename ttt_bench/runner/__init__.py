"""The way into a run, from what the user asked for to the summary."""
