"""`ttt-bench check`: the conformance kit on one method."""

import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.errors import UserError, unknown
from ttt_bench.cli.options import config_options, format_option

if TYPE_CHECKING:
    from ttt_bench.testing import Check

STATUSES = ("passed", "failed", "skipped", "known failure")


@click.command("check", short_help="Check that a method neither cheats nor leaks.")
@click.argument("method")
@click.option("--dataset", "-d", default="cifar10-c-mini", show_default=True,
              help="Dataset to take the samples from.")  # fmt: skip
@config_options("backbone", "weights", "data_root", "settings", "device")
@click.option("--samples", type=click.IntRange(min=3), default=5, show_default=True,
              help="Number of samples, spread evenly over the dataset's groups.")  # fmt: skip
@click.option("--only", metavar="CHECK", multiple=True,
              help="Run only this check. May be repeated.")  # fmt: skip
@format_option()
def command(
    method: str,
    dataset: str,
    set_: tuple[str, ...],
    samples: int,
    only: tuple[str, ...],
    format_: str,
    **options: Any,
) -> None:
    """Run the checks on METHOD and print a line for each: passed, FAILED, skipped, and why.

    A few samples and the embedded model are enough. The exit code is 1 if a check fails, except
    for the known failures that the method declares. docs/checks.md says what each check does and
    how to mend what it finds.

    \b
    ttt-bench check tpt
    ttt-bench check ttt-mae --set steps=3 --set copies=4
    ttt-bench check apm --only check_a_b_a --only check_batch_independence
    """
    from ttt_bench.registry import registry
    from ttt_bench.runner.values import read_settings
    from ttt_bench.testing import adapter_checks

    spec = registry().adapters.find(method).spec
    settings = read_settings(set_)
    checks = adapter_checks(
        method,
        dataset=dataset,
        samples=samples,
        settings={key.removeprefix(f"{spec.name}."): value for key, value in settings.items()},
        **options,
    )
    chosen = _choose(checks, only, spec.kind)
    width = max(len(check.name) for check in chosen)
    rows: list[dict[str, str]] = []
    for check in chosen:
        status, text = _run(check)
        rows.append({"name": check.name, "status": status, "found": text})
        if format_ == "text":
            shown = "FAILED" if status == "failed" else status
            click.echo(f"{check.name:<{width}}  {shown:<7}  {text}")
    counted = Counter(row["status"] for row in rows)
    counts = {status: counted[status] for status in STATUSES}
    backbone = chosen[0].shared.loaded.backbone_name
    if format_ == "json":
        about = {"method": spec.name, "kind": spec.kind, "backbone": backbone, "dataset": dataset}
        about |= {"ok": not counts["failed"], "counts": counts}
        click.echo(json.dumps({**about, "checks": rows}, indent=2))
    else:
        click.echo(f"{spec.name} on {backbone} and {dataset}: {_counts_in_words(counts)}")
    if counts["failed"]:
        sys.exit(1)


def _choose(checks: "Sequence[Check]", only: Sequence[str], kind: str) -> "list[Check]":
    from ttt_bench.testing import CATALOGUE

    asked = [check.name for check in checks]
    for name in only:
        if name not in CATALOGUE:
            raise unknown("check", name, asked)
        if name not in asked:
            raise UserError(f"{name} is not asked of methods of kind {kind}; choose another check")
    return [check for check in checks if not only or check.name in only]


def _run(check: "Check") -> tuple[str, str]:
    """Run a check and return its status and its finding."""
    from ttt_bench.testing import CheckFailed

    try:
        finding = check()
    except CheckFailed as failure:
        if os.environ.get("TTT_BENCH_TRACEBACK") and failure.__cause__:
            traceback.print_exception(failure.__cause__)
        return "failed", str(failure)
    return finding.status, finding.text


def _counts_in_words(counts: dict[str, int]) -> str:
    words = [f"{counts[status]} {status}" for status in STATUSES[:3]]
    if known := counts["known failure"]:
        words.append(f"{known} known failure{'s' if known > 1 else ''}")
    return ", ".join(words)
