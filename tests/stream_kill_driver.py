"""A driver that kills runs of online methods at their writes.

    python stream_kill_driver.py SEED KILLS PLUGIN COMMAND...

PLUGIN is a module whose methods the command knows, "" for none. Every attempt is a fork that gets
SIGKILL at one of its first writes, the last one is left alone.
"""

import importlib
import os
import random
import sys

from tests.kill_driver import attempt, import_everything
from tests.streaming_methods import SPECS, always_save_states
from ttt_bench import registered


def run() -> None:
    """Kill, start again, and leave with the last attempt's exit code."""
    seed, kills, plugin, *command = sys.argv[1:]
    draw = random.Random(int(seed))
    always_save_states()
    more = importlib.import_module(plugin).ttt_bench_adapters() if plugin else []
    with registered(adapters=[*SPECS, *more]):
        import_everything(command)
        for number in range(int(kills)):
            # A state and a chunk are two files of three steps each: every step is hit.
            _, status = os.waitpid(attempt(command, draw.randint(4, 16)), 0)
            if not os.WIFSIGNALED(status):
                print(f"finished after {number} kills, too soon", file=sys.stderr)
                sys.exit(3)
        _, status = os.waitpid(attempt(command), 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    run()
