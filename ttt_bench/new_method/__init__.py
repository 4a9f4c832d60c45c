"""The plugin folder that `ttt-bench new-method` writes, and its templates."""
