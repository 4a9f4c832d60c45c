"""The option `--config`: a file that gives the defaults of the other options."""

import json
from pathlib import Path
from typing import Any

import click

from ttt_bench.api.errors import UserError, first_line

# Where the command finds the entries of `runs`, in its context.
VARIANTS = "ttt_bench.variants"


def read_config_file(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Let a YAML file give the defaults of a command's other options.

    Raises:
        UserError: the file is not readable, a key is no option, or a value is refused.
    """
    if value is None:
        return
    from ttt_bench.runner.config_file import RUNS, entries, flat_settings, read_file

    content = read_file(value)
    ctx.meta[VARIANTS] = entries(value, content)
    options = {p.opts[0].lstrip("-"): p for p in ctx.command.params}
    defaults: dict[str, Any] = {}
    for key, setting in content.items():
        if key == RUNS:
            continue
        option = options[key]
        if key in ("set", "sweep"):
            flat = flat_settings(setting)
            write = _as_json if key == "set" else _as_list
            setting = [f"{name}={write(one, key, value)}" for name, one in flat]
        several = option.multiple  # pyright: ignore
        # As typed, so that the option itself refuses what it cannot take.
        values = setting if isinstance(setting, list) else [setting]
        defaults[str(option.name)] = [str(one) for one in values] if several else str(setting)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _as_list(value: Any, key: str, file: Path) -> str:
    """Return the values of a sweep as they are typed.

    Raises:
        UserError: it is no list, or holds more than plain values.
    """
    if not isinstance(value, list) or not value:
        raise UserError(f"{file}: `sweep` needs a list of values, such as `apm.steps: [5, 20]`")
    return ",".join(_as_json(one, key, file) for one in value)


def _as_json(value: Any, key: str, file: Path) -> str:
    """Return a value as it is typed.

    Raises:
        UserError: it is no plain value.
    """
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: `{key}` needs plain values ({first_line(error)})") from error
