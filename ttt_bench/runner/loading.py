"""What the runs of one command load, once for all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError, described
from ttt_bench.api.executor import Executor
from ttt_bench.registry import registry

LoadedT = TypeVar("LoadedT")


class LoadingError(UserError):
    """A dataset or a backbone that cannot be loaded, which stops the runs on it and no other."""


@dataclass(frozen=True)
class Loaded:
    """What the runs of one command share.

    Attributes:
        backbones: the backbones by name and file of weights.
        datasets: the datasets by name and the folder that they are looked for in.
        executors: the executors by name and number of workers.
    """

    backbones: dict[tuple[str, Path | None], Backbone] = field(default_factory=dict)
    datasets: dict[tuple[str, Path | None], Dataset] = field(default_factory=dict)
    executors: dict[tuple[str, int | None], Executor] = field(default_factory=dict)

    def executor(self, name: str, workers: int | None) -> Executor:
        """Return the executor that the runs of the command share.

        Args:
            name: its name, with its argument after a colon.
            workers: the number of workers, None to leave it to the executor.

        Raises:
            UserError: there is none of that name.
        """
        if (name, workers) not in self.executors:
            kind: type[Executor] = registry().executors.find(name).spec.load()
            self.executors[name, workers] = kind(name.partition(":")[2], workers)
        return self.executors[name, workers]

    def close(self) -> None:
        """End what executors keep between runs."""
        for executor in self.executors.values():
            executor.close()


def load(name: str, load_it: Callable[[], LoadedT]) -> LoadedT:
    """Load a dataset or a backbone, and say in one line what is wrong where it fails.

    Raises:
        LoadingError: it cannot be loaded.
    """
    try:
        return load_it()
    except UserError as error:
        raise LoadingError(str(error)) from error
    except Exception as error:
        raise LoadingError(f"{name}: cannot be loaded ({described(error)})") from error
