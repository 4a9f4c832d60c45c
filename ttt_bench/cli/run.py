"""`ttt-bench run`: methods on datasets, one run folder for each pair."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ttt_bench.api.errors import UserError
from ttt_bench.api.text import plain
from ttt_bench.cli.options import config_options, format_option
from ttt_bench.cli.settings import read_config_file, read_settings
from ttt_bench.runner.config import RunConfig


@click.command("run", short_help="Run methods on datasets and print the table.")
@config_options()
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=read_config_file,
    help="YAML file that holds these options by name.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Estimate chunks, time and cost from a few samples, and write nothing.",
)
@format_option()
def command(
    method: tuple[str, ...],
    dataset: tuple[str, ...],
    set_: tuple[str, ...],
    dry_run: bool,
    format_: str,
    **options: Any,
) -> None:
    """Run every METHOD on every DATASET under one protocol, then print accuracy and cost.

    Finished chunks of samples are saved as they come. After an interruption the same command
    continues the run.

    \b
    ttt-bench run --method clip-zero-shot --method apm --dataset cifar10-c-mini
    ttt-bench run --method apm --dataset imagefolder:photos --set steps=10
    """
    from ttt_bench.registry import registry

    plugins = registry()
    methods, datasets = tuple(dict.fromkeys(method)), tuple(dict.fromkeys(dataset))
    specs = {name: plugins.adapters.find(name).spec for name in methods}
    for name in datasets:
        plugins.datasets.find(name)
    if options["backbone"] is not None:
        plugins.backbones.find(options["backbone"])
    plugins.executors.find(options["executor"])
    settings = read_settings(set_)

    # From here on things may take a while: torch is imported.
    from ttt_bench.runner.run import as_json, failure_lines, run_all
    from ttt_bench.runner.settings import split_settings

    shares = split_settings(settings, specs)
    configs = [
        RunConfig(method=name, dataset=data, settings=shares[name], **options)
        for data in datasets
        for name in methods
    ]
    if dry_run:
        _print_estimates([replace(config, feature_cache=False) for config in configs], format_)
        return
    from ttt_bench.cli.progress import RunProgress

    with RunProgress() as progress:
        plugins.manager.register(progress, name="progress")
        try:
            runs, failures = run_all(configs)
        finally:
            plugins.manager.unregister(progress)
    if not runs:
        pass
    elif format_ == "json":
        click.echo(json.dumps(as_json(runs, failures), indent=2))
    else:
        from ttt_bench.report.notes import notes
        from ttt_bench.report.render import show
        from ttt_bench.report.tables import result_grids

        rows, sentences = _compared(runs)
        show(result_grids(rows), "text", notes(rows), sentences)
        for run in runs:
            click.echo(f"records: {run['path']}")
    if failures:
        *others, last = failure_lines(failures)
        for line in others:
            click.echo(plain(f"ttt-bench: {line}"), err=True)
        raise UserError(last)


def _compared(runs: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the runs with their intervals, and which differences are more than noise."""
    from ttt_bench.compare.pairs import compare
    from ttt_bench.compare.read import read_runs
    from ttt_bench.report.findings import findings

    try:
        # The runs have warned of metrics that fail already.
        compared = compare(read_runs([Path(run["path"]) for run in runs], lambda _: None))
    except UserError as error:
        # The runs are finished, and their table stays worth showing.
        return runs, [str(error)]
    return compared["rows"], findings(compared)


def _print_estimates(configs: list[RunConfig], format_: str) -> None:
    from ttt_bench.runner.estimate import estimate
    from ttt_bench.runner.run import open_all

    plans = [estimate(one, one.executor.workers or 1) for one in open_all(configs)]
    if format_ == "json":
        click.echo(json.dumps({"plans": plans}, indent=2))
        return
    from ttt_bench.report.plans import NOTE, plan_table
    from ttt_bench.report.render import show

    show([plan_table(plans)], "text", [NOTE])
