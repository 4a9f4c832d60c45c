"""The methods, one file each: `ttt-mae`, and the rows of its table that adapt nothing."""
