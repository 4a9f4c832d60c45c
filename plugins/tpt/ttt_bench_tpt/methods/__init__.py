"""The methods, one file each: `tpt` with its variants, `coop`, `cocoop`."""
