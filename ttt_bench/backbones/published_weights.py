"""Published weights: from the cache of the model library, or from the network if it answers."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar
from urllib.parse import urlsplit

from huggingface_hub import constants as hub

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.toolkit.network import no_network, why_silent
from ttt_bench.toolkit.quiet import quiet

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
