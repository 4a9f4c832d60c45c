"""Tracker: what follows the runs of a command under a name (`run --track NAME`)."""

from typing import Any

from ttt_bench.api.events import Run
from ttt_bench.api.records import Records


class Tracker:
    """A tracker of runs, made once for each command that names it.

    Its methods are told what the hooks of the same names are told, in the command's own process. A
    method that raises stops nothing: the tracker is named in one line, the first time that it
    fails, and it is told no further chunk of that run, since a service that does not answer would
    cost its time-out for each. The end of the run and the next run are told again.

    Raises:
        UserError: a tracker cannot be made, such as without the package that it needs. The command
            stops before anything is computed.
    """

    def run_started(self, run: Run) -> None:
        """Learn that a run begins, before its first chunk.

        Args:
            run: the run; `run.finished` of its samples were saved by earlier commands.
        """

    def chunk_finished(self, run: Run, records: Records) -> None:
        """Learn that the records of a chunk are saved.

        Args:
            run: the run, as it was when it began.
            records: the records of the chunk.
        """

    def run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        """Learn that every chunk of a run is saved.

        Args:
            run: the run, as it was when it began.
            summary: metrics and cost, as `run --format json` prints them.
        """

    def run_stopped(self, run: Run) -> None:
        """Learn that the command ends without finishing a run that it began.

        Args:
            run: the run, as it was when it began.
        """
