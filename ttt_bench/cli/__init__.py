"""The command line. Each command is a file; none of them imports torch before it has to."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click
from typing_extensions import override

from ttt_bench.api.errors import UserError, unknown
from ttt_bench.api.text import plain
from ttt_bench.toolkit.interrupt import interruptible

COMMANDS = {
    "cache": "cache",
    "check": "check",
    "compare": "compare",
    "config": "config",
    "data": "data",
    "doctor": "doctor",
    "export": "export",
    "list": "list_command",
    "new-method": "new_method",
    "plot": "plot",
    "report": "report",
    "run": "run",
    "show": "show",
    "verify": "verify",
}


class Commands(click.Group):
    """Finds built-in commands by file and asks plugins, once, for theirs."""

    _asked = False

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        self._ask_plugins()
        return sorted({*COMMANDS, *self.commands})

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name in COMMANDS:
            return import_module(f"ttt_bench.cli.{COMMANDS[cmd_name]}").command
        self._ask_plugins()
        if cmd_name not in self.commands:
            raise unknown("command", cmd_name, self.list_commands(ctx))
        return self.commands[cmd_name]

    def _ask_plugins(self) -> None:
        from ttt_bench.registry import registry

        if not self._asked:
            self._asked = True
            registry().call("ttt_bench_commands", cli=self)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ttt-bench", message="%(prog)s %(version)s")
def cli() -> None:
    """Test-time training of vision models: every method on identical inputs, with its cost.

    \b
    ttt-bench run --method clip-zero-shot --method apm --dataset cifar10-c-mini
    ttt-bench compare
    ttt-bench list methods
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line: bad input is one line and exit code 2, Ctrl-C is 130."""
    try:
        with interruptible():
            cli.main(arguments, prog_name="ttt-bench", standalone_mode=False)
    except UserError as error:
        if os.environ.get("TTT_BENCH_TRACEBACK"):
            raise
        _leave(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _leave(" ".join(error.format_message().split()), 2)
    except (click.Abort, KeyboardInterrupt):
        _leave("interrupted; finished chunks are kept: the same command continues", 130)
    sys.exit(0)


def _leave(message: str, code: int) -> NoReturn:
    click.echo(f"ttt-bench: {plain(message)}", err=True)
    sys.exit(code)
