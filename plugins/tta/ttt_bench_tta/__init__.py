"""Classic test-time adaptation for ttt-bench."""
