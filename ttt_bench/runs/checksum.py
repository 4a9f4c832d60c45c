"""Checksums that bind every file of a run to the run, so that an edited or swapped one is found."""

import hashlib
from collections.abc import Mapping
from typing import Any

from ttt_bench.api.records import Records
from ttt_bench.runs.card import digest

CHECKSUM = "sha256"
RUN = "run"


def sealed(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a JSON object with the run's key and a checksum over all of it.

    Args:
        value: the object.
        key: the run's key, `Card.key`.
    """
    bound = {RUN: key, **value}
    return {**bound, CHECKSUM: digest(bound)}


def unsealed(value: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
    """Return a sealed object without the key and the checksum.

    Args:
        value: the object as read.
        key: the key of the run that it has to belong to, None for whichever it names.

    Raises:
        ValueError: the checksum does not fit, or the object belongs to another run.
    """
    bound = {name: item for name, item in value.items() if name != CHECKSUM}
    if value.get(CHECKSUM) != digest(bound):
        raise ValueError("its values do not fit their checksum")
    if key is not None and bound.get(RUN) != key:
        raise ValueError("it belongs to another run")
    return {name: item for name, item in bound.items() if name != RUN}


def chunk_checksum(records: Records, key: str, number: int) -> str:
    """Return the SHA-256 of a chunk's records, the run's key and the chunk's number."""
    return hashlib.sha256(f"{key}\0{number}\0{records.digest()}".encode()).hexdigest()
