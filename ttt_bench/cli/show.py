"""`ttt-bench show`: everything known of one thing."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ttt_bench.api.errors import unknown
from ttt_bench.report.text import plain


@click.command("show", short_help="Show everything known of a method, dataset, backbone or run.")
@click.argument("name")
def command(name: str) -> None:
    """Show a method with its configuration, a dataset, a backbone, a metric or a run.

    NAME is a registered name or the folder of a run.
    """
    from ttt_bench.registry import registry

    if (Path(name) / "manifest.json").exists():
        _show_run(Path(name))
        return
    plugins = registry()
    for catalog in plugins.catalogs.values():
        if name.partition(":")[0] in catalog:
            item = catalog.find(name) if ":" in name else catalog[name]
            click.echo(f"{catalog.what} {item.spec.name}")
            _show_fields({**_fields(item.spec), "plugin": _plugin(item.plugin)})
            if catalog is plugins.adapters:
                _show_config(item.spec)
            return
    known = [known for catalog in plugins.catalogs.values() for known in catalog]
    raise unknown("name", name, known, hint="or give the folder of a run")


def _fields(spec: Any) -> dict[str, Any]:
    return {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.name != "name"}


def _plugin(plugin: Any) -> str:
    return f"{plugin.name} ({plugin.distribution} {plugin.version})"


def _show_fields(fields: dict[str, Any]) -> None:
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        if isinstance(value, frozenset):
            value = ", ".join(sorted(value))
        if isinstance(value, Mapping):
            value = "; ".join(f"{key}: {inner}" for key, inner in value.items())
        if isinstance(value, tuple):
            value = "; ".join(map(str, value))
        if value not in ("", None):
            click.echo(f"  {plain(name.replace('_', ' ')):<{width}}  {plain(str(value))}")


def _show_config(spec: Any) -> None:
    fields = spec.load().Config.model_fields
    if not fields:
        click.echo("no configuration")
        return
    click.echo("configuration (--set KEY=VALUE)")
    width = max(len(name) for name in fields)
    for name, field in fields.items():
        described = f"  {field.description}" if field.description else ""
        click.echo(f"  {name:<{width}}  {field.default!s:<20}{described}")


def _show_run(path: Path) -> None:
    from ttt_bench.runs.folder import RunFolder
    from ttt_bench.runs.schema import MANIFEST, require_shape

    folder = RunFolder(path)
    card, manifest = folder.card(), folder.manifest()
    require_shape(manifest, MANIFEST, str(path / "manifest.json"))
    done = sum(1 for _ in folder.chunk_path(0).parent.glob("*.parquet"))
    click.echo(f"run {path}: {done} of {manifest['chunks']} chunks, fingerprint {card.fingerprint}")
    for part, fields in card.as_json().items():
        click.echo(f"{part} part of the protocol card")
        _show_fields(fields)
    click.echo("environment")
    _show_fields(manifest["environment"])
