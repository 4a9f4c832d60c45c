"""`ttt-bench run`: methods on datasets, one run folder for each pair."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.errors import UserError
from ttt_bench.api.text import plain
from ttt_bench.cli.options import config_options, format_option
from ttt_bench.cli.settings import VARIANTS, read_config_file
from ttt_bench.runner.config import RunConfig
from ttt_bench.runner.values import read_settings

if TYPE_CHECKING:
    from ttt_bench.python.results import Results


@click.command("run", short_help="Run methods on datasets and print the table.")
@config_options()
@click.option("--sweep", multiple=True, metavar="METHOD.KEY=V1,V2,...",
              help="Run a method with each of these values of a field of its configuration. May be "
              "repeated, for all combinations.")  # fmt: skip
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=read_config_file,
    help="YAML file that holds these options by name, and a list of runs; see `ttt-bench config`.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Estimate chunks, time and cost from a few samples, and write nothing.",
)
@format_option()
@click.pass_context
def command(
    context: click.Context,
    method: tuple[str, ...],
    dataset: tuple[str, ...],
    backbone: tuple[str, ...],
    seed: tuple[int, ...],
    set_: tuple[str, ...],
    sweep: tuple[str, ...],
    dry_run: bool,
    format_: str,
    **options: Any,
) -> None:
    """Run every METHOD on every DATASET under one protocol, then print accuracy and cost.

    Finished chunks of samples are saved as they come. After an interruption the same command
    continues the run. Several values of --method, --dataset, --backbone, --seed and --sweep are
    all combined.

    \b
    ttt-bench run --method clip-zero-shot --method apm --dataset cifar10-c-mini
    ttt-bench run --method apm --method apm:steps=5,lr=0.01 --dataset cifar10-c-mini
    ttt-bench run --method apm --sweep apm.steps=5,20 --seed 0 --seed 1 --dataset cifar10-c-mini
    """
    from ttt_bench.runner.asking import Request, read_sweeps, read_variants, require_known

    request = Request(
        variants=[*read_variants(method), *context.meta.get(VARIANTS, ())],
        datasets=dataset,
        backbones=backbone,
        seeds=seed,
        settings=read_settings(set_),
        sweeps=read_sweeps(sweep),
    )
    require_known(request, options["executor"], options["track"])
    if dry_run:
        configs = [replace(config, feature_cache=False) for config in request.runs(options)]
        _print_estimates(configs, format_)
        return
    from ttt_bench.python.running import run_request

    results = run_request(request, options)
    if results.runs:
        if format_ == "json":
            click.echo(json.dumps(results.as_json(), indent=2))
        else:
            _show(results)
    if results.failures:
        *others, last = results.failures
        for line in others:
            click.echo(plain(f"ttt-bench: {line}"), err=True)
        raise UserError(last)


def _show(results: "Results") -> None:
    """Print the first screen of `compare`, and where the records are."""
    from ttt_bench.report.findings import findings
    from ttt_bench.report.render import show

    try:
        compared = results.compare().comparison
        show(compared.chosen(), "text", compared.notes, findings(compared.compared))
    except UserError as error:
        # The runs are finished, and what they print stays worth showing.
        click.echo(plain(str(error)), err=True)
    for run in results.printed["runs"]:
        click.echo(f"records: {run['path']}")


def _print_estimates(configs: list[RunConfig], format_: str) -> None:
    from ttt_bench.runner.estimate import estimate
    from ttt_bench.runner.run import open_all

    plans = [estimate(one, one.executor.workers or 1) for one in open_all(configs)]
    if format_ == "json":
        click.echo(json.dumps({"plans": plans}, indent=2))
        return
    from ttt_bench.report.plans import NOTE, plan_lines, plan_table
    from ttt_bench.report.render import show

    show([plan_table(plans)], "text", [*plan_lines(plans), NOTE])
