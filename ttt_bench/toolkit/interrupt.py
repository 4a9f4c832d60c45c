"""Ctrl-C that cannot be lost.

Python turns the signal into a KeyboardInterrupt at whatever line runs, and one that arrives inside
a finalizer is swallowed. Here the signal also sets a flag, which the engine looks at between
batches. A second signal ends the process at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130

_interrupted = threading.Event()


def check_interrupted() -> None:
    """Raise where the user has interrupted the command.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Take over Ctrl-C for the time of a command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _interrupted.clear()
    before, hook = signal.signal(signal.SIGINT, _on_signal), sys.unraisablehook
    sys.unraisablehook = lambda error: None if _is_interrupt(error) else hook(error)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = hook
        _interrupted.clear()


def _is_interrupt(error: Any) -> bool:
    """Say whether what a finalizer raised is the interrupt, which the flag keeps."""
    return error.exc_type is not None and issubclass(error.exc_type, KeyboardInterrupt)


def _on_signal(number: int, frame: Any) -> None:
    if _interrupted.is_set():
        print("ttt-bench: interrupted twice; ended at once", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
    _interrupted.set()
    raise KeyboardInterrupt
