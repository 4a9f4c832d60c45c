"""Continuing a run: what a run's folder may hold already, and what is refused."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt_bench.api.errors import UserError
from ttt_bench.runner.config import RunConfig
from ttt_bench.runs.card import PARTS, Card, differences
from ttt_bench.runs.code import changed_files, engine_digest
from ttt_bench.runs.folder import MANIFEST_FILE, UNREADABLE_FILE, RunFolder

# Fields that change when an unreadable image is repaired, removed or skipped.
REPAIRABLE = {
    "dataset", "revision", "samples", "n", "skipped", "chunks",
    "stream.order", "stream.revisited", "stream.revisited_chunks",
}  # fmt: skip
SHOWN_FILES = 5


@dataclass(frozen=True)
class Continuation:
    """What there is of a run before it starts.

    Attributes:
        manifest: the manifest of the same run, None where the folder holds none.
        chunks_count: whether chunk files of the folder may be this run's.
        adopted: a first attempt that met unreadable images, whose finished samples are used again.
    """

    manifest: Mapping[str, Any] | None = None
    chunks_count: bool = False
    adopted: tuple[RunFolder, Card] | None = None

    def require_same_engine(self, folder: RunFolder, half_finished: bool) -> None:
        """Refuse to continue a half-finished run with other code of ttt-bench itself.

        Raises:
            UserError: the engine's code differs from that of the first chunks.
        """
        if self.manifest is None or not half_finished:
            return
        before = self.manifest.get("harness", {})
        if before.get("code") != engine_digest():
            raise UserError(
                f"{folder.path} is half finished by other code of ttt-bench (version "
                f"{before.get('version')}); give --fresh to start anew"
            )


def continuation(
    folder: RunFolder, card: Card, code: Mapping[str, Mapping[str, str]], config: RunConfig
) -> Continuation:
    """Look at a run's folder before the run.

    Args:
        folder: the folder.
        card: the run's card.
        code: digests of the plugins' files, see `OpenRun`.
        config: what the user asked for.

    Raises:
        UserError: the folder holds another run, or anything but a run.
    """
    if config.fresh:
        return Continuation()
    files = folder.path
    if not folder.has(MANIFEST_FILE):
        # What a kill left of a manifest that never appeared is no run.
        if files.is_dir() and any(path.suffix != ".tmp" for path in files.iterdir()):
            return _without_manifest(folder, card, f"{files / MANIFEST_FILE} is missing")
        return Continuation(adopted=_first_attempt(folder, card, config))
    try:
        manifest, before = folder.manifest(), folder.card()
    except UserError as error:
        return _without_manifest(folder, card, str(error).rpartition(";")[0])
    if before.key == card.key:
        return Continuation(manifest, True)
    if _is_repaired(before, card) and folder.has(UNREADABLE_FILE):
        return Continuation(adopted=(folder, before))
    changed = changed_code(manifest, code) if before.method.get("code") else ""
    if before.method.get("code") != card.method.get("code") and changed:
        raise UserError(
            f"{files} holds a run of other code (changed: {changed}); give --fresh to start anew "
            "and keep it beside, or another --output"
        )
    raise UserError(
        f"{files} holds another run ({card.first_difference(before)}); give another --output, or "
        "--fresh to start anew and keep it beside"
    )


def _without_manifest(folder: RunFolder, card: Card, problem: str) -> Continuation:
    """Continue a run whose manifest is lost or damaged, where its chunks tell that it is the same.

    Raises:
        UserError: no chunk is of this run.
    """
    if not folder.holds_chunk_of(card.key):
        raise UserError(
            f"{folder.path} is not empty and holds no chunk of this run ({problem}); give another "
            "--output, or --fresh to start anew and keep it beside"
        )
    print(f"{problem}; it is made again", file=sys.stderr)
    return Continuation(None, True)


def changed_code(manifest: Mapping[str, Any], code: Mapping[str, Mapping[str, str]]) -> str:
    """Return the names of the plugins' files that changed since a run, at most a few.

    Args:
        manifest: the run's manifest.
        code: digests of the files now, see `OpenRun`.
    """
    before = manifest.get("code_files", {})
    names = [
        name
        for part in {**before, **code}
        for name in changed_files(before.get(part, {}), code.get(part, {}))
    ]
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - SHOWN_FILES} more" if len(names) > SHOWN_FILES else ""
    return ", ".join(names[:SHOWN_FILES]) + more


def _is_repaired(before: Card, now: Card) -> bool:
    """Say whether two cards differ at most in what a repaired image changes."""
    names = [str(card.protocol["dataset"]).partition(":")[0] for card in (before, now)]
    return names[0] == names[1] and all(
        name in REPAIRABLE
        for part in PARTS
        for name, _, _ in differences(getattr(before, part), getattr(now, part))
    )


def _first_attempt(
    folder: RunFolder, card: Card, config: RunConfig
) -> tuple[RunFolder, Card] | None:
    """Find a run of the same command, beside this one, that met unreadable images."""
    for path in _siblings(folder.path, config.method):
        candidate = RunFolder(path)
        with suppress(UserError):
            before = candidate.card()
            if before.key != card.key and _is_repaired(before, card):
                return candidate, before
    return None


def _siblings(path: Path, method: str) -> Iterator[Path]:
    if path.parent.is_dir():
        for sibling in sorted(path.parent.iterdir()):
            if sibling.name.startswith(method) and (sibling / UNREADABLE_FILE).exists():
                yield sibling
