"""Checksums that bind every file of a run to the run, so that an edited or swapped one is found."""

import hashlib
from collections.abc import Mapping
from typing import Any

from ttt_bench.api.records import Records
from ttt_bench.runs.card import digest

CHECKSUM = "sha256"
RUN = "run"
# Stands in a file before the digits of its checksum, which count as zeros.
SEAL = "file-sha256:"
UNSEALED = SEAL + 64 * "0"


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


def sealed_file(content: bytes) -> bytes:
    """Return a file's bytes with their checksum in place of the zeros after its last `SEAL`.

    Raises:
        ValueError: the bytes hold no `UNSEALED`.
    """
    start = content.rindex(UNSEALED.encode()) + len(SEAL)
    checksum = hashlib.sha256(content).hexdigest()
    return content[:start] + checksum.encode() + content[start + 64 :]


def require_sealed_file(content: bytes) -> None:
    """Check the bytes of a sealed file, so that no parser gets damaged ones.

    Raises:
        ValueError: they are not those that were sealed.
    """
    start = content.rfind(SEAL.encode()) + len(SEAL)
    unsealed_content = content[:start] + 64 * b"0" + content[start + 64 :]
    if hashlib.sha256(unsealed_content).hexdigest().encode() != content[start : start + 64]:
        raise ValueError("its bytes do not fit their checksum")
