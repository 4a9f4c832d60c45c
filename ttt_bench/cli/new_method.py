"""`ttt-bench new-method`: a plugin folder to start a method from."""

from pathlib import Path

import click


@click.command("new-method", short_help="Write a plugin folder for a method of your own.")
@click.argument("name")
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path),
              help="Folder for the plugin.  [default: NAME]")  # fmt: skip
@click.option("--online", is_flag=True,
              help="Write a method that adapts along a stream of images.")  # fmt: skip
def command(name: str, output: Path | None, online: bool) -> None:
    """Write a plugin with a small method called NAME that installs, passes its checks and runs.

    NAME is lower-case letters and digits, in words joined by hyphens.

    \b
    ttt-bench new-method my-method
    pip install -e ./my-method
    ttt-bench check my-method
    """
    from ttt_bench.new_method.folder import write_plugin

    folder = output or Path(name)
    for file in write_plugin(name, folder, online):
        click.echo(file)
    path = folder if folder.is_absolute() else f"./{folder}"
    click.echo(f"next: pip install -e {path} && ttt-bench check {name}")
