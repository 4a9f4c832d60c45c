"""A published table of one row and one column."""

from pathlib import Path

from ttt_bench import PrintedNames, Publication, ReferenceSpec, hookimpl, read_table

# A name that is missing here is printed as ttt-bench spells it.
NAMES = PrintedNames(methods={"Sharpen": "lab-sharpen"}, backbones={"Lab CLIP": "lab-clip"})


def publication() -> Publication:
    """Return the table of the paper."""
    table = read_table(
        Path(__file__).with_name("lab_paper.csv"),
        title="Squares",
        # The average is over all columns but these.
        averages={"average": frozenset()},
        samples={"lab-squares:4": 12},
        names=NAMES,
    )
    return Publication(tables=(table,))


@hookimpl
def ttt_bench_references() -> list[ReferenceSpec]:
    """Return the table of this file."""
    return [
        ReferenceSpec(
            name="lab-paper",
            summary="squares, as the lab's paper prints them",
            code="lab_paper:publication",
            source="the lab, 2026",
        )
    ]
