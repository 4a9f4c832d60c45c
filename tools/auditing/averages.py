"""The claim that the averages of a published table are those of its cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from tools.auditing.comparing import Runs
from tools.auditing.lines import Line, Outcome
from tools.result_text import signed, table
from ttt_bench.api.reference import Publication
from ttt_bench.api.reference import Row as PrintedRow
from ttt_bench.registry import registry


@dataclass(frozen=True)
class Averages:
    """The claim that the averages of a published table are those of its cells.

    Attributes:
        reference: the name of the reference.
        dataset: the dataset of the table.
        method: the method of the paper.
        baseline: the row that the paper compares it with.
    """

    reference: str
    dataset: str
    method: str
    baseline: str

    def outcome(self, runs: Runs) -> Outcome:
        """Return printed and recomputed averages; the claim has no runs."""
        printed = self._rows()
        return Outcome([self._line(printed)], ["## Result", table(_cells(printed))])

    def _line(self, printed: Sequence[PrintedRow]) -> Line:
        rows = {row.method: row for row in printed}
        gains = [
            max(getattr(rows[self.method], kind).values())
            - max(getattr(rows[self.baseline], kind).values())
            for kind in ("printed", "recomputed")
        ]
        wrong = [row.printed_method for row in rows.values() if row.disagreements()]
        return Line(
            question="The printed averages are those of the printed cells",
            tested=f"the {len(rows)} rows of the paper's table",
            result=f"gain of {self.method}: {signed(gains[0])} as printed, "
            f"{signed(gains[1])} from the cells",
            p="",
            cost="",
            verdict=f"does not hold here ({len(wrong)} of {len(rows)} rows)"
            if wrong
            else "holds here",
        )

    def _rows(self) -> Sequence[PrintedRow]:
        publication: Publication = registry().references[self.reference].spec.load()()
        (found,) = (one for one in publication.tables if one.dataset == self.dataset)
        return found.rows


def _cells(rows: Sequence[PrintedRow]) -> list[list[str]]:
    cells = [["row", "backbone", "printed average", "mean of the cells", "printed less mean"]]
    for row in rows:
        for name, printed in row.printed.items():
            mean = row.recomputed[name]
            cells.append(
                [
                    row.printed_method,
                    row.printed_backbone,
                    f"{printed:.1f}",
                    f"{mean:.2f}",
                    signed(printed - mean),
                ]
            )
    return cells
