"""LoggedOnce: what the trackers share. Each run is logged once, however many commands it takes."""

import hashlib
import json
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from typing_extensions import override

from ttt_bench import Records, Run, Tracker, UserError, atomic_write, export_runs

RUNNING_ACCURACY = "running_accuracy"
RESULTS_FILE = "results.zip"


@dataclass(frozen=True)
class Note:
    """What a file in a run's folder says of the tracker's own run.

    Attributes:
        run_id: the tracker's id of the run, "" for none.
        place: a digest of the server and project that the id belongs to.
        complete: whether the results are logged.
    """

    run_id: str = ""
    place: str = ""
    complete: bool = False


class LoggedOnce(Tracker, ABC):
    """A tracker whose runs are continued by later commands.

    Attributes:
        name: the tracker's name, which is also that of the extra which installs its package.
        package: the package that it needs.

    Raises:
        UserError: the package is not installed.
    """

    name: ClassVar[str]
    package: ClassVar[str]

    def __init__(self) -> None:
        if find_spec(self.package) is None:
            raise UserError(
                f"--track {self.name} needs the package {self.package}: pip install "
                f"'ttt-bench-trackers[{self.name}]'"
            )
        self._run_id = ""
        self._samples = self._correct = 0
        self._open = self._complete = False

    @abstractmethod
    def place(self) -> str:
        """Return what tells one server and project from another; equal in all runs of a command."""

    @abstractmethod
    def open(self, run: Run, known_id: str) -> str:
        """Begin a run of the tracker, or continue one, and log the card as parameters.

        Args:
            run: the run.
            known_id: the id that an earlier command got from this function, "" for none.

        Returns:
            The tracker's id of the run.
        """

    @abstractmethod
    def log_accuracy(self, samples: int, accuracy: float) -> None:
        """Log the accuracy of the samples so far.

        Args:
            samples: how many there are.
            accuracy: the share that is predicted right, in percent.
        """

    @abstractmethod
    def log_results(self, samples: int, numbers: dict[str, float], exported: Path) -> None:
        """Log the results of a finished run.

        Args:
            samples: how many the run has.
            numbers: the numbers of the summary by name, such as `cost/gflops_per_sample`.
            exported: the exported run, a file that is there until `close` has returned.
        """

    @abstractmethod
    def close(self, finished: bool) -> None:
        """End the tracker's run for this command.

        Args:
            finished: whether its results are logged.
        """

    @override
    def run_started(self, run: Run) -> None:
        """Begin or continue the tracker's run, unless all of it is logged."""
        # The end of an earlier run may have failed.
        with suppress(Exception):
            self._close(finished=False)
        self._samples, self._correct = run.finished, run.correct
        note = self._note(run)
        self._complete = note.complete
        if not self._complete:
            self._begin(run, note)

    @override
    def chunk_finished(self, run: Run, records: Records) -> None:
        """Log the accuracy of the samples so far."""
        self._samples += len(records)
        self._correct += int(records.correct.sum())
        if self._open:
            self.log_accuracy(self._samples, 100 * self._correct / self._samples)

    @override
    def run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        """Log summary, cost and the exported run."""
        if self._complete:
            return
        if not self._open:
            # It failed when the run began, and may answer by now.
            self._begin(run, self._note(run))
        if self._samples < run.n:
            # It failed after some chunk, and was told of no later one.
            self.log_accuracy(run.n, float(summary["top1"]))
        with TemporaryDirectory() as folder:
            exported = Path(folder, RESULTS_FILE)
            export_runs([Path(run.path)], exported)
            self.log_results(run.n, numbers(summary), exported)
            self._close(finished=True)
        self._remember(run, Note(self._run_id, self._place(), complete=True))

    @override
    def run_stopped(self, run: Run) -> None:
        """End the tracker's run for now; the same command continues it."""
        self._close(finished=False)

    def _begin(self, run: Run, note: Note) -> None:
        self._run_id = self.open(run, note.run_id)
        self._open = True
        if self._run_id != note.run_id:
            self._remember(run, Note(self._run_id, self._place()))
            if self._samples:
                self.log_accuracy(self._samples, 100 * self._correct / self._samples)

    def _close(self, finished: bool) -> None:
        if self._open:
            self._open = False
            self.close(finished)

    def _place(self) -> str:
        # The address of a server may hold a password, and the folder of a run may be shared.
        return hashlib.sha256(self.place().encode()).hexdigest()[:16]

    def _note(self, run: Run) -> Note:
        """Return what is known of a run, nothing where it was logged at another place."""
        file = notes_file(run, self.name)
        if not file.exists():
            return Note()
        note = Note(**json.loads(file.read_text("utf-8")))
        return note if note.place == self._place() else Note()

    def _remember(self, run: Run, note: Note) -> None:
        with atomic_write(notes_file(run, self.name)) as temporary:
            temporary.write_text(json.dumps(asdict(note)) + "\n", "utf-8")


def notes_file(run: Run, name: str) -> Path:
    """Return the file in a run's folder that names the tracker's own run."""
    return Path(run.path) / "trackers" / f"{name}.json"


def run_name(run: Run) -> str:
    """Return what a tracker calls a run."""
    return f"{run.title} on {run.dataset}"


def flattened(values: dict[str, Any], separator: str) -> dict[str, Any]:
    """Return nested values under joined names.

    Args:
        values: plain JSON values by name.
        separator: what joins the names.
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            inner = flattened(value, separator)
            flat |= {f"{name}{separator}{key}": one for key, one in inner.items()}
        else:
            flat[name] = value
    return flat


def parameters(run: Run) -> dict[str, str]:
    """Return the protocol card as texts by dotted name, such as `method.config.steps`."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in flattened(dict(run.card), ".").items()
    }


def numbers(summary: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary by name; those of a list, such as steps, count from 1."""
    spread = {
        name: {str(place): one for place, one in enumerate(value, 1)}
        if isinstance(value, list)
        else value
        for name, value in flattened(summary, "/").items()
    }
    return {
        name: float(value)
        for name, value in flattened(spread, "/").items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
