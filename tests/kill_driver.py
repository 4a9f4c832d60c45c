"""A driver that kills a run again and again: `python kill_driver.py SEED KILLS COMMAND...`

Each attempt is a fork of a process that has imported everything and computed nothing, so that its
time goes into the run. It gets SIGKILL at a random moment; the last one is left alone.
"""

import os
import random
import signal
import sys
import time

from ttt_bench.cli import main

# A process that dies while it writes is the rarer and the worse case: so many attempts die there.
AT_WRITES = 8


def attempt(command: list[str], die_at: int | None = None) -> int:
    """Start the command in a fork; kill it at the n-th fsync or replace."""
    child = os.fork()
    if child:
        return child
    if die_at is not None:
        calls = 0

        def dying(original):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls == die_at:
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
    draw = random.Random(int(seed))
    killed = 0
    while killed < int(kills):
        at_write = killed < AT_WRITES
        child = attempt(command, draw.randint(1, 7) if at_write else None)
        if not at_write:
            time.sleep(draw.uniform(0.2, 4))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(f"finished after {killed} kills, too soon", file=sys.stderr)
            sys.exit(3)
        killed += 1
    _, status = os.waitpid(attempt(command), 0)
    print(f"killed {killed} times")
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    run()
