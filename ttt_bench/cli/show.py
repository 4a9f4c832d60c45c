"""`ttt-bench show`: everything known of one thing."""

import dataclasses
from pathlib import Path
from typing import Any

import click

from ttt_bench.errors import unknown
from ttt_bench.report.text import plain


@click.command("show", short_help="Show everything known of a method, dataset, backbone or run.")
@click.argument("name")
def command(name: str) -> None:
    """Show a method with its configuration, a dataset, a backbone, a metric or a run.

    NAME is a registered name or the folder of a run.
    """
    from ttt_bench.plugins import registry

    if (Path(name) / "manifest.json").exists():
        _show_run(Path(name))
        return
    plugins = registry()
    for shelf in plugins.shelves():
        if name.partition(":")[0] in shelf:
            item = shelf.find(name) if ":" in name else shelf[name]
            click.echo(f"{shelf.what} {item.spec.name}")
            _show_fields({**_fields(item.spec), "plugin": _plugin(item.plugin)})
            if shelf is plugins.adapters:
                _show_config(item.spec)
            return
    known = [known for shelf in plugins.shelves() for known in shelf]
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
        if isinstance(value, dict):
            value = "; ".join(f"{key}: {inner}" for key, inner in value.items())
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
    from ttt_bench.records import RunFolder
    from ttt_bench.stored import MANIFEST, check_stored

    folder = RunFolder(path)
    card, manifest = folder.card(), folder.manifest()
    check_stored(manifest, MANIFEST, str(path / "manifest.json"))
    done = sum(1 for _ in folder.chunk_path(0).parent.glob("*.parquet"))
    click.echo(f"run {path}: {done} of {manifest['chunks']} chunks, fingerprint {card.fingerprint}")
    for part in ("column", "row"):
        click.echo(f"{part} of the protocol card")
        _show_fields(dict(getattr(card, part)))
    click.echo("environment")
    _show_fields(manifest["environment"])
