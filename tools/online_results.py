"""The runs of docs/online.md, and its tables: online methods in several settings and seeds.

The runs of a setting and a seed lie in `online/SETTING/seed-SEED`. The tables are of the runs that
are finished.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tools.result_runs import correct, top1
from tools.result_text import signed, table, time_of, wrapped
from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import FinishedRun, read_runs
from ttt_bench.compare.seeds import compare_over_seeds

METHODS = (
    "source", "norm", "t3a", "lame", "tent", "eta", "eata", "sar", "deyo", "rotta", "roid",
)  # fmt: skip
SEEDS = (0, 1, 2)
# The finished runs of one setting: for each method one run for each seed.
Runs: TypeAlias = Mapping[str, Sequence[FinishedRun]]


@dataclass(frozen=True)
class Setting:
    """A column of the table.

    Attributes:
        name: its heading and the name of its folder.
        options: the options of its command.
        methods: the methods that run.
        shown: whether it is a column of the table; the others are compared alone.
    """

    name: str
    options: str
    methods: tuple[str, ...] = METHODS
    shown: bool = True

    def command(self, seed: int) -> str:
        """Return what a reader types for one seed."""
        named = " ".join(f"--method {method}" for method in self.methods)
        return f"ttt-bench run {named} --dataset cifar10-c-mini {self.options} --seed {seed}"


@dataclass(frozen=True)
class Claim:
    """A finding of the literature, as a comparison of two methods in a setting.

    Attributes:
        text: the finding.
        setting: the name of the setting.
        better: the method that should have the higher accuracy.
        worse: the other method.
    """

    text: str
    setting: str
    better: str
    worse: str


SETTINGS = (
    Setting("grouped", "--stream grouped"),
    Setting("continual", "--stream continual"),
    Setting("mixed", "--stream mixed"),
    Setting("correlated", "--stream mixed --correlation 0.1"),
    Setting("batch-1", "--stream mixed --set batch_size=1 --limit 480"),
    Setting("memo", "--limit 160", ("source", "memo"), shown=False),
)
RUNS, ONE = "labels in runs", "batches of one image"
CLAIMS = (
    Claim("batch statistics help on one corruption", "grouped", "norm", "source"),
    Claim("TENT adds to them", "grouped", "tent", "norm"),
    Claim("TENT adds to them in a long stream", "continual", "tent", "norm"),
    Claim(f"batch statistics break with {RUNS}", "correlated", "source", "norm"),
    Claim(f"TENT breaks with {RUNS}", "correlated", "source", "tent"),
    Claim(f"batch statistics break in {ONE}", "batch-1", "source", "norm"),
    Claim(f"TENT breaks in {ONE}", "batch-1", "source", "tent"),
    Claim("LAME costs accuracy with labels drawn evenly", "mixed", "source", "lame"),
    Claim(f"LAME helps with {RUNS}", "correlated", "lame", "source"),
    *(
        Claim(f"{name} stands {what} better than TENT", setting, method, "tent")
        for setting, what in (("correlated", RUNS), ("batch-1", ONE))
        for name, method in (("SAR", "sar"), ("RoTTA", "rotta"), ("ROID", "roid"))
    ),
    Claim("MEMO helps on single images", "memo", "memo", "source"),
)


class OnlineResults:
    """The results of docs/online.md, of the form that `make_results.py` writes.

    Attributes:
        name: the name of the set and of its folder.
        file: the file that shows the tables, relative to the repository.
        exported: whether the tables are made from an exported file of the runs.
    """

    name = "online"
    file = "docs/online.md"
    exported = False

    @property
    def methods(self) -> list[str]:
        """Return every method that runs."""
        return list(dict.fromkeys(name for setting in SETTINGS for name in setting.methods))

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Return each command and the folder of its runs, all settings of a seed first."""
        return [
            (f"{self.name}/{setting.name}/seed-{seed}", setting.command(seed))
            for seed in SEEDS
            for setting in SETTINGS
        ]

    def part(self, folder: Path) -> str:
        """Return the text between the marks.

        Args:
            folder: the folder in which the runs of each set lie.

        Raises:
            UserError: no setting has finished runs.
        """
        every_setting = {one.name: read_setting(one, folder / self.name) for one in SETTINGS}
        found = {name: runs for name, runs in every_setting.items() if runs}
        if not found:
            raise UserError(
                f"{folder / self.name}: no finished runs there; make them with "
                f"`python tools/make_results.py run {self.name}`"
            )
        every = [run for runs in found.values() for some in runs.values() for run in some]
        blocks = [
            table(accuracies(found)),
            wrapped(
                "Top-1 in percent: the mean over the seeds, and the standard deviation over them. "
                "A seed draws the order of the samples and everything that a method draws."
            ),
            table(answers(found)),
            wrapped(
                "Differences are in points, of the mean over the seeds, with paired 95 % bootstrap "
                "intervals over samples and seeds. A finding is seen where the interval is above 0."
            ),
            wrapped(f"{time_of(every)} All runs: `python tools/make_results.py run {self.name}`."),
        ]
        return "\n" + "\n\n".join(blocks) + "\n\n"


def read_setting(setting: Setting, folder: Path) -> Runs:
    """Return the finished runs of a setting, of the seeds in which every method has finished.

    Args:
        setting: the setting.
        folder: the folder of the settings.

    Returns:
        The runs of each method, nothing where no seed is finished.
    """
    found: dict[str, list[FinishedRun]] = {method: [] for method in setting.methods}
    for seed in SEEDS:
        path = folder / setting.name / f"seed-{seed}"
        if not path.is_dir():
            continue
        try:
            runs = {run.summary["method"]: run for run in read_runs([path], warn=lambda _: None)}
        # Nothing there is finished.
        except UserError:
            continue
        if set(runs) >= set(setting.methods):
            for method in setting.methods:
                found[method].append(runs[method])
    return found if all(found.values()) else {}


def accuracies(found: Mapping[str, Runs]) -> list[list[str]]:
    """Return the rows of the table of accuracies.

    Args:
        found: the runs by setting.
    """
    columns = [one.name for one in SETTINGS if one.shown and one.name in found]
    first = {name: found[name]["source"] for name in columns}
    return [
        ["method", *columns],
        ["images", *(str(runs[0].summary["n"]) for runs in first.values())],
        ["seeds", *(str(len(runs)) for runs in first.values())],
        *([method, *(top1(found[name][method]) for name in columns)] for method in METHODS),
    ]


def answers(found: Mapping[str, Runs]) -> list[list[str]]:
    """Return the rows of the table of findings.

    Args:
        found: the runs by setting.
    """
    rows = [["finding", "setting", "compared", "difference", "95 % interval", "seen"]]
    for claim in (claim for claim in CLAIMS if claim.setting in found):
        runs = found[claim.setting]
        better, worse = correct(runs[claim.better]), correct(runs[claim.worse])
        compared = compare_over_seeds(better, worse, same_seeds=True)
        low, high = compared["ci95"]
        seen = "yes" if low > 0 else "no, the opposite" if high < 0 else "no, within noise"
        rows.append(
            [
                claim.text,
                claim.setting,
                f"{claim.better} less {claim.worse}",
                signed(compared["difference"]),
                f"{signed(low)} to {signed(high)}",
                seen,
            ]
        )
    return rows
