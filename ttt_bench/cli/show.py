"""`ttt-bench show`: everything known of one name or run."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ttt_bench.api.errors import unknown
from ttt_bench.api.specs import BackboneFamily
from ttt_bench.api.text import plain

if TYPE_CHECKING:
    from ttt_bench.runs.archive import RunFiles

KINDS = {
    "sample": "sample (episodic: a prediction depends on the sample alone)",
    "batch": "batch (a prediction depends on its batch, which is then forgotten)",
    "stream": "stream (online: a prediction depends on the samples before it)",
}
PARTS = {
    "protocol": "protocol part of the card (equal in every row of a table)",
    "method": "method part of the card (this run's own)",
}


@click.command("show", short_help="Show a method, dataset, backbone, metric, executor or run.")
@click.argument("name")
def command(name: str) -> None:
    """Show everything known of NAME.

    NAME is a method, dataset, backbone, metric, reference, executor, tracker or golden, the folder
    of a run, or a file that `ttt-bench export` made. A method is shown with its configuration, a
    run with its whole protocol card.
    """
    from ttt_bench.registry import registry

    if (Path(name) / "manifest.json").exists() or ".zip" in name:
        _show_runs(Path(name))
        return
    plugins = registry()
    for catalog in plugins.catalogs.values():
        if name.partition(":")[0] in catalog:
            item = catalog.find(name) if ":" in name else catalog[name]
            plugin = f"{item.plugin.name} ({item.plugin.distribution} {item.plugin.version})"
            click.echo(f"{catalog.what} {item.spec.name}")
            _show_fields({**_spec_fields(item.spec), "plugin": plugin})
            if catalog is plugins.adapters:
                _show_config(item.spec)
            return
    known = [known for catalog in plugins.catalogs.values() for known in catalog]
    raise unknown("name", name, known, hint="or give the folder of a run")


def _spec_fields(spec: Any) -> dict[str, str]:
    """Return the fields of a spec that say something, as text."""
    fields: dict[str, str] = {}
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if field.name == "kind":
            value = KINDS[value]
        elif isinstance(value, BackboneFamily):
            named = [f"{backbone} on {name}" for name, backbone in value.by_dataset.items()]
            value = f"{value.name}; by default {', '.join([value.default, *named])}"
        elif isinstance(value, frozenset):
            value = ", ".join(sorted(value))
        elif isinstance(value, Mapping):
            value = "; ".join(f"{key}: {inner}" for key, inner in value.items())
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, tuple):
            value = ", ".join(map(str, value))
        if field.name != "name" and value not in ("", None):
            fields[field.name.replace("_", " ")] = str(value)
    return fields


def _show_fields(fields: Mapping[str, str]) -> None:
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        click.echo(f"  {plain(name):<{width}}  {plain(value)}")


def _show_config(spec: Any) -> None:
    fields = spec.load().Config.model_fields
    if not fields:
        click.echo("no configuration")
        return
    click.echo("configuration (--set KEY=VALUE)")
    width = max(len(name) for name in fields)
    for name, field in fields.items():
        described = f"  {field.description}" if field.description else ""
        click.echo(f"  {name:<{width}}  {field.default!s:<20}{described}".rstrip())


def _show_runs(path: Path) -> None:
    from ttt_bench.runs.archive import exported_runs, is_export
    from ttt_bench.runs.folder import RunFolder

    folder = RunFolder(path)
    for files in [folder] if path.is_dir() or not is_export(path) else exported_runs(path):
        _show_run(files)


def _show_run(files: "RunFiles") -> None:
    from ttt_bench.runs.folder import RunFolder
    from ttt_bench.runs.schema import require_manifest

    card, manifest = files.card(), files.manifest()
    require_manifest(manifest, str(files.path / "manifest.json"))
    if isinstance(files, RunFolder):
        done = sum(1 for _ in files.chunk_path(0).parent.glob("*.parquet"))
        click.echo(f"run {files.path}: {done} of {card.method['chunks']} chunks")
    else:
        click.echo(f"run {files.path}: {card.protocol['n']} samples, exported")
    _show_fields(
        {
            "key": f"{card.key} (of the whole card: names this run)",
            "fingerprint": f"{card.fingerprint} (of the protocol part: equal in every row of a "
            "table)",
        }
    )
    for part, fields in card.as_json().items():
        click.echo(PARTS[part])
        _show_fields(_json_fields(fields))
    click.echo("environment (recorded beside the card)")
    _show_fields(_json_fields(manifest["environment"]))


def _json_fields(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
    }
