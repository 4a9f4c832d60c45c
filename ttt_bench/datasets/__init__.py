"""Datasets: their facts, their readers, and getting them."""
