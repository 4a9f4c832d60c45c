"""PreparedSample: a sample as the engine gives it to a method."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from PIL import Image

from ttt_bench.api.sample import Sample


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PreparedSample(Sample):
    """A sample whose image is decoded when it is first read.

    Attributes:
        digest: of the decoded image; "" for a copy with another image. Not an argument, so that
            such a copy comes without it.
    """

    digest: str = field(init=False, default="", repr=False)

    @classmethod
    def of(cls, name: str, digest: str, decode: Callable[[], Image.Image]) -> "PreparedSample":
        """Make a sample.

        Args:
            name: its id.
            digest: the digest of its image.
            decode: decodes its image.
        """
        sample = cls.__new__(cls)
        object.__setattr__(sample, "id", name)
        object.__setattr__(sample, "digest", digest)
        _decoders[sample] = decode
        return sample

    def __getattr__(self, name: str) -> Any:
        """Decode the image; called for an attribute that is not set."""
        if name != "image" or self not in _decoders:
            raise AttributeError(name)
        image = _decoders.pop(self)()
        object.__setattr__(self, "image", image)
        return image


# Outside of the samples: what decodes an image knows the dataset, and the dataset the labels.
_decoders: WeakKeyDictionary[PreparedSample, Callable[[], Image.Image]] = WeakKeyDictionary()


def is_decoded(sample: PreparedSample) -> bool:
    """Say whether the image of a sample has been decoded."""
    return sample not in _decoders
