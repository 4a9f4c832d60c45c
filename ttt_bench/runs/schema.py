"""The shape of the JSON files of a run folder, checked before anything is made of them.

The files may have been edited, or sent by somebody.
"""

import math
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

from ttt_bench.api.errors import UserError

NUMBER = (int, float)
TEXT_OR_NONE = (str, NoneType)
DIRECTIONS = {"forward": NUMBER, "backward": NUMBER}

# For each field its types, or the shape of what is in it. There may be more fields. `*` stands for
# every field.
MANIFEST = {
    "card": {
        "protocol": {
            "dataset": str,
            "samples": str,
            "n": int,
            "class_names": [str],
            "limit": (int, NoneType),
            "seed": int,
            "skipped": [str],
        },
        "method": {
            "method": str,
            "backbone": str,
            "precision": str,
            "config": {},
            "labelled_data": TEXT_OR_NONE,
            "kind": str,
            "known_failures": {"*": str},
            "chunks": int,
            "code": {"*": str},
        },
    },
    "worker": {
        "method": str,
        "dataset": str,
        "backbone": str,
        "seed": int,
        "config": {},
        "data_root": TEXT_OR_NONE,
    },
    "environment": {},
    "harness": {"version": str, "code": str},
    "code_files": {"*": {"*": str}},
}
# The field `stream` of the card's method part, where samples come in streams.
STREAM = {
    "name": str,
    "correlation": (int, float, NoneType),
    "batch_size": int,
    "order": str,
    "revisited": int,
    "revisited_chunks": int,
}
# The field `dataset_preset`, where the configuration has values that are a dataset's own.
DATASET_PRESET = {"values": {}, "note": str}
COST = {
    "flops_per_sample": {"frozen": DIRECTIONS, "adapted": DIRECTIONS},
    "setup_flops": {"*": NUMBER},
    "peak_memory_bytes": NUMBER,
    "backbone_parameters": NUMBER,
    "parameters_updated": NUMBER,
}


def require_shape(value: Mapping[str, Any], shape: Mapping[str, Any], where: str) -> None:
    """Refuse a JSON value of another shape, `MANIFEST` or `COST`.

    Raises:
        UserError: a field is missing or holds something else; the message names it.
    """
    field = next(_misfits(value, shape, ()), None)
    if field is not None:
        raise UserError(
            f"{where}: {'.'.join(field)} is missing or not what a run writes there; restore the "
            "file or run again"
        )


def require_manifest(manifest: Mapping[str, Any], where: str) -> None:
    """Refuse a manifest of another shape.

    Raises:
        UserError: a field is missing or holds something else; the message names it.
    """
    require_shape(manifest, MANIFEST, where)
    method = manifest["card"]["method"]
    for field, shape in (("stream", STREAM), ("dataset_preset", DATASET_PRESET)):
        if field in method:
            require_shape(manifest, {"card": {"method": {field: shape}}}, where)


def _misfits(value: Any, shape: Any, at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the fields that do not fit."""
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            yield at
            return
        for name in value if "*" in shape else shape:
            if name in value:
                yield from _misfits(value[name], shape.get(name, shape.get("*")), (*at, name))
            else:
                yield (*at, name)
    elif isinstance(shape, list):
        if not isinstance(value, list) or not all(isinstance(item, *shape) for item in value):
            yield at
    elif not isinstance(value, shape) or (isinstance(value, NUMBER) and not _is_sound(value)):
        yield at


def _is_sound(number: int | float) -> bool:
    """Say whether a number is finite and not negative, as all numbers there are."""
    try:
        return math.isfinite(number) and number >= 0
    # A whole number beyond every float.
    except OverflowError:
        return False
