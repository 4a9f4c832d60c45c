"""`ttt-bench config`: files of options for `run`."""

import json

import click


@click.group("config", short_help="Show the schema of files of options.")
def command() -> None:
    """Show what a file of options for `ttt-bench run --config FILE` may hold.

    A key is an option of `run` by name, such as `limit: 96`. `set` and `sweep` hold settings of
    methods by name. `runs` is a list; each entry has a method, and may have a name, settings,
    datasets and backbones of its own:

    \b
    dataset: cifar10-c-mini
    limit: 96
    runs:
      - method: clip-zero-shot
      - method: apm
        name: few steps
        set: {steps: 5}
    """


@command.command("schema", short_help="Print the JSON schema of a file of options.")
def schema() -> None:
    """Print the JSON schema of a file of options.

    Editors complete and check the file with it.

    \b
    ttt-bench config schema > ttt-bench.schema.json
    """
    from ttt_bench.runner.config_file import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
