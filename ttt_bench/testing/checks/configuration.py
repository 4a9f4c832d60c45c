"""A configuration comes back from a file as it was."""

import json
import pickle
from typing import TYPE_CHECKING, Any

from ttt_bench.api.errors import described
from ttt_bench.testing.declaration import check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.api.adapter import AdapterConfig
    from ttt_bench.testing.method import MethodUnderTest

UNKNOWN_KEY = "no_such_key"


@check(order=1)
def check_configuration_round_trip(method: "MethodUnderTest") -> Finding:
    """Check that JSON and pickle keep the values, and that an unknown key is refused."""
    from pydantic import ValidationError

    from ttt_bench.api.adapter import AdapterConfig

    config_type: Any = method.spec.load().Config
    if not (isinstance(config_type, type) and issubclass(config_type, AdapterConfig)):
        raise CheckFailed(f"Config is {config_type!r}, not a subclass of AdapterConfig")
    presets = method.spec.preset(method.backbone_name, method.dataset.name)
    config = config_type(**{**presets, **method.settings})
    text = _json(config)
    try:
        from_json = config_type(**json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckFailed(
            f"its own JSON is refused: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from error
    _require_equal(config, from_json, "JSON")
    if _json(from_json) != text:
        raise CheckFailed("its JSON changes when it is read and written again")
    try:
        from_pickle = pickle.loads(pickle.dumps(config))
    except Exception as error:
        raise CheckFailed(f"it does not pickle: {described(error)}") from error
    _require_equal(config, from_pickle, "pickle")
    try:
        config_type(**method.config, **{UNKNOWN_KEY: 1})
    except ValidationError:
        pass
    else:
        raise CheckFailed(f"it takes the unknown key {UNKNOWN_KEY!r}; keep extra='forbid'")
    if not config_type.model_config.get("frozen"):
        raise CheckFailed("its fields can be set; keep frozen=True")
    return Finding(f"{len(config_type.model_fields)} fields through JSON and pickle")


def _json(config: "AdapterConfig") -> str:
    try:
        return json.dumps(config.model_dump(mode="json"), allow_nan=False)
    except ValueError as error:
        raise CheckFailed(f"it has no JSON form: {described(error)}") from error


def _require_equal(config: "AdapterConfig", other: "AdapterConfig", through: str) -> None:
    values, others = config.model_dump(), other.model_dump()
    for name, value in values.items():
        if others.get(name) != value:
            raise CheckFailed(f"{name}={value!r} comes back from {through} as {others.get(name)!r}")
