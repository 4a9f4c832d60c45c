"""Settings: the KEY=VALUE options of a method's configuration, and files that hold options."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import click
import yaml

from ttt_bench.api.errors import UserError, first_line, unknown


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars: `1:30` and `yes` are text, and `1e-3` is a number."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # pyright: ignore


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|)$"), ["~", "n", ""])
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|false|False)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"),
    list("-+.0123456789"),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)))


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).replace(".inf", "inf").replace(".nan", "nan"))


# YAML 1.1's constructors read 010 as 8.
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def read_yaml(text: str) -> Any:
    """Read YAML, and nothing in it that runs code."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read the values of KEY=VALUE options, each as YAML.

    Raises:
        UserError: one has no key, or its value cannot be read.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair}: write KEY=VALUE, such as --set steps=10")
        try:
            settings[key.strip()] = read_yaml(value)
        # YAML's own types fail in many ways: a 13th month, an empty integer, endless brackets.
        except Exception as error:
            raise UserError(f"--set {pair}: the value is not readable as YAML") from error
    return settings


def read_config_file(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    """Let a YAML file give the defaults of a command's other options.

    Raises:
        UserError: the file is not readable, or a key is no option.
    """
    if value is None:
        return
    try:
        content = read_yaml(value.read_text("utf-8")) or {}
    # As above.
    except Exception as error:
        raise UserError(
            f"{value}: not readable as YAML ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"{value}: needs lines `option: value`, such as `seed: 1`")
    options = {p.opts[0].lstrip("-"): p for p in ctx.command.params if p.name != "config"}
    defaults: dict[str, Any] = {}
    for key, setting in content.items():
        if key not in options:
            raise unknown(f"option in {value}", str(key), options)
        name = str(options[key].name)
        several = options[key].multiple  # pyright: ignore
        if key == "set":
            setting = [f"{k}={_as_json(v, value)}" for k, v in _flatten(setting, value).items()]
        values = setting if several and isinstance(setting, list) else [setting]
        if not all(isinstance(one, str | int | float) for one in values):
            raise UserError(f"{value}: {key} needs plain values, not {setting!r}")
        # As typed, so that the option itself refuses what it cannot take.
        defaults[name] = [str(one) for one in values] if several else str(setting)
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _flatten(settings: Any, file: Path) -> dict[str, Any]:
    """Return `{apm: {steps: 10}}` and `{steps: 10}` as dotted keys."""
    if not isinstance(settings, Mapping):
        raise UserError(f"{file}: `set` needs KEY: VALUE lines below it")
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = value if isinstance(value, Mapping) else None
        flat |= {f"{key}.{k}": v for k, v in inner.items()} if inner else {str(key): value}
    return flat


def _as_json(value: Any, file: Path) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{file}: `set` needs plain values ({first_line(error)})") from error
