"""The cost table in the form the APM paper prints it, and the printed one beside it."""

from collections.abc import Mapping, Sequence

from ttt_bench.compare.read import FinishedRun
from ttt_bench.report.tables import Grid


def cost_table(runs: Sequence[FinishedRun]) -> Grid:
    """Parameters, memory and GFLOPs of every run: at the first step, at a later one, over all.

    (u) is the frozen teacher's share, which a sample pays once, (s) the student's. A multiply-add
    counts as two.
    """
    header = ["method", "backbone", "dataset", "steps", "backbone params M", "updated params M",
              "memory MB", "GFLOPs, step 1", "a later step", "all steps", "setup"]  # fmt: skip
    return Grid("cost of a sample", header, [_line(run) for run in runs])


def _line(run: FinishedRun) -> list[str]:
    counted, summary = run.counted, run.summary
    shares = {phase: sum(own.values()) / 1e9 for phase, own in counted["flops_per_sample"].items()}
    steps = len(summary["step_top1"])
    student = shares["adapted"] / max(steps, 1)
    first = [f"{shares['frozen']:.3g}(u)"] if shares["frozen"] else []
    first += [f"{student:.3g}(s)"] if student else []
    return [
        summary["method"],
        summary["backbone"],
        summary["dataset"],
        str(steps or "-"),
        f"{counted['backbone_parameters'] / 1e6:.3g}",
        f"{counted['parameters_updated'] / 1e6:.3g}",
        f"{summary['cost']['peak_memory_mb']:.1f}",
        "+".join(first) or "0",
        f"{student:.3g}(s)" if steps > 1 else "-",
        f"{summary['cost']['gflops_per_sample']:.3g}",
        f"{sum(counted['setup_flops'].values()) / 1e9:.3g}",
    ]


def published_costs(rows: Sequence[Mapping[str, str]]) -> Grid:
    """A published cost table, its cells as printed; a multiply-add counts as one there."""
    return Grid(
        "published: cost (a multiply-add counts as one)",
        [name.replace("_", " ") for name in rows[0]],
        [list(row.values()) for row in rows],
    )
