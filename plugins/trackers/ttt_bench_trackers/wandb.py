"""WandbTracker: a run of Weights & Biases, online or offline."""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from ttt_bench import Run
from ttt_bench_trackers.logged_once import RESULTS_FILE, RUNNING_ACCURACY, LoggedOnce, run_name

if TYPE_CHECKING:
    import wandb

# Where the user names a server, an owner and a project.
PLACE = ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT")
PROJECT = "ttt-bench"
STOPPED = 1


class WandbTracker(LoggedOnce):
    """Logs to the project that `WANDB_PROJECT` names, in the mode of `WANDB_MODE`."""

    name: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"

    _run: "wandb.Run"

    @override
    def place(self) -> str:
        return " ".join(os.environ.get(name, "") for name in PLACE)

    @override
    def open(self, run: Run, known_id: str) -> str:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=known_id or uuid.uuid4().hex,
            resume="allow",
            name=run_name(run),
            config=dict(run.card),
            # The command's own lines are no part of one of its runs.
            settings=wandb.Settings(console="off"),
        )
        return str(self._run.id)

    @override
    def log_accuracy(self, samples: int, accuracy: float) -> None:
        self._run.log({RUNNING_ACCURACY: accuracy}, step=samples)

    @override
    def log_results(self, samples: int, numbers: dict[str, float], exported: Path) -> None:
        import wandb

        self._run.summary.update(numbers)
        artifact = wandb.Artifact(f"results-{self._run.id}", type="results")
        artifact.add_file(str(exported), name=RESULTS_FILE)
        self._run.log_artifact(artifact)

    @override
    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else STOPPED)
