"""Where a training keeps what it has done, so that one that was stopped goes on."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ttt_bench.api.errors import UserError


class TrainingFolder:
    """`options.json`, `state.pt`, `log.jsonl` and `model.pth`, each of them replaced at once.

    A kill at any moment leaves the old file or the new one, whole.

    Attributes:
        options: what the training was asked for, as JSON values; it goes on only with the same.

    Raises:
        UserError: the folder holds a training with other options, or cannot be written to.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self.path = path
        self.options = options
        before = self._read_options()
        for name in sorted({*before, *options}) if before else ():
            if before.get(name) != options.get(name):
                raise UserError(
                    f"{path} holds a training with {name}={before.get(name)}, not "
                    f"{options.get(name)}; give another --output or remove it"
                )
        try:
            path.mkdir(parents=True, exist_ok=True)
            text = json.dumps(options, indent=2)
            self._replace("options.json", lambda file: file.write_text(text))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; give another --output") from error

    @property
    def model(self) -> Path:
        """Where the model is."""
        return self.path / "model.pth"

    def _read_options(self) -> dict[str, Any]:
        file = self.path / "options.json"
        try:
            return json.loads(file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{file}: not readable ({error}); give another --output") from error

    def load(self) -> dict[str, Any] | None:
        """The last saved state, None before the first.

        Raises:
            UserError: the file is damaged.
        """
        file = self.path / "state.pt"
        if not file.exists():
            return None
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(f"{file}: damaged; remove it to start this training anew") from error

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state, and the log that goes with it, its entry `log`."""
        self._replace("state.pt", lambda file: torch.save(dict(state), file))
        lines = "".join(json.dumps(line) + "\n" for line in state["log"])
        self._replace("log.jsonl", lambda file: file.write_text(lines))

    def save_model(self, write: Callable[[Path], Any]) -> None:
        """Put a model in its place.

        Args:
            write: writes it to the path that it is given.
        """
        self._replace(self.model.name, write)

    def _replace(self, name: str, write: Callable[[Path], Any]) -> None:
        part = self.path / f"{name}.part"
        write(part)
        os.replace(part, self.path / name)
