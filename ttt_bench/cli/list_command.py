"""`ttt-bench list`: what is installed."""

import json

import click

from ttt_bench.cli.options import format_option

KINDS = ("methods", "datasets", "backbones", "metrics", "references", "executors", "plugins")


@click.command("list", short_help="List methods, datasets, backbones, metrics or plugins.")
@click.argument("kind", type=click.Choice(KINDS))
@format_option()
def command(kind: str, format_: str) -> None:
    """List everything of one KIND, with a line for each.

    A plugin that does not load is listed as broken, with its error.
    """
    from ttt_bench.registry import registry

    plugins = registry()
    if kind == "plugins":
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
        catalog = getattr(plugins, "adapters" if kind == "methods" else kind)
        rows = [
            {
                "name": _typed(item.spec),
                "summary": item.spec.summary,
                "plugin": item.plugin.name,
            }
            for item in catalog.values()
        ]
    if format_ == "json":
        click.echo(json.dumps({kind: rows}, indent=2))
    else:
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            rest = (
                f"{row['distribution']} {row['version']}  {row['status']}  {row['error']}"
                if kind == "plugins"
                else row["summary"]
            )
            click.echo(f"{row['name']:<{width}}  {rest}".rstrip())
        if not rows:
            click.echo(f"no {kind} are registered")
    if kind != "plugins":
        for plugin in plugins.broken():
            click.echo(
                f"plugin {plugin.name} ({plugin.distribution}) is broken: {plugin.error}", err=True
            )


def _typed(spec: object) -> str:
    argument = getattr(spec, "argument", "")
    if argument.startswith("["):
        return f"{spec.name}[:{argument[1:]}"  # pyright: ignore
    return f"{spec.name}:{argument}" if argument else spec.name  # pyright: ignore
