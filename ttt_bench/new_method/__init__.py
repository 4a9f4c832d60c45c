"""The plugin folder that `ttt-bench new-method` writes."""
