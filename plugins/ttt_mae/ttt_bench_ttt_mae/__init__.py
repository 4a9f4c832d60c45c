"""Test-time training with masked autoencoders, and the rows it is compared with."""
