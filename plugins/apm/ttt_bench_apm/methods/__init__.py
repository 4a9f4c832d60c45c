"""Test-time training: the methods that `ttt-bench run` knows by this plugin, one file each."""
