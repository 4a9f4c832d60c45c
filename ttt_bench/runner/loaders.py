"""The number of loaders that each worker gets."""

import sys

from ttt_bench.runner.config import RunConfig
from ttt_bench.toolkit.cores import usable_cores

MOST = 16


def number_of_loaders(config: RunConfig, device: str) -> int:
    """Return how many loaders each worker gets on this machine.

    `auto` is none on a CPU, where they would take the method's cores, and none with MPS, where
    processes that fork are not safe; else the worker's share of the cores that this process may
    use, at most 16. A number that asks for more processes than
    there are cores is taken as it is, with a line on standard error.

    Args:
        config: what the user asks for.
        device: the device that computes.
    """
    cores, workers = usable_cores(), config.workers or 1
    local = config.executor == "local"
    if config.loaders == "auto":
        # Another executor knows its own machines, and gives no more than they have room for.
        share = cores // workers if local else MOST
        return 0 if device in ("cpu", "mps") else max(1, min(MOST, share))
    if local and config.loaders and workers * config.loaders > cores:
        print(
            f"--loaders {config.loaders} for each of {workers} workers are more than the {cores} "
            "cores here; fewer may be faster",
            file=sys.stderr,
        )
    return config.loaders
