"""`ttt-bench run`: methods on datasets, one run folder for each pair."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from ttt_bench.errors import UserError, unknown

if TYPE_CHECKING:
    from ttt_bench import Backbone
    from ttt_bench.engine.run import Loaded


def _read_config(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Let a YAML file give the defaults of the other options."""
    if value is None:
        return
    try:
        settings = yaml.safe_load(value.read_text("utf-8")) or {}
    # YAML's own types fail in many ways: a 13th month, an empty integer, brackets without end.
    except Exception as error:
        raise UserError(
            f"{value}: not readable as YAML ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(settings, Mapping):
        raise UserError(f"{value}: wants lines `option: value`, such as `seed: 1`")
    options = {p.opts[0].lstrip("-"): p for p in ctx.command.params if p.name != "config"}
    defaults: dict[str, Any] = {}
    for key, setting in settings.items():
        if key not in options:
            raise unknown(f"option in {value}", str(key), options)
        name = str(options[key].name)
        several = options[key].multiple  # pyright: ignore
        if key == "set":
            setting = [f"{k}={_json(v, value)}" for k, v in _flatten(setting, value).items()]
        values = setting if several and isinstance(setting, list) else [setting]
        if not all(isinstance(one, str | int | float) for one in values):
            raise UserError(f"{value}: {key} wants plain values, not {setting!r}")
        # As typed, so that the option itself refuses what it cannot take.
        defaults[name] = [str(one) for one in values] if several else str(setting)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _flatten(settings: Any, file: Path) -> dict[str, Any]:
    """`{apm: {steps: 10}}` and `{steps: 10}` as dotted keys."""
    if not isinstance(settings, Mapping):
        raise UserError(f"{file}: `set` wants KEY: VALUE lines below it")
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = value if isinstance(value, Mapping) else None
        flat |= {f"{key}.{k}": v for k, v in inner.items()} if inner else {str(key): value}
    return flat


def _json(value: Any, file: Path) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: `set` wants plain values ({error})") from error


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """The values of KEY=VALUE options, each read as YAML.

    Raises:
        UserError: one has no key, or its value cannot be read.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair}: write KEY=VALUE, such as --set steps=10")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        # As above.
        except Exception as error:
            raise UserError(f"--set {pair}: the value is not readable as YAML") from error
    return settings


@click.command("run", short_help="Run methods on datasets and print the table.")
@click.option("--method", "-m", multiple=True, required=True, help="A method; may be repeated.")
@click.option("--dataset", "-d", multiple=True, required=True, help="A dataset; may be repeated.")
@click.option("--backbone", "-b", help="Instead of the default of dataset and method.")
@click.option("--weights", type=click.Path(dir_okay=False, path_type=Path),
              help="File of weights for --backbone: safetensors or torch.")  # fmt: skip
@click.option("--data-root", type=click.Path(path_type=Path), envvar="TTT_BENCH_DATA",
              help="Where datasets are looked for.  [env: TTT_BENCH_DATA]")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="So many samples, spread evenly.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Of every random draw.")  # fmt: skip
@click.option("--set", "set_", metavar="KEY=VALUE", multiple=True,
              help="A field of the configuration; METHOD.KEY=VALUE for one method.")  # fmt: skip
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), is_eager=True,
              expose_value=False, callback=_read_config,
              help="YAML file that holds these options by name.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto",
              show_default=True, help="Where to compute.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True,
              help="Samples a method gets at once; changes speed, never a prediction.")  # fmt: skip
@click.option("--decoders", type=click.IntRange(min=0), default=0, show_default=True,
              help="Processes that decode images; changes speed, never a prediction.")  # fmt: skip
@click.option("--no-feature-cache", is_flag=True,
              help="Do not keep the backbone's features on disk.")  # fmt: skip
@click.option("--executor", default="local", show_default=True, help="Who works off the chunks.")
@click.option("--workers", type=click.IntRange(min=1),
              help="How many do: one for each GPU, or core. Changes speed, never a prediction.  "
              "[default: local 1, ray all]")  # fmt: skip
@click.option("--ray-address", default="", metavar="HOST:PORT",
              help="Of a Ray cluster.  [default: this machine]")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Estimate chunks, time and cost from a few samples; write nothing.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the runs, as OUTPUT/DATASET/METHOD.  [default: a folder of its own "
              "for every protocol card, under ttt-bench-runs]")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="Of what is printed at the end.")  # fmt: skip
def command(
    method: tuple[str, ...],
    dataset: tuple[str, ...],
    backbone: str | None,
    weights: Path | None,
    data_root: Path | None,
    limit: int | None,
    seed: int,
    set_: tuple[str, ...],
    device: str,
    batch_size: int,
    decoders: int,
    no_feature_cache: bool,
    executor: str,
    workers: int | None,
    ray_address: str,
    dry_run: bool,
    output: Path | None,
    format_: str,
) -> None:
    """Run every METHOD on every DATASET under one protocol, then print accuracy and cost.

    Finished chunks of samples are saved as they come. Stopped at any moment, the same command
    continues where it was.

    \b
    ttt-bench run --method clip-zero-shot --method apm --dataset cifar10-c-mini
    ttt-bench run --method apm --dataset imagefolder:photos --set steps=10
    """
    from ttt_bench.plugins import registry

    plugins = registry()
    methods, datasets = tuple(dict.fromkeys(method)), tuple(dict.fromkeys(dataset))
    specs = {name: plugins.adapters.find(name).spec for name in methods}
    for name in datasets:
        plugins.datasets.find(name)
    if backbone is not None:
        plugins.backbones.find(backbone)
    plugins.executors.find(executor)
    settings = read_settings(set_)

    # From here on things may take a while: torch is imported.
    from ttt_bench.engine.config import resolve_config, split_overrides
    from ttt_bench.engine.run import Request, check, finish, prepare
    from ttt_bench.report.progress import Progress

    shares = split_overrides(settings, specs)
    requests = [
        Request(
            method=name,
            dataset=data,
            backbone=backbone,
            overrides=shares[name],
            limit=limit,
            seed=seed,
            device=device,
            batch_size=batch_size,
            data_root=data_root,
            output=output,
            executor=executor,
            weights=weights,
            feature_cache=not (no_feature_cache or dry_run),
            decoders=decoders,
            workers=workers,
            ray_address=ray_address,
        )
        for data in datasets
        for name in methods
    ]
    # Everything is refused before anything runs: no table half made. Names and values first, since
    # loading takes time.
    for request in requests:
        spec, chosen = check(request)
        resolve_config(spec, chosen, request.overrides)
    backbones: dict[Loaded, Backbone] = {}
    prepared = [prepare(request, backbones) for request in requests]
    if dry_run:
        from ttt_bench.engine.dry_run import estimate

        plans = [estimate(one, workers or 1) for one in prepared]
        if format_ == "json":
            click.echo(json.dumps({"plans": plans}, indent=2))
        else:
            from ttt_bench.report.plans import NOTE, plan_table
            from ttt_bench.report.render import show

            show([plan_table(plans)], "text", [NOTE])
        return
    with Progress() as progress:
        plugins.manager.register(progress, name="progress")
        try:
            runs = [finish(one) for one in prepared]
        finally:
            plugins.manager.unregister(progress)
    if format_ == "json":
        click.echo(json.dumps({"runs": runs}, indent=2))
    else:
        from ttt_bench.report.render import show
        from ttt_bench.report.tables import notes, result_grids

        show(result_grids(runs), "text", notes(runs))
        for run in runs:
            click.echo(f"records: {run['path']}")
