"""The machine and the versions of a run: recorded beside the card, not part of it."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("ttt-bench", "torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow")


def describe(device: str) -> dict[str, Any]:
    """Return the versions of what computes, the commit of a source checkout, the machine."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device_name(device),
    }


def device_name(device: str) -> str:
    """Return a GPU's product name, or the kind of another device."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _git_commit() -> str | None:
    """Return the commit, where ttt-bench runs from its own checkout."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
