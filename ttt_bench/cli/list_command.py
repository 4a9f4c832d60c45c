"""`ttt-bench list`: what is installed."""

import json
from collections.abc import Mapping
from typing import Any

import click

from ttt_bench.api.specs import AdapterSpec, Spec
from ttt_bench.api.text import plain
from ttt_bench.cli.options import format_option

CATEGORIES = (
    "methods", "datasets", "backbones", "metrics", "references", "executors", "trackers", "goldens",
    "plugins",
)  # fmt: skip


@click.command("list", short_help="List methods, datasets, backbones, metrics, plugins and more.")
@click.argument("category", type=click.Choice(CATEGORIES))
@format_option()
def command(category: str, format_: str) -> None:
    """List everything of one CATEGORY, a line for each.

    Methods come with their kind: `sample` (episodic: each sample alone), `batch` (a batch is
    predicted together) or `stream` (online: earlier samples count). Checks that a method is known
    to fail are listed with it. Plugins that do not load are listed as broken, with the error.
    """
    from ttt_bench.registry import registry

    plugins = registry()
    if category == "plugins":
        rows = [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "status": "broken" if plugin.error else "ok",
                "error": plugin.error,
            }
            for plugin in plugins.plugins
        ]
    else:
        catalog = getattr(plugins, "adapters" if category == "methods" else category)
        rows = [_row(item.spec, item.plugin.name) for item in catalog.values()]
    if format_ == "json":
        click.echo(json.dumps({category: rows}, indent=2))
    else:
        _print(category, rows)
    if category != "plugins":
        for plugin in plugins.broken():
            line = f"plugin {plugin.name} ({plugin.distribution}) is broken: {plugin.error}"
            click.echo(plain(line), err=True)


def _row(spec: Spec, plugin: str) -> dict[str, Any]:
    row: dict[str, Any] = {"name": _name_to_type(spec), "summary": spec.summary, "plugin": plugin}
    if isinstance(spec, AdapterSpec):
        row |= {name: getattr(spec, name) for name in ("kind", "trains", "keeps", "release")}
        row["known_failures"] = dict(spec.known_failures)
    return row


def _print(category: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo(f"no {category} are registered")
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(plain(f"{row['name']:<{width}}  {_description(category, row)}".rstrip()))


def _description(category: str, row: Mapping[str, Any]) -> str:
    if category == "plugins":
        return f"{row['distribution']} {row['version']}  {row['status']}  {row['error']}"
    if category != "methods":
        return row["summary"]
    failures = "; ".join(f"{check} ({why})" for check, why in row["known_failures"].items())
    known = f"; fails by design: {failures}" if failures else ""
    return f"{row['kind']:<6}  {row['summary']}{known}"


def _name_to_type(spec: Spec) -> str:
    """Return the name with the argument that may follow it, such as `imagenet-c[:CORRUPTION]`."""
    argument = getattr(spec, "argument", "")
    if argument.startswith("["):
        return f"{spec.name}[:{argument[1:]}"
    return f"{spec.name}:{argument}" if argument else spec.name
