"""Finished runs as one small file."""

from collections.abc import Sequence
from pathlib import Path

from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import read_runs
from ttt_bench.runs.archive import SUFFIX
from ttt_bench.runs.export import write_export


def export_runs(paths: Sequence[Path], file: Path, logits: bool = False) -> int:
    """Write the finished runs at or below the paths into one file, as `ttt-bench export` does.

    Args:
        paths: folders, and files that were exported before.
        file: the file to write or replace, whose name ends with `.zip`.
        logits: whether the records keep their logits, which some metrics need.

    Returns:
        How many runs the file holds.

    Raises:
        UserError: another ending, no finished run, one that is damaged or has no logits where they
            are asked for, or a file that cannot be written.
    """
    if file.suffix != SUFFIX:
        raise UserError(f"{file}: the name of an exported file ends with {SUFFIX}; change -o")
    runs = read_runs(paths)
    write_export(file, [(run.files, run.summary) for run in runs], logits)
    return len(runs)
