"""The state of a method in a stream: saved as plain data, and put back into a new adapter."""
