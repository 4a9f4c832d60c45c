"""A method's configuration: its class's defaults, its presets, the user's settings."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ttt_bench.api.errors import UserError, described, unknown
from ttt_bench.api.specs import AdapterSpec


def resolve_config(
    spec: AdapterSpec, backbone: str, dataset: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return every field of the method's configuration with its value, as plain JSON.

    Args:
        spec: the method.
        backbone: the backbone's name, for its preset.
        dataset: the dataset's name, for its preset.
        settings: the fields that the user sets.

    Raises:
        UserError: a setting names no field, or its value is refused.
    """
    config_type = spec.load().Config
    for key in settings:
        if key not in config_type.model_fields:
            raise unknown(f"configuration key of {spec.name}", key, config_type.model_fields)
    try:
        text = json.dumps({**spec.preset(backbone, dataset), **settings})
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{spec.name}: a setting is no plain value ({described(error)})") from error
    try:
        # As JSON and strictly: true is no number and "5" no whole number; a list is a tuple.
        config = config_type.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "configuration"
        raise UserError(
            f"{spec.name}: {key}={first['input']!r} is refused: {first['msg']}"
        ) from error
    return config.model_dump(mode="json")


def split_settings(
    settings: Mapping[str, Any], specs: Mapping[str, AdapterSpec], option: str = "--set"
) -> dict[str, dict[str, Any]]:
    """Share out `KEY` and `METHOD.KEY` settings among the methods of a command.

    A bare key goes to every method that has the field; some method must.

    Args:
        settings: the settings.
        specs: the methods by name.
        option: the option that they were given by, for messages.

    Raises:
        UserError: no method of the command has the field.
    """
    shares: dict[str, dict[str, Any]] = {name: {} for name in specs}
    fields = {name: tuple(spec.load().Config.model_fields) for name, spec in specs.items()}
    for setting, value in settings.items():
        method, dot, key = setting.rpartition(".")
        if dot and method not in specs:
            raise unknown(f"method in {option} {setting}", method, specs)
        takers = [method] if dot else [name for name in specs if key in fields[name]]
        if not takers:
            known = {field for names in fields.values() for field in names}
            raise unknown(f"configuration key of {', '.join(specs)}", key, known)
        for name in takers:
            shares[name][key] = value
    return shares
