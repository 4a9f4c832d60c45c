"""Commands that are killed again and again, for tests of online methods."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def killed(seed: int, kills: int, command: list[str], plugin: str = "") -> str:
    """Run a command that is killed at random writes, and return what it says on standard error.

    Args:
        seed: the seed of the moments.
        kills: how often it is killed.
        command: the words of the command.
        plugin: a module whose methods the command knows, "" for those of the tests alone.
    """
    driver = ROOT / "tests" / "stream_kill_driver.py"
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, str(driver), str(seed), str(kills), plugin, *command],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr
