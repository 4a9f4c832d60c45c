"""Asynchronous Perception Machine (Modi and Rawat, NeurIPS 2024, arXiv 2410.20535)."""
