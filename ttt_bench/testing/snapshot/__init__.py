"""Snapshots of everything a method holds, and of process-wide state."""
