"""The examination: everything that `ttt-bench doctor` finds out, as plain values."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ttt_bench.api.errors import UserError, described
from ttt_bench.doctor.folders import folders
from ttt_bench.doctor.machine import Device, device_named, devices, machine, versions
from ttt_bench.doctor.plugins import plugin_states
from ttt_bench.registry import registry


def examine(device: str | None = None, data_root: Path | None = None) -> dict[str, Any]:
    """Examine the machine, the plugins and the folders.

    Args:
        device: the only device to look at; None for all.
        data_root: the folder that the user gave to look for datasets in, None for none.

    Returns:
        `versions`, `machine`, `devices`, `plugins`, `folders`, and `problems`, a line for each
        thing that is broken.

    Raises:
        UserError: this machine has no such device.
    """
    known: list[Device] = []
    problems: list[str] = []
    try:
        known = devices()
    except UserError as error:
        problems.append(str(error))
    if device is not None and known:
        known = [device_named(device, known)]
    states = plugin_states(registry())
    examined = {
        "versions": versions(),
        "machine": asdict(machine()),
        "devices": [asdict(one) for one in known],
        "plugins": [asdict(state) for state in states],
        "folders": _folders(data_root, problems),
    }
    return {**examined, "problems": [*problems, *_problems(examined)]}


def _folders(data_root: Path | None, problems: list[str]) -> list[dict[str, Any]]:
    """Return the state of the folders; without torch nothing says where they are."""
    try:
        from ttt_bench.cache.store import cache_folder
        from ttt_bench.runs.folder import DEFAULT_OUTPUT
    except Exception as error:
        problems.append(f"ttt-bench cannot run anything ({described(error)})")
        return []
    return [asdict(one) for one in folders(cache_folder(), DEFAULT_OUTPUT, data_root)]


def _problems(examined: dict[str, Any]) -> Iterator[str]:
    missing = [name for name, version in examined["versions"].items() if not version]
    if missing:
        yield f"not installed: {', '.join(missing)}"
    for plugin in examined["plugins"]:
        for problem in plugin["problems"]:
            yield f"plugin {plugin['name']} ({plugin['distribution']}) is broken: {problem}"
    for folder in examined["folders"]:
        if folder["problem"]:
            yield f"{folder['purpose']}: cannot write to {folder['path']} ({folder['reason']})"


def proof_problems(proofs: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for everything that failed on a device.

    Args:
        proofs: what `proof.prove` returned for each device.
    """
    for proof in proofs:
        for part, word in (("goldens", "golden"), ("checks", "checks of"), ("speeds", "speed of")):
            for row in proof[part]:
                if row["error"]:
                    yield f"{word} {row['name']} on {proof['device']}: {row['error']}"
