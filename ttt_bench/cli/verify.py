"""`ttt-bench verify`: samples of a run, run again and compared with its records."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.errors import UserError
from ttt_bench.api.text import plain
from ttt_bench.cli.options import config_options, format_option

if TYPE_CHECKING:
    from ttt_bench.runner.verify import Verification


@click.command("verify", short_help="Run samples of a run again and compare.")
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--samples", type=click.IntRange(min=1), default=16, show_default=True,
              help="Number of samples to draw.")  # fmt: skip
@click.option("--dataset", "-d",
              help="Dataset that holds the same images here.  [default: the run's]")  # fmt: skip
@config_options("weights", "data_root", "device")
@format_option()
def command(run: Path, samples: int, format_: str, **options: Any) -> None:
    """Run a few samples of RUN again, drawn at random, and compare them with its records.

    RUN is a run's folder, a folder that holds runs, a file that `ttt-bench export` made, or one run
    of such a file (FILE.zip!KEY). Method, configuration, backbone, weights and seed are those of
    the protocol card. Differences of this machine (code, versions, data) are told first.

    On the same kind of device with the same versions, results are equal bit for bit. Elsewhere they
    are close: the same prediction, logits within a thousandth of the largest one, confidence within
    0.001, and nine of ten step predictions the same. The exit code is 1 if a sample is different.
    """
    from ttt_bench.compare.read import find_runs
    from ttt_bench.runner.verify import Subject, as_json, verify

    runs, without_manifest = find_runs([run])
    subject = Subject(**options)
    verified: list[Verification] = []
    failures = [f"{path}: its manifest.json is missing; restore it" for path in without_manifest]
    for files in runs:
        try:
            verified.append(verify(files, samples, subject))
        except UserError as error:
            failures.append(str(error))
            continue
        if format_ == "text":
            _print(verified[-1])
    if format_ == "json" and verified:
        click.echo(json.dumps(as_json(verified), indent=2))
    if failures:
        for message in failures[:-1]:
            click.echo(plain(f"ttt-bench: {message}"), err=True)
        raise UserError(failures[-1])
    if any(one.counts()["different"] for one in verified):
        sys.exit(1)


def _print(verification: "Verification") -> None:
    counts = verification.counts()
    verdicts = ", ".join(f"{counts[name]} {name}" for name in ("equal", "close", "different"))
    click.echo(plain(f"{verification.path}: {counts['checked']} samples run again: {verdicts}"))
    for sample in verification.samples:
        if sample.verdict == "different":
            group = f" ({sample.group})" if sample.group else ""
            before, now = sample.recorded["prediction"], sample.here["prediction"]
            click.echo(
                plain(
                    f"  {sample.sample_id}{group}: predicted {before} in the records and {now} "
                    f"here; {'; '.join(sample.reasons)}"
                )
            )
    click.echo(f"  checked: {' '.join(sample.sample_id for sample in verification.samples)}")
