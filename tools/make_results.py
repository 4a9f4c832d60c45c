"""Make the tables and numbers of README.md, docs/results.md and docs/online.md from runs.

    python tools/make_results.py run first     # type the commands of a result set, or continue it
    python tools/make_results.py write         # write the marked parts of the files, from the runs
    python tools/make_results.py write --check # write nothing; exit 1 if a file would change

The runs of a set lie in build/results/NAME. Those of docs/results.md are exported when they are
finished, and the page is written from the exported files, audit/results/NAME.zip. A set's part of a
file stands between the comments `<!-- results: NAME -->` and `<!-- end -->`; nobody writes there by
hand.
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

sys.path.append(str(Path(__file__).parents[1]))

from tools.control_results import CLIP_CONTROLS, control_blocks
from tools.online_results import SEEDS, OnlineResults
from tools.result_text import time_of, wrapped
from tools.written import write_changed
from ttt_bench.api.errors import UserError
from ttt_bench.compare.export import export_runs
from ttt_bench.compare.pairs import tabulate
from ttt_bench.compare.read import FinishedRun, read_runs
from ttt_bench.report.comparison import comparison
from ttt_bench.report.findings import findings
from ttt_bench.report.render import markdown, markdown_text

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "build" / "results"
MARK = re.compile(r"(<!-- results: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class ResultSet:
    """Runs of one command, and the place of their tables.

    Attributes:
        name: the name of the set and of its folder.
        command: what a reader types; the script adds `--output`.
        file: the file that shows the tables, relative to the repository.
        tables: the names of the tables, as in `compare --tables`.
        controls: the control of each method; every pair of methods is described where it is empty.
        exported: whether the tables are made from an exported file of the runs.
    """

    name: str
    command: str
    file: str
    tables: tuple[str, ...] = ("results",)
    controls: Mapping[str, str] = field(default_factory=dict)
    exported: bool = False

    @property
    def methods(self) -> list[str]:
        """Return the methods that the command names."""
        words = shlex.split(self.command)
        return [after for word, after in pairwise(words) if word == "--method"]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Return the command and the folder of its runs."""
        return [(self.name, self.command)]

    def part(self, folder: Path) -> str:
        """Return the text between the marks.

        Args:
            folder: the folder in which the runs of each set lie.

        Raises:
            UserError: there are no runs, or they are not those of the command.
        """
        return part_of(self, read(self, folder))


ON_TINY_RESNET = (
    "source", "norm", "norm-ema", "norm-alpha", "t3a", "lame", "tent", "eta", "eata", "sar",
    "cotta", "rotta", "deyo", "roid", "rmt", "cmf", "rdumb", "santa", "rpl", "adacontrast", "ttaug",
)  # fmt: skip
ON_TINY_CLIP = (
    "clip-zero-shot", "clip-ensemble", "temperature", "view-mean", "view-vote", "confident-mean",
    "zero", "mta", "vte", "tps", "tpt", "c-tpt", "r-tpt", "dynaprompt", "rlcf", "ttl", "coop",
    "cocoop", "tpt-coop", "tpt-cocoop", "apm", "stata", "clipartt", "tent-clip", "tda",
    "boostadapter", "dpe", "dmn", "onzeta", "ecalp", "watt",
)  # fmt: skip
ON_TINY_MAE = ("vit-probe", "fine-tune", "joint-train", "ttt-mae")


def command(methods: Sequence[str], limit: int, seeds: Sequence[int] = ()) -> str:
    """Return the command that runs some methods on the embedded dataset."""
    named = " ".join(f"--method {method}" for method in methods)
    seeded = "".join(f" --seed {seed}" for seed in seeds)
    return f"ttt-bench run {named} --dataset cifar10-c-mini --limit {limit}{seeded}"


# Runs of docs/results.md are rows of the audit's claim on cost too.
IN_RESULTS = partial(ResultSet, file="docs/results.md", tables=("results", "groups"), exported=True)
AnyResults: TypeAlias = ResultSet | OnlineResults
SETS: tuple[AnyResults, ...] = (
    ResultSet("first", command(("source", "norm", "clip-zero-shot", "apm"), 800), "README.md"),
    IN_RESULTS("tiny-resnet", command(ON_TINY_RESNET, 1600, SEEDS)),
    IN_RESULTS("tiny-clip", command(ON_TINY_CLIP, 800, SEEDS), controls=CLIP_CONTROLS),
    IN_RESULTS("tiny-mae", command(ON_TINY_MAE, 320, SEEDS)),
    OnlineResults(),
)


def run(result: AnyResults, folder: Path) -> None:
    """Type the commands of a set, and export its runs where its tables are made from a file.

    What is finished is not computed again.
    """
    for name, command in result.commands:
        words = [*shlex.split(command), "--output", str(folder / name)]
        print(f"+ {shlex.join(words)}", flush=True)
        subprocess.run([sys.executable, "-m", "ttt_bench", *words[1:]], check=True)
        if result.exported:
            export_runs([folder / name], exported(result))


def exported(result: AnyResults) -> Path:
    """Return the exported file of a set's runs."""
    return ROOT / "audit" / "results" / f"{result.name}.zip"


def read(result: ResultSet, folder: Path) -> list[FinishedRun]:
    """Read the runs of a set, in the order of the command's methods.

    Raises:
        UserError: there are none, or they are not those of the set's command.
    """
    again = f"python tools/make_results.py run {result.name}"
    place = exported(result) if result.exported else folder / result.name
    if not place.exists():
        raise UserError(f"{place}: no runs there; make them with `{again}`")
    runs = read_runs([place], warn=lambda _: None)
    present = {run.summary["method"] for run in runs}
    if present != set(result.methods):
        different = ", ".join(sorted(present ^ set(result.methods)))
        raise UserError(
            f"{place}: its methods are not those of the command: {different}; "
            f"remove {folder / result.name}, then `{again}`"
        )
    return sorted(runs, key=lambda run: result.methods.index(run.summary["method"]))


def part_of(result: ResultSet, runs: Sequence[FinishedRun]) -> str:
    """Return the text between the marks: tables, findings, notes, and the command."""
    compared = comparison(tabulate(runs)[0])
    grids = compared.chosen(result.tables)
    if result.controls:
        differences = control_blocks(compared.compared, result.controls)
    else:
        first, *others = findings(compared.compared) or [""]
        differences = [wrapped(first), "\n".join(wrapped(sentence, "- ") for sentence in others)]
    blocks = [
        *map(markdown, grids),
        *differences,
        *(wrapped(markdown_text(note)) for note in compared.notes),
        wrapped(f"{time_of(runs)} The command:"),
        f"```sh\n{result.command}\n```",
    ]
    return "\n" + "\n\n".join(filter(None, blocks)) + "\n\n"


def write(sets: Sequence[AnyResults], root: Path, folder: Path) -> dict[Path, str]:
    """Return the new text of each file that changes.

    Args:
        sets: the sets whose parts are made again.
        root: the folder in which the files lie.
        folder: the folder in which the runs of each set lie.

    Raises:
        UserError: a set has no runs, or its file has no mark for it.
    """
    changed = {}
    for file in dict.fromkeys(result.file for result in sets):
        path = root / file
        before = path.read_text("utf-8")
        parts = {one.name: one.part(folder) for one in sets if one.file == file}
        for name in parts:
            if [mark.group(2) for mark in MARK.finditer(before)].count(name) != 1:
                raise UserError(
                    f"{file}: no single place for the results {name}; write the lines "
                    f"`<!-- results: {name} -->` and `<!-- end -->` once"
                )
        after = MARK.sub(
            lambda mark, parts=parts: (
                f"{mark.group(1)}{parts.get(mark.group(2), mark.group(3))}{mark.group(4)}"
            ),
            before,
        )
        if after != before:
            changed[path] = after
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [result.name for result in SETS]
    commands = parser.add_subparsers(dest="command", required=True)
    type_it = commands.add_parser("run", help="type the command of result sets")
    type_it.add_argument("name", nargs="+", choices=names)
    write_it = commands.add_parser("write", help="write the results into the files")
    write_it.add_argument("name", nargs="*", help="the sets to write; all of them by default")
    write_it.add_argument("--check", action="store_true", help="exit 1 if a file would change")
    options = parser.parse_args(arguments)
    sets = [result for result in SETS if result.name in (options.name or names)]
    if unknown := set(options.name) - set(names):
        parser.error(f"no results are called {', '.join(unknown)}; there are {', '.join(names)}")
    if options.command == "run":
        for result in sets:
            run(result, RUNS)
        return 0
    try:
        texts = write(sets, ROOT, RUNS)
    except UserError as error:
        print(f"make_results: {error}", file=sys.stderr)
        return 2
    return write_changed(texts, ROOT, options.check)


if __name__ == "__main__":
    sys.exit(main())
