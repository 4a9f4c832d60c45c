"""The folder of a training: options, state, log and model."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.regular_files import require_regular
from ttt_bench.toolkit.atomic import atomic_write
from ttt_bench.toolkit.checkpoints import LARGEST_CHECKPOINT, save_checkpoint

LARGEST_OPTIONS = 1 << 20


class TrainingFolder:
    """A folder with `options.json`, `state.pt`, `log.jsonl` and `model.pth`.

    Every file is replaced at once: a kill at any moment leaves the old one or the new one, whole.

    Args:
        path: the folder, made where it is missing.
        options: the options of the training as JSON values; a folder continues with the same ones
            alone.

    Raises:
        UserError: the folder holds a training with other options, or cannot be written to.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path = path
        self.options = options
        saved = self._read_options()
        for name in sorted({*saved, *options}) if saved else ():
            if saved.get(name) != options.get(name):
                raise UserError(
                    f"{path} holds a training with {name}={saved.get(name)}, not "
                    f"{options.get(name)}; give another --output or remove it"
                )
        try:
            with atomic_write(path / "options.json") as file:
                file.write_text(json.dumps(options, indent=2))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; give another --output") from error

    @property
    def model(self) -> Path:
        """The file of the trained model, which the training writes."""
        return self.path / "model.pth"

    @property
    def state(self) -> Path:
        """The file of the last saved state."""
        return self.path / "state.pt"

    def _read_options(self) -> dict[str, Any]:
        file = self.path / "options.json"
        if not os.path.exists(file):
            return {}
        require_regular(file, LARGEST_OPTIONS)
        try:
            options = json.loads(file.read_text())
            if not isinstance(options, dict):
                raise ValueError("no JSON object")
            return options
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{file}: not readable ({first_line(error)}); give another --output"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, None before the first.

        Raises:
            UserError: the file is damaged.
        """
        if not os.path.exists(self.state):
            return None
        require_regular(self.state, LARGEST_CHECKPOINT)
        try:
            state = torch.load(self.state, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise TypeError(f"a {type(state).__name__}, no dict")
            return state
        # A damaged file can fail in any way there is.
        except Exception as error:
            raise UserError(f"{self.state}: damaged; remove it to start anew") from error

    def save(self, state: Mapping[str, Any]) -> None:
        """Save a state, and beside it the log that is its entry `log`."""
        save_checkpoint(dict(state), self.state)
        lines = "".join(json.dumps(line) + "\n" for line in state["log"])
        with atomic_write(self.path / "log.jsonl") as file:
            file.write_text(lines)

    def remove(self) -> None:
        """Remove the training's own files, and the folder unless it holds others."""
        for name in ("options.json", "state.pt", "log.jsonl", "model.pth"):
            (self.path / name).unlink(missing_ok=True)
        if not any(self.path.iterdir()):
            self.path.rmdir()
