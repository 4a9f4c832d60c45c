"""A configuration survives a file."""

import json
import pickle
from typing import Any

from pydantic import ValidationError

from ttt_bench.api.adapter import AdapterConfig
from ttt_bench.testing.method import Subject
from ttt_bench.testing.suite import CheckFailed, Finding

STRANGER = "no_such_key"


def round_trip(subject: Subject) -> Finding:
    """Through JSON and pickle to the same values; what is no field is refused."""
    kind: Any = subject.spec.load().Config
    if not (isinstance(kind, type) and issubclass(kind, AdapterConfig)):
        raise CheckFailed(f"Config is {kind!r}, not a subclass of AdapterConfig")
    presets = subject.spec.presets.get(subject.backbone_name, {})
    config = kind(**{**presets, **subject.settings})
    text = _json(config)
    try:
        again = kind(**json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckFailed(
            f"its own JSON is refused: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    _same(config, again, "JSON")
    if _json(again) != text:
        raise CheckFailed("the JSON of what was read from JSON differs from it")
    try:
        pickled = pickle.loads(pickle.dumps(config))
    except Exception as error:
        raise CheckFailed(f"it does not pickle: {type(error).__name__}: {error}") from error
    _same(config, pickled, "pickle")
    try:
        kind(**subject.config, **{STRANGER: 1})
    except ValidationError:
        pass
    else:
        raise CheckFailed(f"it takes the unknown key {STRANGER!r}; leave extra='forbid'")
    if not kind.model_config.get("frozen"):
        raise CheckFailed("it can be written to; leave frozen=True")
    return Finding(f"{len(kind.model_fields)} fields through JSON and pickle")


def _json(config: AdapterConfig) -> str:
    try:
        return json.dumps(config.model_dump(mode="json"), allow_nan=False)
    except ValueError as error:
        raise CheckFailed(f"it has no JSON form: {error}") from error


def _same(config: AdapterConfig, other: AdapterConfig, through: str) -> None:
    mine, theirs = config.model_dump(), other.model_dump()
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise CheckFailed(f"{name}={value!r} comes back from {through} as {theirs.get(name)!r}")
