"""The claim that predictions do not depend on the order of the samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tools.auditing.comparing import Runs
from tools.auditing.lines import Line, tested
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

    def lines(self, runs: Runs) -> list[Line]:
        """Return the rows of the overview."""
        changed = self.changed(runs)
        leaking = changed.pop(self.leaking)
        some = next(iter(runs.values()))
        most = max(changed.values())
        return [
            Line(
                question=f"{len(changed)} episodic methods predict the same in the reverse order",
                tested=tested(some[:1]),
                result=f"{most} predictions changed",
                p="",
                cost="",
                verdict="holds here" if most == 0 else "does not hold here",
            ),
            Line(
                question="A method that keeps weights from image to image would be seen",
                tested=tested(runs[self.leaking][:1]),
                result=f"{leaking} predictions changed",
                p="",
                cost="",
                verdict="holds here" if leaking > 0 else "does not hold here",
            ),
        ]

    def blocks(self, runs: Runs) -> list[str]:
        """Return the paragraphs and tables of the page."""
        changed = self.changed(runs)
        n = {name: int(some[0].summary["n"]) for name, some in runs.items()}
        rows = [["method", "images", "predictions that changed", "confidences that changed"]]
        for name, some in runs.items():
            first, second = _two_orders(name, some)
            confidences = int((first[1] != second[1]).sum())
            rows.append([name, str(n[name]), str(changed[name]), str(confidences)])
        return [
            "## Result",
            table(rows),
            wrapped(
                "The same images in the dataset's order and in the reverse one, compared image by "
                f"image, bit for bit. `{self.leaking}` is made for this page: it starts each image "
                "from the weights of the one before, and declares that it fails the check of order."
            ),
        ]

    def changed(self, runs: Runs) -> dict[str, int]:
        """Return how many predictions differ between the two orders, for each row."""
        found = {}
        for name, some in runs.items():
            first, second = _two_orders(name, some)
            found[name] = int((first[0] != second[0]).sum())
        return found


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
