"""The checks of the conformance kit, a file for each promise."""
