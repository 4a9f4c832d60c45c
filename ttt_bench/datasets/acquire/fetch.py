"""Fetching one file: continued after an interruption, and refused if its hash is wrong."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pooch

from ttt_bench.api.acquisition import Archive
from ttt_bench.api.errors import UserError

# Called with the bytes fetched so far and the bytes of the whole file, None where unknown.
Progress = Callable[[int, int | None], None]

# Seconds that a server may be silent.
TIMEOUT = 60
BLOCK = 1 << 18


def fetch(archive: Archive, file: Path, progress: Progress) -> None:
    """Fetch an archive to `file`, whole and of the stated hash.

    Until it is whole it is kept in `file` with `.part` behind its name, so that a command that was
    stopped continues. A file of the right hash is not fetched again.

    Args:
        archive: what to fetch.
        file: the path to fetch to.
        progress: is told how far it is.

    Raises:
        UserError: the server does not answer or breaks off, or the hash is wrong; a file of a wrong
            hash is removed.
    """
    pooch.get_logger().setLevel("WARNING")
    part = _part(file)
    # Without a hash, two halves of different files would go unnoticed.
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
    """Return the bytes of `file` that earlier commands have fetched."""
    return sum(path.stat().st_size for path in (file, _part(file)) if path.exists())


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append to `part` the rest of the file at `url`."""
    fetched = part.stat().st_size if part.exists() else 0
    try:
        with _request(url, fetched) as response:
            # 206: the server continues. Any other success: it sends the whole file.
            fetched = fetched if response.status == 206 else 0
            length = response.headers.get("Content-Length")
            total = fetched + int(length) if length else None
            with part.open("ab" if fetched else "wb") as output:
                progress(fetched, total)
                while block := response.read(BLOCK):
                    output.write(block)
                    fetched += len(block)
                    progress(fetched, total)
        if total is not None and fetched < total:
            raise HTTPException(f"it ended after {fetched} of {total} bytes")
    except urllib.error.HTTPError as error:
        error.close()
        # 416: the file ends here. Either everything is fetched, or `part` is of another file.
        if error.code == 416 and fetched:
            if _stated_size(error) != fetched:
                part.unlink()
                _receive(url, part, progress)
            return
        raise UserError(f"{url}: the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        kept = part.stat().st_size if part.exists() else 0
        advice = f"; the same command continues after {kept} bytes" if kept else ""
        raise UserError(f"{url}: not fetched ({error}){advice}") from error


def _request(url: str, start: int) -> HTTPResponse:
    headers = {"User-Agent": "ttt-bench"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)


def _stated_size(error: urllib.error.HTTPError) -> int | None:
    """Return the size of the file as a server states it when asked for bytes beyond the end."""
    match = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    return int(match[1]) if match else None
