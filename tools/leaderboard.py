"""Make the leaderboard of the audit from exported runs, and mark the files that were verified.

    python tools/leaderboard.py                  # write docs/audit/leaderboard.md
    python tools/leaderboard.py verify           # run samples of every file's runs again
    python tools/leaderboard.py verify FILE      # of one file; the outcome stands in verified.json
    python tools/leaderboard.py --check          # write nothing; exit 1 if the page would change

The files are those of audit/results, which `ttt-bench export` made. A file counts as verified while
its bytes are those of which samples were run again without a difference.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from tools.result_text import table, wrapped
from tools.written import write_changed
from ttt_bench.api.errors import UserError
from ttt_bench.compare.pairs import tabulate
from ttt_bench.compare.read import FinishedRun, find_runs, read_runs
from ttt_bench.compare.rows import Row
from ttt_bench.report.grid import three_digits
from ttt_bench.runner.verify import Subject, as_json, verify

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "audit" / "results"
OUTCOMES = "verified.json"
PAGE = ROOT / "docs" / "audit" / "leaderboard.md"
SAMPLES = 4
COUNTS = ("checked", "equal", "close", "different")
MADE = "<!-- Made by `python tools/leaderboard.py`; nobody writes here by hand. -->"
ABOUT = (
    "Every row of the files in `audit/results`, by dataset. Rows of one table saw the same images. "
    "Rows that differ in the seed alone are one: mean and standard deviation. A file is verified "
    "if samples of each of its runs were run again here without a difference; the number is of "
    "samples. [The rules](protocol.md) say how to submit a file.",
    "A row with the highest number is not better than the next by itself: "
    "`ttt-bench compare audit/results/tiny-clip.zip` has the intervals and paired tests of a file.",
)


def files(folder: Path) -> list[Path]:
    """Return the exported files of a folder, by name."""
    return sorted(folder.glob("*.zip"))


def outcomes(folder: Path) -> dict[str, Any]:
    """Return what verifying the files has shown, by the files' names."""
    path = folder / OUTCOMES
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify_file(path: Path, samples: int) -> dict[str, Any]:
    """Run samples of every run of a file again.

    Args:
        path: the exported file.
        samples: how many of each run.

    Returns:
        `sha256` of the file, `runs`, and how many samples were `checked`, `equal`, `close` and
        `different`.

    Raises:
        UserError: a run cannot be run here.
    """
    runs, _ = find_runs([path])
    found = as_json([verify(one, samples, Subject()) for one in runs])
    return {"sha256": sha256(path), "runs": len(runs), **{name: found[name] for name in COUNTS}}


def page(folder: Path) -> str:
    """Return the leaderboard of the exported files of a folder.

    Args:
        folder: the folder, with `verified.json` where files were verified.

    Raises:
        UserError: there is no file, or one is damaged.
    """
    found: dict[str, tuple[FinishedRun, str]] = {}
    for path in files(folder):
        for run in read_runs([path], warn=lambda _: None):
            found.setdefault(run.card.key, (run, path.name))
    if not found:
        raise UserError(f"{folder}: no exported file there; make one with `ttt-bench export`")
    file_of = {key: name for key, (_, name) in found.items()}
    checked = {
        name: _mark(outcome)
        for name, outcome in outcomes(folder).items()
        if (folder / name).is_file() and outcome["sha256"] == sha256(folder / name)
    }
    blocks = ["# Leaderboard", MADE, *map(wrapped, ABOUT)]
    for one in tabulate([run for run, _ in found.values()])[0]:
        rows = sorted(one.rows, key=lambda row: -row.summary["top1"])
        heading = ["method", "backbone", "n", "seeds", "top-1 %", "GFLOPs", "file", "verified"]
        cells = [_cells(row, file_of[row.first.card.key], checked) for row in rows]
        blocks += [f"## {one.title}, {rows[0].summary['n']} samples", table([heading, *cells])]
    return "\n\n".join(blocks) + "\n"


def _mark(outcome: Mapping[str, Any]) -> str:
    """Return what the column of a verified file says."""
    if outcome["different"]:
        return f"no, {outcome['different']} of {outcome['checked']} different"
    return f"yes, {outcome['checked']}"


def _cells(row: Row, file: str, checked: Mapping[str, str]) -> list[str]:
    summary = row.summary
    spread = f" ± {summary['sd']['top1']:.1f}" if summary["sd"] else ""
    return [
        row.label,
        str(summary["backbone"]),
        str(summary["n"]),
        str(len(row.runs)),
        f"{summary['top1']:.1f}{spread}",
        three_digits(summary["cost"]["gflops_per_sample"]),
        file,
        checked.get(file, "no"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 if the page would change")
    commands = parser.add_subparsers(dest="command")
    again = commands.add_parser("verify", help="run samples of files again")
    again.add_argument("file", nargs="*", type=Path, help="the files; all of them by default")
    again.add_argument("--samples", type=int, default=SAMPLES, help="samples of each run")
    options = parser.parse_args(arguments)
    try:
        if options.command == "verify":
            return _verify(options.file or files(RESULTS), options.samples)
        text = page(RESULTS)
    except UserError as error:
        print(f"leaderboard: {error}", file=sys.stderr)
        return 2
    return write_changed({PAGE: text}, ROOT, options.check)


def _verify(paths: Sequence[Path], samples: int) -> int:
    """Verify files and keep the outcome; return 1 if a sample is different."""
    different = 0
    for path in paths:
        outcome = verify_file(path, samples)
        different += outcome["different"]
        kept = {
            name: one
            for name, one in (outcomes(path.parent) | {path.name: outcome}).items()
            if (path.parent / name).is_file()
        }
        text = json.dumps(kept, indent=2, sort_keys=True) + "\n"
        (path.parent / OUTCOMES).write_text(text, "utf-8")
        print(f"{path.name}: {', '.join(f'{outcome[name]} {name}' for name in COUNTS)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
