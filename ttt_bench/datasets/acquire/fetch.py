"""Fetching one file: continued where it broke off, and refused if its hash is another."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pooch

from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import Archive

# Called with the bytes that are there and the bytes of the whole file, None where nobody says.
Progress = Callable[[int, int | None], None]

# Seconds that a server may be silent.
TIMEOUT = 60
BLOCK = 1 << 18


def fetch(archive: Archive, file: Path, progress: Progress) -> None:
    """Have the archive at `file`, whole and of the known hash.

    What arrives is kept in `file` with `.part` behind its name until it is whole, so that a
    command that was stopped continues. A file of the right hash is not fetched again.

    Raises:
        UserError: the server does not answer or breaks off, or the hash is another; the file of
            another hash is removed.
    """
    pooch.get_logger().setLevel("WARNING")
    part = file.with_name(f"{file.name}.part")
    # Without a hash nobody would notice that two halves are of different files.
    if not archive.hash:
        part.unlink(missing_ok=True)

    def download(url: str, output_file: str, _: Any) -> None:
        _receive(url, part, progress)
        os.replace(part, output_file)

    # Pooch's type gives the arguments other names than it calls them by.
    downloader: Any = download
    try:
        pooch.retrieve(
            archive.url, archive.hash or None, file.name, str(file.parent), downloader=downloader
        )
    except ValueError as error:
        raise UserError(f"{archive.url}: refused ({' '.join(str(error).split())})") from error


def part_size(file: Path) -> int:
    """Bytes of `file` that an earlier command has fetched."""
    return sum(
        path.stat().st_size for path in (file, file.with_name(f"{file.name}.part")) if path.exists()
    )


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append to `part` what it lacks of the file at `url`."""
    have = part.stat().st_size if part.exists() else 0
    try:
        with _ask(url, have) as response:
            # 206: the server continues. Any other success: it sends the whole file.
            have = have if response.status == 206 else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            with part.open("ab" if have else "wb") as output:
                progress(have, total)
                while block := response.read(BLOCK):
                    output.write(block)
                    have += len(block)
                    progress(have, total)
        if total is not None and have < total:
            raise HTTPException(f"it ended after {have} of {total} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        # 416: there is nothing behind what is here. It is all, or it is of another file.
        if error.code == 416 and have:
            if _whole(error) != have:
                part.unlink()
                _receive(url, part, progress)
            return
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        kept = part.stat().st_size if part.exists() else 0
        goes_on = f"; the same command continues after {kept} bytes" if kept else ""
        raise UserError(f"{url}: not fetched ({error}){goes_on}") from error


def _ask(url: str, have: int) -> HTTPResponse:
    headers = {"User-Agent": "ttt-bench"}
    if have:
        headers["Range"] = f"bytes={have}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _whole(error: urllib.error.HTTPError) -> int | None:
    """The size of the file as a server says it when it is asked for bytes beyond the end."""
    said = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    return int(said[1]) if said else None
