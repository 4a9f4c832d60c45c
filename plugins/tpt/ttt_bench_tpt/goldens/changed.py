"""The samples of a golden file: its views, changed by an operation that is named and exact."""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

HEIGHT, WIDTH, CHANNELS = 2, 3, 1

CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "as is": lambda views: views,
    "flip W": lambda views: views.flip(WIDTH),
    "flip H": lambda views: views.flip(HEIGHT),
    "flip H and W": lambda views: views.flip(HEIGHT, WIDTH),
    "roll W by 8": lambda views: views.roll(8, WIDTH),
    "roll W by 16": lambda views: views.roll(16, WIDTH),
    "roll H by 8": lambda views: views.roll(8, HEIGHT),
    "reverse the channels": lambda views: views.flip(CHANNELS),
    "reverse the channels and flip H": lambda views: views.flip(CHANNELS, HEIGHT),
    "transpose H and W": lambda views: views.mT,
    "negate": lambda views: -views,
    "negate and flip W": lambda views: -views.flip(WIDTH),
}


def changed(
    views: Float[Tensor, "views 3 side side"], name: str
) -> Float[Tensor, "views 3 side side"]:
    """Return the views of a sample.

    Args:
        views: the views of the file.
        name: the operation, a key of `CHANGES`.
    """
    return CHANGES[name](views).contiguous()
