"""Datasets: the embedded corrupted photographs, and folders of anybody's own images."""
