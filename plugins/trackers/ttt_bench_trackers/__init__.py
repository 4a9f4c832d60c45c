"""Trackers for ttt-bench: TensorBoard, MLflow, Weights & Biases."""
