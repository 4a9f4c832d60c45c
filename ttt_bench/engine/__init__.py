"""The engine: a plan of chunks, workers that make records of them, executors to share them."""
