"""The claim that predictions do not depend on the order of the samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tools.auditing.comparing import Runs
from tools.auditing.lines import Line, Outcome
from tools.result_text import table, wrapped
from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import FinishedRun


@dataclass(frozen=True)
class Orders:
    """The claim that predictions do not depend on the order of the samples.

    Attributes:
        leaking: the name of the rows that are made to depend on it.
    """

    leaking: str

    def outcome(self, runs: Runs) -> Outcome:
        """Return how many predictions and confidences change with the order."""
        changed = {name: _changed(name, some) for name, some in runs.items()}
        rows = [["method", "images", "predictions that changed", "confidences that changed"]]
        for name, some in runs.items():
            rows.append([name, str(some[0].summary["n"]), *map(str, changed[name])])
        about = (
            "The same images in the dataset's order and in the reverse one, compared image by "
            f"image, bit for bit. `{self.leaking}` is made for this page: it starts each image "
            "from the weights of the one before, and declares that it fails the check of order."
        )
        return Outcome(self._lines(runs, changed), ["## Result", table(rows), wrapped(about)])

    def _lines(self, runs: Runs, changed: Mapping[str, tuple[int, int]]) -> list[Line]:
        episodic = [counts for name, counts in changed.items() if name != self.leaking]
        predictions, confidences = (sum(counts) for counts in zip(*episodic, strict=True))
        leaking = changed[self.leaking]
        backbones = {run.summary["backbone"] for some in runs.values() for run in some}
        summary = runs[self.leaking][0].summary
        tested = f"{summary['n']} samples of {summary['dataset']}"
        return [
            Line(
                question=f"{len(episodic)} episodic methods predict the same in the reverse order",
                tested=f"{tested}, {len(backbones)} backbones, 1 seed",
                result=f"{predictions} predictions and {confidences} confidences changed",
                p="",
                cost="",
                verdict="does not hold here" if predictions or confidences else "holds here",
            ),
            Line(
                question="A method that keeps weights from image to image would be seen",
                tested=f"{tested}, {summary['backbone']}, 1 seed",
                result=f"{leaking[0]} predictions and {leaking[1]} confidences changed",
                p="",
                cost="",
                verdict="holds here" if leaking[0] else "does not hold here",
            ),
        ]


def _changed(name: str, runs: Sequence[FinishedRun]) -> tuple[int, int]:
    """Return how many predictions and how many confidences differ between the two orders."""
    first, second = _two_orders(name, runs)
    predictions, confidences = (
        int((one != other).sum()) for one, other in zip(first, second, strict=True)
    )
    return predictions, confidences


def _two_orders(
    name: str, runs: Sequence[FinishedRun]
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return predictions and confidences of both runs of a row, image by image.

    Raises:
        UserError: there are not two runs of the same images.
    """
    if len(runs) != 2:
        raise UserError(f"{name}: {len(runs)} runs; make those of the claim's file again")
    first, second = runs
    place = {digest: index for index, digest in enumerate(first.records.image_digest)}
    if set(place) != set(second.records.image_digest):
        raise UserError(f"{name}: the two orders have other images")
    order = np.array([place[digest] for digest in second.records.image_digest])
    return (
        (first.records.prediction[order], first.records.confidence[order]),
        (second.records.prediction, second.records.confidence),
    )
