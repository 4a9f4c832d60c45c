"""A driver that kills a run again and again: `python kill_driver.py SEED KILLS COMMAND...`

Each attempt is a fork of a process that has imported everything and computed nothing, so that its
time goes into the run. It gets a signal that ends it at one of its first writes or soon after one;
the last one is left alone.
"""

import importlib
import os
import random
import signal
import sys
from itertools import pairwise

from ttt_bench.cli import main
from ttt_bench.registry import registry
from ttt_bench.runs.code import code_files, engine_digest

# A process that dies while it writes is the rarer and the worse case: so many attempts die there.
AT_WRITES = 8


# About what a chunk takes, so that the others die while they compute.
CHUNK_SECONDS = 0.1
# A chunk is a file of three calls: no attempt ends more than two.
MOST_CALLS = 4


def import_everything(command: list[str]) -> None:
    """Import what a command of methods on the embedded set uses, and digest the code of it."""
    for module in ("ttt_bench.python.running", "ttt_bench.report.render", "torch._dynamo"):
        importlib.import_module(module)
    known = registry()
    methods = [name for option, name in pairwise(command) if option == "-m"]
    specs = [known.adapters.find(name).spec for name in methods]
    specs += [known.backbones.find(name).spec for name in ("tiny-clip", "tiny-resnet")]
    for spec in (*specs, known.datasets.find("cifar10-c-mini").spec):
        spec.load()
        code_files(spec)
    engine_digest()


def attempt(command: list[str], die_at: int | None = None, seconds: float = 0) -> int:
    """Start the command in a fork; end it at the n-th fsync or replace.

    Args:
        command: the words of the command.
        die_at: the number of the call, None to leave the fork alone.
        seconds: how long after that call it ends; 0 for at once. It ends a few calls later all the
            same, however fast the machine is.
    """
    child = os.fork()
    if child:
        return child
    if die_at is not None:
        calls = 0

        def dying(original):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls == die_at and seconds:
                    # Nobody handles its signal, which ends the process.
                    signal.setitimer(signal.ITIMER_REAL, seconds)
                elif calls == die_at or calls == die_at + MOST_CALLS:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **options)

            return call

        # Before the file is safe, before it has its name, before its folder knows.
        os.fsync, os.replace = dying(os.fsync), dying(os.replace)
    try:
        main(command)
    except SystemExit as left:
        os._exit(int(left.code or 0))
    os._exit(1)


def run() -> None:
    """Kill, start again, and leave with the last attempt's exit code."""
    seed, kills, *command = sys.argv[1:]
    import_everything(command)
    draw = random.Random(int(seed))
    for number in range(int(kills)):
        if number < AT_WRITES:
            child = attempt(command, draw.randint(1, 7))
        else:
            child = attempt(command, draw.randint(1, 3), draw.uniform(0.001, CHUNK_SECONDS))
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(f"finished after {number} kills, too soon", file=sys.stderr)
            sys.exit(3)
    _, status = os.waitpid(attempt(command), 0)
    print(f"killed {kills} times")
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    run()
