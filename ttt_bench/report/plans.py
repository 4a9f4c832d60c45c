"""The table of `run --dry-run`."""

from collections.abc import Mapping, Sequence
from typing import Any

from ttt_bench.report.grid import Grid

NOTE = (
    "Estimated from a few samples on this machine, as if every worker were as fast as its device "
    "and loading models and images cost nothing. PFLOP are 10^15 operations in all. Nothing was "
    "written."
)


def plan_table(plans: Sequence[Mapping[str, Any]]) -> Grid:
    """Return a line for each run that would be made, with its streams where a run has some."""
    streams = any(plan["streams"] is not None for plan in plans)
    header = ["run", "dataset", "backbone", *(["streams"] if streams else []), "samples to do",
              "chunks to do", "s/sample", "GFLOPs/sample", "memory MB", "workers", "time",
              "worker hours", "PFLOP", "cache MB"]  # fmt: skip
    return Grid("dry run", header, [_line(plan, streams) for plan in plans], labels=3)


def plan_lines(plans: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each run: its folder, and how much of it is there already."""
    lines = []
    for plan in plans:
        done = plan["samples"] - plan["missing_samples"]
        present = f"{done:,} of {plan['samples']:,} samples are there" if done else "nothing there"
        seed = f", seed {plan['seed']}"
        lines.append(f"{plan['title']} on {plan['dataset']}{seed}: {plan['path']}, {present}")
    return lines


def _line(plan: Mapping[str, Any], streams: bool) -> list[str]:
    measured = [
        "-" if plan[name] is None else f"{plan[name]:.3g}"
        for name in ("seconds_per_sample", "gflops_per_sample", "peak_memory_mb")
    ]
    return [
        plan["title"],
        plan["dataset"],
        plan["backbone"],
        *([str(plan["streams"] or "-")] if streams else []),
        f"{plan['missing_samples']:,} of {plan['samples']:,}",
        f"{plan['missing_chunks']:,} of {plan['chunks']:,}",
        *measured,
        str(plan["workers"]),
        "-" if plan["hours"] is None else duration(plan["hours"]),
        "-" if plan["worker_hours"] is None else f"{plan['worker_hours']:.3g}",
        "-" if plan["petaflops"] is None else f"{plan['petaflops']:.3g}",
        "-" if plan["cache_mb"] is None else f"{plan['cache_mb']:,.0f}",
    ]


def duration(hours: float) -> str:
    """Return a duration in days, hours, minutes or seconds, the largest unit that fits twice."""
    for unit, per_hour in (("days", 1 / 24), ("h", 1.0), ("min", 60.0)):
        if hours * per_hour >= 2:
            return f"{hours * per_hour:.1f} {unit}"
    return f"{hours * 3600:.0f} s"
