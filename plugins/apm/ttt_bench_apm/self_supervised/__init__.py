"""The self-supervised perception model: its network, its training, its checkpoints."""
