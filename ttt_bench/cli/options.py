"""Options of the command line: those of `run`, made from `RunConfig`, and those commands share."""

import math
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
from annotated_types import Ge, Gt
from typing_extensions import Doc, override

from ttt_bench.runner.config import Option, RunConfig

FormatOption = Callable[[Any], Any]

data_root_option = click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    envvar="TTT_BENCH_DATA",
    help="Folder to look for datasets in.  [env: TTT_BENCH_DATA]",
)
set_option = click.option(
    "--set",
    "set_",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a field of a method's configuration; METHOD.KEY=VALUE for one method of several. May "
    "be repeated.",
)


class NumberOrWord(click.IntRange):
    """A whole number, or one of some words."""

    def __init__(self, words: tuple[str, ...], at_least: int | None) -> None:
        super().__init__(min=at_least)
        self.words = words

    @override
    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if value in self.words:
            return value
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = " or ".join(self.words)
            self.fail(f"{value!r} is neither {words} nor a number from {self.min} on", param, ctx)


class FiniteFloat(click.FloatRange):
    """A finite number in a range."""

    @override
    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not finite", param, ctx)
        return number


def format_option(choices: tuple[str, ...] = ("text", "json")) -> FormatOption:
    """Return the option `--format` with these choices, the first of them the default."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="Output format.",
    )


def config_options(*names: str) -> FormatOption:
    """Return a decorator that adds the options of `RunConfig`, in its order.

    Args:
        names: the fields to add; all of them where none is named.
    """
    hints = get_type_hints(RunConfig, include_extras=True)
    chosen = [one for one in fields(RunConfig) if one.name in names or not names]

    def decorate(command: Any) -> Any:
        for one in reversed(chosen):
            hint = hints[one.name]
            if one.name == "settings":
                command = set_option(command)
            elif get_origin(hint) is Annotated:
                command = _option(one, hint, several=not names)(command)
        return command

    return decorate


def _option(one: Field[Any], hint: Any, several: bool) -> Callable[[Any], Any]:
    """Return the option of a field.

    Args:
        one: the field.
        hint: its type, with what the command line needs to know.
        several: whether the command takes options that may be repeated several times.
    """
    value_type, *metadata = get_args(hint)
    details = next((item for item in metadata if isinstance(item, Option)), Option())
    text = next(item.documentation for item in metadata if isinstance(item, Doc))
    at_least = next((item.ge for item in metadata if isinstance(item, Ge)), None)
    above = next((item.gt for item in metadata if isinstance(item, Gt)), None)
    name = one.name.replace("_", "-")
    repeated = several and details.repeated
    if repeated:
        text += " May be repeated."
    if details.env:
        text += f"  [env: {details.env}]"
    if details.default:
        text += f"  [default: {details.default}]"
    forms = [f"--{name}", *([details.short] if details.short else [])]
    settings: dict[str, Any] = {"help": text}
    if value_type is bool:
        forms = [f"--{name}/--no-{name}" if one.default else f"--{name}"]
        settings["is_flag"] = True
    else:
        settings["type"] = _click_type(value_type, at_least, above, details)
    if details.metavar:
        settings["metavar"] = details.metavar
    if repeated:
        settings["multiple"] = True
    if details.env:
        settings["envvar"] = details.env
    if repeated and isinstance(one.default, int):
        settings["default"] = (one.default,)
        settings["help"] += f"  [default: {one.default}]"
    elif one.default is not None and one.default is not MISSING and not repeated:
        settings |= {"default": one.default, "show_default": one.default is not False}
    return click.option(*forms, one.name, **settings)


def _click_type(value_type: Any, at_least: Any, above: Any, details: Option) -> Any:
    """Return click's type for a field's, None for text."""
    if get_origin(value_type) is Literal:
        return click.Choice(get_args(value_type))
    words = [get_args(part) for part in get_args(value_type) if get_origin(part) is Literal]
    if words:
        return NumberOrWord(words[0], at_least)
    given = [part for part in get_args(value_type) if part is not NoneType]
    kind = given[0] if given else value_type
    if kind is Path:
        return click.Path(
            dir_okay=details.folder is not False,
            file_okay=details.folder is not True,
            path_type=Path,
        )
    if kind is int:
        return click.IntRange(min=at_least)
    if kind is float:
        return FiniteFloat(min=above, min_open=True)
    return None
