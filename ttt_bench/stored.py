"""What the JSON files of a run folder have to hold before a comparison or a page is made of them.

They may have been edited, or sent by somebody; the card's digests only tell that it fits itself.
"""

import math
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Any

from ttt_bench.errors import UserError

NUMBER = (int, float)
TEXT_OR_NONE = (str, NoneType)
DIRECTIONS = {"forward": NUMBER, "backward": NUMBER}

# For each field its types, or the shape of what is in it; there may be more fields. Behind `*`
# stands what each of any fields is.
MANIFEST = {
    "card": {
        "column": {
            "dataset": str,
            "samples": str,
            "n": int,
            "class_names": [str],
            "limit": (int, NoneType),
            "seed": int,
        },
        "row": {"method": str, "backbone": str, "config": {}, "labelled_data": TEXT_OR_NONE},
    },
    "chunks": int,
    "job": {
        "method": str,
        "dataset": str,
        "backbone": str,
        "seed": int,
        "config": {},
        "data_root": TEXT_OR_NONE,
    },
    "environment": {},
}
COST = {
    "flops_per_sample": {"teacher": DIRECTIONS, "student": DIRECTIONS},
    "setup_flops": {"*": NUMBER},
    "peak_memory_bytes": NUMBER,
    "backbone_parameters": NUMBER,
    "parameters_updated": NUMBER,
}


def check_stored(value: Mapping[str, Any], shape: Mapping[str, Any], where: str) -> None:
    """Refuse a file of another shape than `MANIFEST` or `COST`.

    Raises:
        UserError: a field is missing or holds something else; the message names it.
    """
    field = next(_misfits(value, shape, ()), None)
    if field is not None:
        raise UserError(
            f"{where}: {'.'.join(field)} is missing or not what a run writes there; restore the "
            "file or run again"
        )


def _misfits(value: Any, shape: Any, at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of the fields that do not fit."""
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
    elif not isinstance(value, shape) or (isinstance(value, NUMBER) and not _is_finite(value)):
        yield at


def _is_finite(number: int | float) -> bool:
    try:
        return math.isfinite(number)
    # A whole number beyond every float.
    except OverflowError:
        return False
