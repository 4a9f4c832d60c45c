"""The embedded classifier: its network and its weights."""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("model.safetensors")
