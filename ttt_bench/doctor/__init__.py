"""What this machine is, whether what is installed is sound, and how fast methods run on it."""
