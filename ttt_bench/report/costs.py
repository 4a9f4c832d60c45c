"""The table of costs, step by step."""

from collections.abc import Sequence

from ttt_bench.compare.rows import Row
from ttt_bench.report.grid import Grid, Part, three_digits
from ttt_bench.report.notes import marked_name, shown_backbone


def cost_table(rows: Sequence[Row]) -> Grid:
    """Return parameters, memory and GFLOPs of every row: of the first step, a later one, and all.

    A sample pays for the frozen model once, and for what is adapted at every step. A multiply-add
    counts as two.
    """
    header = ["method", "backbone", "dataset", "steps", "backbone params M", "updated params M",
              "memory MB", "GFLOPs, step 1", "a later step", "all steps", "setup"]  # fmt: skip
    lines = [_line(row) for row in rows]
    parts = (Part("GFLOPs", header.index("GFLOPs, step 1")),)
    return Grid("cost of a sample", header, lines, labels=3, parts=parts, named=True)


def _line(row: Row) -> list[str]:
    cost, summary = row.first.cost, row.summary
    gflops = {
        phase: sum(directions.values()) / 1e9
        for phase, directions in cost["flops_per_sample"].items()
    }
    steps = len(summary["step_top1"])
    one_step = gflops["adapted"] / max(steps, 1)
    first = [f"{three_digits(gflops['frozen'])} frozen"] if gflops["frozen"] else []
    first += [f"{three_digits(one_step)} adapted"] if one_step else []
    return [
        marked_name(summary),
        shown_backbone(summary),
        summary["column"],
        str(steps or "-"),
        three_digits(cost["backbone_parameters"] / 1e6),
        three_digits(cost["parameters_updated"] / 1e6),
        f"{summary['cost']['peak_memory_mb']:.1f}",
        " + ".join(first) or "0",
        f"{three_digits(one_step)} adapted" if steps > 1 else "-",
        three_digits(summary["cost"]["gflops_per_sample"]),
        three_digits(sum(cost["setup_flops"].values()) / 1e9),
    ]
