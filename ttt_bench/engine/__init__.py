"""The engine: a plan of chunks, workers that turn chunks into records, executors that share them."""
