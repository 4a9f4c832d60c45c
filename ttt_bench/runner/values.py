"""Values as a user types them: YAML scalars, KEY=VALUE settings, methods with settings."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import yaml

from ttt_bench.api.errors import UserError

OPENING, CLOSING = "[{(", "]})"


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


def read_settings(pairs: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Read the values of KEY=VALUE options, each as YAML.

    Args:
        pairs: what was typed.
        option: the option, for messages.

    Raises:
        UserError: one has no key, or its value cannot be read.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{option} {pair}: write KEY=VALUE, such as {option} steps=10")
        settings[key.strip()] = read_value(value, f"{option} {pair}")
    return settings


def read_value(text: str, where: str) -> Any:
    """Read one value as YAML.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return read_yaml(text)
    # YAML's own types fail in many ways: a 13th month, an empty integer, endless brackets.
    except Exception as error:
        raise UserError(f"{where}: the value is not readable as YAML") from error


def read_variant(text: str, option: str = "--method") -> tuple[str, dict[str, Any]]:
    """Read `NAME` or `NAME:KEY=VALUE,...`: a method, and settings of its configuration.

    A comma within brackets or quotes belongs to a value.

    Args:
        text: what was typed.
        option: the option, for messages.

    Raises:
        UserError: a setting is not KEY=VALUE, comes twice, or cannot be read.
    """
    name, colon, rest = text.partition(":")
    if not colon:
        return text, {}
    settings: dict[str, Any] = {}
    for pair in split_commas(rest):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"{option} {text}: write {name}:KEY=VALUE, such as {name}:steps=10")
        if key.strip() in settings:
            raise UserError(f"{option} {text}: {key.strip()} comes twice; give it once")
        settings[key.strip()] = read_value(value, f"{option} {text}")
    return name, settings


def split_commas(text: str) -> list[str]:
    """Split text at its commas, except for those within brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in OPENING) - (character in CLOSING)
        if character == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts
