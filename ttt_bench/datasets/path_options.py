"""Options after the path of a dataset, as in `hf:photos,split=test`."""

import re
from collections.abc import Collection
from pathlib import Path

from ttt_bench.api.dataset import is_text
from ttt_bench.api.errors import UserError, unknown

BEFORE_OPTION = re.compile(r",(?=\w+=)")


def split_options(
    dataset: str, argument: str, known: Collection[str]
) -> tuple[str, dict[str, str]]:
    """Read `PATH[,KEY=VALUE]...`; a comma that no `KEY=` follows belongs to the path or value.

    Args:
        dataset: the dataset's name, for messages.
        argument: the part after the colon.
        known: the keys.

    Returns:
        The path, and the values by key.

    Raises:
        UserError: a key is not known or comes twice, or a part is empty or no text.
    """
    name = f"{dataset}:{argument}"
    path, *parts = BEFORE_OPTION.split(argument)
    if not is_text(argument):
        raise UserError(f"{name!r}: is not UTF-8; rename the file or folder")
    options: dict[str, str] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in known:
            raise unknown(f"option of {dataset}", key, known, hint=name)
        if key in options:
            raise UserError(f"{name}: {key}= comes twice; give it once")
        if not value:
            raise UserError(f"{name}: {key}= has no value; write {key}=VALUE or leave it out")
        options[key] = value
    if not path:
        raise UserError(f"{name}: has no path; write {dataset}:PATH before the options")
    return path, options


def find_path(path: str, data_root: Path | None) -> Path:
    """Return a path as typed, or below the data root where it is there and not here."""
    typed = Path(path).expanduser()
    below = None if data_root is None else data_root / path
    return below if below is not None and not typed.exists() and below.exists() else typed
