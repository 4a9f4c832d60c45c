"""The cores that this process may use, within its container's limits."""

import os
from contextlib import suppress
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the cores that this process may use: its affinity, within its container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    # The quota and the period in microseconds; "max" stands for no quota.
    quota = container_limit("cpu.max")
    if quota is None:
        return cores
    period = int((CONTROL_GROUP / "cpu.max").read_text().split()[1])
    return max(1, min(cores, quota // period))


def container_limit(name: str) -> int | None:
    """Return a limit of the container, None where there is none.

    Args:
        name: the file of the limit, such as `memory.max`.
    """
    with suppress(OSError, ValueError, IndexError):
        return int((CONTROL_GROUP / name).read_text().split()[0])
    return None
