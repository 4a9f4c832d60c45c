"""TensorBoardTracker: event files in the run's folder, which TensorBoard shows."""

import json
import shutil
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from ttt_bench import Run
from ttt_bench_trackers.logged_once import RESULTS_FILE, RUNNING_ACCURACY, LoggedOnce, parameters

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "trackers/tensorboard"
TOP1 = "top1"


class TensorBoardTracker(LoggedOnce):
    """Writes event files to `trackers/tensorboard` of the run's folder."""

    name: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboard"

    _writer: "SummaryWriter"
    _parameters: dict[str, str]

    @override
    def place(self) -> str:
        return FOLDER

    @override
    def open(self, run: Run, known_id: str) -> str:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = Path(run.path, FOLDER)
        if not known_id:
            # Event files that are of no known run.
            shutil.rmtree(folder, ignore_errors=True)
        # What a killed command logged of later steps is hidden, as it comes again.
        later = run.finished + 1 if known_id else None
        self._writer = SummaryWriter(folder, purge_step=later)
        self._parameters = parameters(run)
        if not known_id:
            experiment, started, _ = hparams(self._parameters, {TOP1: 0.0})
            self._add(experiment, started)
            # Markdown shows lines that are indented by four places as they are.
            card = json.dumps(dict(run.card), indent=2, ensure_ascii=False)
            self._writer.add_text("card", indent(card, "    "))
        self._writer.flush()
        return FOLDER

    @override
    def log_accuracy(self, samples: int, accuracy: float) -> None:
        self._writer.add_scalar(RUNNING_ACCURACY, accuracy, samples)
        self._writer.flush()

    @override
    def log_results(self, samples: int, numbers: dict[str, float], exported: Path) -> None:
        from torch.utils.tensorboard.summary import hparams

        for name, value in numbers.items():
            self._writer.add_scalar(name, value, samples)
        *_, ended = hparams(self._parameters, {TOP1: numbers[TOP1]})
        self._add(ended)
        shutil.copyfile(exported, Path(self._writer.log_dir, RESULTS_FILE))

    @override
    def close(self, finished: bool) -> None:
        self._writer.close()

    def _add(self, *summaries: Any) -> None:
        assert self._writer.file_writer is not None
        for summary in summaries:
            self._writer.file_writer.add_summary(summary)
