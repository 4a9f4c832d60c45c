"""`ttt-bench check`: the conformance kit on one method."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from ttt_bench.api.errors import unknown
from ttt_bench.cli.options import config_options, format_option


@click.command("check", short_help="Check that a method neither cheats nor leaks.")
@click.argument("method")
@click.option("--dataset", "-d", default="cifar10-c-mini", show_default=True,
              help="Dataset to take the samples from.")  # fmt: skip
@config_options("backbone", "weights", "data_root", "settings", "device")
@click.option("--only", metavar="NAME", multiple=True, help="Run only this check. May be repeated.")
@format_option()
def command(
    method: str,
    backbone: str | None,
    dataset: str,
    data_root: Path | None,
    set_: tuple[str, ...],
    device: str,
    weights: Path | None,
    only: tuple[str, ...],
    format_: str,
) -> None:
    """Run every check on METHOD and print a line for each: ok, FAILED or skipped, and why.

    A few samples and the embedded model are enough. The exit code is 1 where a check fails;
    docs/checks.md says what each one does and how to mend what it finds.

    \b
    ttt-bench check tpt
    ttt-bench check ttt-mae --set steps=3 --set copies=4
    ttt-bench check apm --only a-b-a --only batch-independence
    """
    from ttt_bench.cli.settings import read_settings
    from ttt_bench.registry import registry
    from ttt_bench.testing.suite import CATALOGUE, CheckFailed, adapter_checks

    spec = registry().adapters.find(method).spec
    for name in only:
        if name not in CATALOGUE:
            raise unknown("check", name, CATALOGUE)
    settings = read_settings(set_)
    checks = adapter_checks(
        method, backbone=backbone, dataset=dataset, data_root=data_root, device=device,
        weights=weights,
        settings={key.removeprefix(f"{spec.name}."): value for key, value in settings.items()},
    )  # fmt: skip
    chosen = [check for check in checks if not only or check.name in only]
    width = max(len(check.name) for check in chosen)
    rows: list[dict[str, Any]] = []
    for check in chosen:
        try:
            finding = check()
            status, found = "skipped" if finding.skipped else "ok", finding.text
        except CheckFailed as failure:
            status, found = "FAILED", str(failure)
            if os.environ.get("TTT_BENCH_TRACEBACK") and failure.__cause__:
                traceback.print_exception(failure.__cause__)
        rows.append({"name": check.name, "status": status, "found": found})
        if format_ == "text":
            click.echo(f"{check.name:<{width}}  {status:<7}  {found}")
    failed = sum(row["status"] == "FAILED" for row in rows)
    tried_on = chosen[0].subject.loaded.backbone_name
    if format_ == "json":
        about = {"method": spec.name, "backbone": tried_on, "dataset": dataset, "ok": not failed}
        click.echo(json.dumps({**about, "checks": rows}, indent=2))
    else:
        where = f"{spec.name} on {tried_on} and {dataset}"
        click.echo(f"{where}: {failed} of {len(rows)} checks failed")
    if failed:
        sys.exit(1)
