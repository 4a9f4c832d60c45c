"""Test-time methods for CLIP for ttt-bench."""
