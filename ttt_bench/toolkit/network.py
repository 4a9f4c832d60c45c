"""The network: whether a host answers, and code that must not use it."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

from huggingface_hub import constants as hub

from ttt_bench.api.errors import first_line

# Seconds in which a host has to answer. Model libraries wait for minutes, and try again.
SECONDS = 4.0


def why_silent(address: str) -> str:
    """Say why a host does not answer an HTTP request within `SECONDS`, "" where it does.

    An error of the server is an answer.
    """
    reasons = ["timed out"]

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=SECONDS).close()
            reasons.append("")
        except urllib.error.HTTPError as error:
            error.close()
            reasons.append("")
        except urllib.error.URLError as error:
            reasons.append(str(error.reason))
        except (OSError, ValueError, HTTPException) as error:
            reasons.append(first_line(error))

    # Looking up a host's name takes no timeout, so the wait for the thread has one.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return reasons[-1]


@contextmanager
def no_network() -> Iterator[None]:
    """Let every connection fail at once inside the `with` block."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("there is no network")

    before = hub.HF_HUB_OFFLINE, socket.getaddrinfo
    hub.HF_HUB_OFFLINE, socket.getaddrinfo = True, refuse
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, socket.getaddrinfo = before
