"""Precision: the arithmetic of the backbone's forward pass, by name."""

from typing import Literal

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
