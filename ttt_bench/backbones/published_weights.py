"""Published weights: from the cache of the model library, or from the network if it answers."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.client import HTTPException
from typing import TypeVar
from urllib.parse import urlsplit

from huggingface_hub import constants as hub

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.backbones.quiet import quiet

# Seconds in which a host has to answer. Model libraries wait for minutes, and try again.
SECONDS = 4.0

BuiltT = TypeVar("BuiltT")


def load_published(
    name: str, hub_id: str | None, url: str | None, build: Callable[[], BuiltT]
) -> BuiltT:
    """Build a model with its published weights.

    Args:
        name: the backbone's name, for messages.
        hub_id: the model's name on the Hugging Face hub, None or "" if it is elsewhere.
        url: the address of the weights if they are not on the hub.
        build: builds the model by its library, which keeps downloaded weights in a cache.

    Raises:
        UserError: the weights are not in the cache and cannot be downloaded.
    """
    address = hub.ENDPOINT if hub_id else url or ""
    silence = why_silent(address)
    try:
        with quiet(), no_network() if silence else nullcontext():
            return build()
    # Model libraries and their HTTP clients fail in many ways.
    except Exception as error:
        host = urlsplit(address).netloc or address
        reason = f"{host} does not answer: {silence}" if silence else first_line(error)
        raise UserError(
            f"{name}: the weights could not be loaded ({reason}); they are downloaded once, so run "
            "this with a network, or give a file with --weights"
        ) from error


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
