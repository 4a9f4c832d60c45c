"""The trackers that a command names: told of its runs, and one that fails stops nothing."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ttt_bench.api.errors import UserError, described
from ttt_bench.api.events import Run
from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.records import Records
from ttt_bench.api.specs import TrackerSpec
from ttt_bench.api.tracker import Tracker
from ttt_bench.registry import registry


def find_tracker(name: str) -> TrackerSpec:
    """Return the spec of a tracker.

    Raises:
        UserError: nothing is registered under the name.
    """
    plugins = registry()
    if not plugins.trackers and not plugins.broken():
        raise UserError(
            f"--track {name}: no tracker is installed; tensorboard, mlflow and wandb come with a "
            f"plugin: pip install 'ttt-bench-trackers[{name}]'"
        )
    return plugins.trackers.find(name).spec


@contextmanager
def tracked(names: Iterable[str]) -> Iterator[None]:
    """Let trackers follow the runs of a block.

    Args:
        names: the trackers; one that is named several times follows once.

    Raises:
        UserError: an unknown name, or a tracker that cannot be made.
    """
    followers = [Follower(name, _made(name)) for name in dict.fromkeys(names)]
    manager = registry().manager
    for follower in followers:
        manager.register(follower)
    try:
        yield
    finally:
        for follower in followers:
            manager.unregister(follower)
            follower.stop()


def _made(name: str) -> Tracker:
    """Return a tracker by its name.

    Raises:
        UserError: an unknown name, or a tracker that cannot be made.
    """
    tracker_type: type[Tracker] = find_tracker(name).load()
    try:
        return tracker_type()
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UserError(f"--track {name}: it cannot be made ({described(error)})") from error


class Follower:
    """A tracker as a plugin that listens to the runs of one command."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        """Begin without a run.

        Args:
            name: the tracker's name, for messages.
            tracker: the tracker.
        """
        self._name = name
        self._tracker = tracker
        self._run: Run | None = None
        self._failed = self._reported = False

    @hookimpl
    def ttt_bench_run_started(self, run: Run) -> None:
        """Tell the tracker of a run, after the end of one that was not finished."""
        self.stop()
        self._run, self._failed = run, False
        self._tell(self._tracker.run_started, run)

    @hookimpl
    def ttt_bench_chunk_finished(self, run: Run, records: Records) -> None:
        """Tell the tracker of a chunk, where nothing has failed in this run."""
        if not self._failed:
            self._tell(self._tracker.chunk_finished, run, records)

    @hookimpl
    def ttt_bench_run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        """Tell the tracker of the summary."""
        self._run = None
        self._tell(self._tracker.run_finished, run, summary)

    def stop(self) -> None:
        """Tell the tracker of a run that was begun and not finished."""
        if self._run is not None:
            run, self._run = self._run, None
            self._tell(self._tracker.run_stopped, run)

    def _tell(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except KeyboardInterrupt:
            raise
        # A tracker may raise anything, SystemExit included.
        except BaseException as error:
            self._failed = True
            if not self._reported:
                self._reported = True
                print(
                    f"tracker {self._name} failed ({described(error)}); the run goes on",
                    file=sys.stderr,
                )
