"""StateFiles: the states of an online method in its streams, from which a stopped run goes on."""

import hashlib
import json
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ttt_bench.api.errors import UserError
from ttt_bench.api.regular_files import require_regular
from ttt_bench.toolkit.atomic import atomic_write

LARGEST_STATE = 200_000_000_000
LARGEST_HEADER = 100_000_000
METADATA = "__metadata__"
# A header of safetensors is filled up with spaces to a multiple of this.
ALIGNMENT = 8


class StateFiles:
    """`states/*.safetensors` of one run, each the state after a chunk, named by its number."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, number: int) -> Path:
        """Return the file of the state after chunk `number`."""
        return self.path / f"{number:06d}.safetensors"

    def write(self, number: int, content: bytes, key: str) -> None:
        """Save the state after a chunk of the run with this key.

        Args:
            number: the chunk's number.
            content: the bytes of a safetensors file.
            key: the run's key.

        Raises:
            UserError: the disk is full, or the folder cannot be written to.
        """
        header, data = _parts(content)
        header.setdefault(METADATA, {})
        seal = {"run": key, "chunk": str(number), "sha256": _checksum(header, data, key, number)}
        sealed = {**header, METADATA: {**header[METADATA], **seal}}
        text = json.dumps(sealed).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        file = self.file(number)
        try:
            with atomic_write(file) as temporary, temporary.open("wb") as opened:
                opened.write(len(text).to_bytes(8, "little") + text)
                opened.write(data)
        except OSError as error:
            raise UserError(
                f"cannot write {file} ({error.strerror or error}); what was finished before is "
                "kept: make room or give another --output, then run the same command"
            ) from error

    def read(self, number: int, key: str) -> bytes:
        """Read the state after a chunk of the run with this key.

        Raises:
            UserError: the file is missing, damaged, or not of this run and chunk.
        """
        file = self.file(number)
        try:
            require_regular(file, LARGEST_STATE)
            content = file.read_bytes()
            header, data = _parts(content)
            metadata = header.pop(METADATA)
            seal = {name: metadata.pop(name) for name in ("run", "chunk", "sha256")}
            header = {METADATA: metadata, **header}
            if seal["run"] != key or seal["chunk"] != str(number):
                raise ValueError("it belongs to another run or chunk")
            if seal["sha256"] != _checksum(header, data, key, number):
                raise ValueError("its values do not fit their checksum")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{file} is damaged ({error})") from error
        return content

    def numbers(self) -> list[int]:
        """Return the numbers of the chunks after which there is a state, in ascending order."""
        files = self.path.glob("*.safetensors") if self.path.is_dir() else ()
        return sorted(int(file.stem) for file in files if file.stem.isdecimal())

    def drop(self, numbers: Iterable[int]) -> None:
        """Remove the states after these chunks, and the folder with the last one."""
        for number in numbers:
            self.file(number).unlink(missing_ok=True)
        for file in self.path.glob(".*.tmp"):
            if _is_abandoned(file):
                file.unlink(missing_ok=True)
        # Another process may write to it.
        with suppress(OSError):
            self.path.rmdir()


def _is_abandoned(file: Path) -> bool:
    """Say whether a temporary file is of a process of this machine that is gone.

    A state can be of gigabytes, and each kill may leave one.
    """
    host, _, process = file.stem.rpartition(".")
    if not host.endswith(f".{socket.gethostname()}") or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    # It is another user's.
    except OSError:
        return False
    return False


def _parts(content: bytes) -> tuple[dict[str, dict[str, str]], memoryview]:
    """Return the header of a safetensors file and its data.

    Raises:
        ValueError: the bytes are no such file.
    """
    length = int.from_bytes(content[:8], "little")
    if length > min(len(content), LARGEST_HEADER):
        raise ValueError("it is no safetensors file")
    return json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]


def _checksum(header: object, data: memoryview, key: str, number: int) -> str:
    state = hashlib.sha256(f"{key}\0{number}\0{json.dumps(header, sort_keys=True)}".encode())
    state.update(data)
    return state.hexdigest()
