"""Which datasets lie on disk, and whether each is there and fits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import MissingDataError, OnDisk, find_folder
from ttt_bench.registry import registry


@dataclass(frozen=True)
class State:
    """One dataset as found.

    Attributes:
        name: as typed.
        word: the state in one word; broken is what is there and does not fit, or does not load.
        kind: its class; None where its code does not load.
        dataset: ready to be used; None where it is not.
        folder: its folder; None where none is found.
        problem: why it is not ready, "" where it is.
    """

    name: str
    word: Literal["found", "broken", "missing"]
    kind: type[OnDisk] | None
    dataset: OnDisk | None = None
    folder: Path | None = None
    problem: str = ""


def names_on_disk() -> list[str]:
    """Every registered dataset that lies on disk, those whose code does not load included."""
    names = []
    for name in registry().datasets:
        try:
            on_disk = _load(name) is not None
        except UserError:
            on_disk = True
        if on_disk:
            names.append(name)
    return names


def find_state(name: str, data_root: Path | None) -> State:
    """Find a dataset, its argument behind a colon, and check it as a run would.

    Raises:
        UserError: there is none of that name, or it does not lie on disk.
    """
    base, _, argument = name.partition(":")
    if ":" in name or base not in registry().datasets:
        registry().datasets.find(name)
    try:
        kind = _load(base)
    except UserError as error:
        return State(name, "broken", None, problem=str(error))
    if kind is None:
        raise UserError(f"{name}: nothing to get, it is embedded or a folder of yours")
    try:
        dataset = kind(argument, data_root)
    except MissingDataError as error:
        return State(name, "missing", kind, problem=str(error))
    # A plugin's dataset may raise anything; the others are shown all the same.
    except Exception as error:
        problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return State(name, "broken", kind, folder=_folder(kind, data_root), problem=problem)
    return State(name, "found", kind, dataset, dataset.root)


def _load(name: str) -> type[OnDisk] | None:
    """The class of a dataset, None where it does not lie on disk.

    Raises:
        UserError: its code does not load.
    """
    kind = registry().datasets[name].spec.load()
    return kind if isinstance(kind, type) and issubclass(kind, OnDisk) else None


def _folder(kind: type[OnDisk], data_root: Path | None) -> Path | None:
    try:
        return find_folder("", kind.folders, data_root)
    except MissingDataError:
        return None
