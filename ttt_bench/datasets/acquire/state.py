"""The state of a dataset on disk: found, broken or missing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ttt_bench.api.errors import UserError, described
from ttt_bench.api.on_disk import MissingDataError, OnDisk, find_folder
from ttt_bench.api.specs import DatasetSpec
from ttt_bench.registry import registry


@dataclass(frozen=True)
class State:
    """The state of one dataset.

    Attributes:
        name: as typed.
        word: the state in one word; `broken` where the folder's content or the dataset's code is
            wrong.
        spec: the dataset's facts.
        dataset: ready to be used; None where it is not.
        folder: the dataset's folder; None where there is none.
        problem: why it is not ready, "" where it is.
    """

    name: str
    word: Literal["found", "broken", "missing"]
    spec: DatasetSpec
    dataset: OnDisk | None = None
    folder: Path | None = None
    problem: str = ""


def names_on_disk() -> list[str]:
    """Return every registered dataset that lives in a folder of its own."""
    return [name for name, item in registry().datasets.items() if item.spec.how_to_get]


def find_state(name: str, data_root: Path | None) -> State:
    """Find a dataset and check it as a run would.

    Args:
        name: the dataset's name, perhaps with an argument after a colon.
        data_root: the folder that the user gave to look in, None for none.

    Raises:
        UserError: there is none of that name, or it has no folder of its own.
    """
    base, colon, argument = name.partition(":")
    datasets = registry().datasets
    if colon or base not in datasets:
        datasets.find(name)
    spec = datasets[base].spec
    if spec.how_to_get is None:
        raise UserError(f"{name}: nothing to get; it is embedded or a folder of yours")
    try:
        reader = spec.load()
        if not (isinstance(reader, type) and issubclass(reader, OnDisk)):
            raise UserError(f"{spec.code} is no OnDisk dataset")
        dataset = reader(argument, data_root)
    except MissingDataError as error:
        return State(name, "missing", spec, problem=str(error))
    # A plugin's dataset may raise anything; the others are shown all the same.
    except Exception as error:
        problem = str(error) if isinstance(error, UserError) else described(error)
        return State(name, "broken", spec, folder=_folder(spec, data_root), problem=problem)
    return State(name, "found", spec, dataset, dataset.root)


def _folder(spec: DatasetSpec, data_root: Path | None) -> Path | None:
    try:
        return find_folder(spec.name, spec.folders, data_root)
    except MissingDataError:
        return None
