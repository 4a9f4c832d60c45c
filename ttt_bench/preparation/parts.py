"""Preparation: what is made of a sample before the device is touched, part by part.

It runs in the main process or in a loader process, and needs the entry and its random generators
alone.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import metadata

import numpy as np
import torch
from PIL import Image

from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError, described
from ttt_bench.api.inputs import Inputs, NormalDraw
from ttt_bench.api.sample import SampleRNG
from ttt_bench.api.views import ViewSet
from ttt_bench.cache.features import FeatureCache, image_name, views_name
from ttt_bench.cache.store import Store, Stored
from ttt_bench.preparation.pixels import PixelMaker

# Samples whose decoded images are kept until their other parts have been made.
KEPT_SAMPLES = 32

Allocate = Callable[[tuple[int, ...], type[np.generic]], np.ndarray]


@dataclass(frozen=True)
class Opened:
    """The part that says whether an image can be read, and its digest."""


@dataclass(frozen=True)
class Pixels:
    """The part of transformed pixels.

    Attributes:
        size: the side in pixels, None for the backbone's own.
    """

    size: int | None


@dataclass(frozen=True)
class Views:
    """The part of the images that a view set draws."""

    view_set: ViewSet


@dataclass(frozen=True)
class Numbers:
    """The part of a large draw of random numbers."""

    draw: NormalDraw


Part = Opened | Pixels | Views | Numbers


@dataclass
class Made:
    """One part of one sample.

    Attributes:
        arrays: by name; empty where the part was not needed.
        seconds: what making it took, decoding aside.
        digest: of the decoded image (`Opened`).
        image: the decoded image, where the method reads it (`Opened`).
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    seconds: float = 0.0
    digest: str = ""
    image: Image.Image | None = None


class Preparation:
    """The parts of a dataset's samples.

    Attributes:
        inputs: what the method asks for.
        caches: the feature caches by view set, None for plain images; empty without a cache.
        decode: returns the decoded image of an entry, or raises a `UserError`.
        digest: returns the digest of an entry's pixels, or raises a `UserError`.
    """

    def __init__(
        self,
        dataset: Dataset,
        pixel_maker: PixelMaker,
        seed: int,
        inputs: Inputs,
        caches: Mapping[ViewSet | None, FeatureCache],
        opened: int = 0,
    ) -> None:
        """Prepare nothing yet.

        Args:
            dataset: the dataset.
            pixel_maker: transforms images.
            seed: the seed of every random draw.
            inputs: what the method asks for.
            caches: the feature caches by view set, None for plain images.
            opened: how many samples are opened before the image of the first one is read.
        """
        self.dataset = dataset
        self.pixel_maker = pixel_maker
        self.seed = seed
        self.inputs = inputs
        self.caches = caches
        # The parts of a sample need its image and its digest again.
        kept = max(KEPT_SAMPLES, opened)
        self.decode = lru_cache(kept)(partial(open_entry, dataset))
        self.digest = lru_cache(kept)(self._digest)
        self._digests = Store({"digests": "of decoded images", "decoders": _decoders(dataset)})

    def parts(self) -> list[Part]:
        """Return the parts that the method will ask for, in the order of `Inputs`."""
        inputs = self.inputs
        sizes = [None, *inputs.pixels] if inputs.image_features else inputs.pixels
        return [
            Opened(),
            *(Pixels(size) for size in dict.fromkeys(sizes)),
            *(Views(view_set) for view_set in inputs.view_sets),
            *(Numbers(draw) for draw in inputs.draws),
        ]

    def _is_needed(self, index: int, part: Pixels | Views) -> bool:
        """Say whether the method needs a part itself, or its features are not in the cache."""
        view_set = part.view_set if isinstance(part, Views) else None
        wanted = self.inputs.pixels if isinstance(part, Pixels) else self.inputs.view_pixels
        asked = part.size if isinstance(part, Pixels) else part.view_set
        cache = self.caches.get(view_set)
        if asked in wanted or cache is None:
            return True
        digest = self.digest(index)
        name = digest if view_set is None else views_name(digest, self.rng(index))
        return name not in cache.store.has([name])

    def bytes(self, part: Part) -> int:
        """Return the size of a part in bytes, at most."""
        match part:
            case Pixels():
                return self.pixel_maker.bytes(part.size)
            case Views():
                return self.pixel_maker.bytes(None, part.view_set.images)
            case Numbers():
                return part.draw.bytes
            case Opened():
                return 0

    def rng(self, index: int) -> SampleRNG:
        """Return the random generators of an entry."""
        return SampleRNG(self.seed, self.dataset.sample_id(index))

    def make(self, index: int, part: Part, allocate: Allocate = np.empty) -> Made:
        """Make one part of one entry.

        Args:
            index: the entry.
            part: what to make of it.
            allocate: gives arrays to fill.

        Raises:
            UserError: the image cannot be read.
        """
        if isinstance(part, Pixels | Views) and not self._is_needed(index, part):
            return Made()
        image = self.decode(index) if isinstance(part, Pixels | Views) else None
        started = time.perf_counter()
        match part:
            case Opened():
                return self._open(index)
            case Numbers():
                shapes = dict(part.draw.shapes)
                into = {name: allocate(shape, np.float32) for name, shape in shapes.items()}
                tensors = {name: torch.from_numpy(array) for name, array in into.items()}
                part.draw.make(self.rng(index), tensors)
                made = Made(into)
            case Pixels():
                assert image is not None
                made = Made({"pixels": self._prepare([image], part.size, allocate)})
            case Views():
                assert image is not None
                side = self.pixel_maker.backbone.image_size
                drawn = part.view_set.draw(image, self.rng(index), side)
                pixels = self._prepare(drawn.images, None, allocate)
                made = Made({"pixels": pixels, **drawn.numbers})
        made.seconds = time.perf_counter() - started
        return made

    def _digest(self, index: int) -> str:
        """Return the digest of an entry's pixels, without decoding where its bytes are known.

        Raises:
            UserError: the image cannot be read.
        """
        content = self._content(index)
        if content:
            known = self._digests.read([content]).get(content)
            if known is not None:
                return known.value.decode()
        digest = image_name(self.decode(index))
        if content:
            self._digests.write({content: Stored(digest.encode(), 0.0)})
        return digest

    def _open(self, index: int) -> Made:
        if self.inputs.images:
            image = self.decode(index)
            return Made(digest=image_name(image), image=image)
        return Made(digest=self.digest(index))

    def _prepare(
        self, images: Sequence[Image.Image], size: int | None, allocate: Allocate
    ) -> np.ndarray:
        side = size or self.pixel_maker.backbone.image_size
        into = allocate((len(images), 3, side, side), self.pixel_maker.dtype(size))
        return self.pixel_maker.prepare(images, size, into)

    def _content(self, index: int) -> str:
        """Return a hash of the bytes that an entry is decoded from, "" where there are none."""
        if not self.caches:
            return ""
        with suppress(OSError, UserError):
            encoded = self.dataset.encoded(index)
            if encoded is not None:
                return hashlib.blake2b(encoded, digest_size=16).hexdigest()
        return ""


def _decoders(dataset: Dataset) -> dict[str, str]:
    """Return what decides how bytes become pixels."""
    packages = {name: metadata.version(name) for name in ("pillow", "ttt-bench")}
    return {**packages, "dataset": f"{type(dataset).__module__}.{type(dataset).__qualname__}"}


def open_entry(dataset: Dataset, index: int) -> Image.Image:
    """Decode an entry of a dataset to its pixels alone.

    Raises:
        UserError: it cannot be read, in whatever way the dataset says so.
    """
    try:
        return strip_metadata(dataset.open(index))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{dataset.name}: entry {dataset.entries[index].key} cannot be opened "
            f"({described(error)})"
        ) from error


def strip_metadata(image: Image.Image) -> Image.Image:
    """Return the pixels alone: a file's image knows its path, and the path its class."""
    return Image.frombytes(image.mode, image.size, image.tobytes())
