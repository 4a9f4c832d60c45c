"""`ttt-bench check`: the conformance kit on one method."""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from ttt_bench.errors import unknown


@click.command("check", short_help="Check that a method neither cheats nor leaks.")
@click.argument("method")
@click.option("--backbone", "-b", help="Instead of the default of dataset and method.")
@click.option("--dataset", "-d", default="cifar10-c-mini", show_default=True,
              help="Where the few samples come from.")  # fmt: skip
@click.option("--data-root", type=click.Path(path_type=Path), envvar="TTT_BENCH_DATA",
              help="Where datasets are looked for.  [env: TTT_BENCH_DATA]")  # fmt: skip
@click.option("--set", "set_", metavar="KEY=VALUE", multiple=True,
              help="A field of the configuration.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto",
              show_default=True, help="Where to compute.")  # fmt: skip
@click.option("--only", metavar="NAME", multiple=True, help="This check; may be repeated.")
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="Of what is printed.")  # fmt: skip
def command(
    method: str,
    backbone: str | None,
    dataset: str,
    data_root: Path | None,
    set_: tuple[str, ...],
    device: str,
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
    from ttt_bench.cli.run import read_settings
    from ttt_bench.plugins import registry
    from ttt_bench.testing import CATALOGUE, CheckFailed, adapter_checks

    spec = registry().adapters.find(method).spec
    for name in only:
        if name not in CATALOGUE:
            raise unknown("check", name, CATALOGUE)
    settings = read_settings(set_)
    checks = adapter_checks(
        method, backbone=backbone, dataset=dataset, data_root=data_root, device=device,
        overrides={key.removeprefix(f"{spec.name}."): value for key, value in settings.items()},
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
