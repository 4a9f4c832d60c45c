"""Sample, SampleRNG and Prediction: what a method is given for an image, and what it returns."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One test image, without its label.

    Attributes:
        id: an opaque name; a sample has the same id in every run.
        image: RGB, as decoded, before any resize.
    """

    id: str
    image: Image.Image


@dataclass(frozen=True, slots=True)
class SampleRNG:
    """The randomness of one sample: one generator for each purpose.

    A draw depends on the run's seed, the sample and the purpose alone, never on the order of
    samples, the batch, the worker or the device. Draw on the CPU, then move.
    """

    seed: int
    sample_id: str

    def _integer(self, purpose: str) -> int:
        text = f"{self.seed}\0{self.sample_id}\0{purpose}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")

    def torch(self, purpose: str) -> torch.Generator:
        """Return a fresh CPU generator; the same purpose gives the same numbers again."""
        return torch.Generator().manual_seed(self._integer(purpose))

    def numpy(self, purpose: str) -> np.random.Generator:
        """Return a fresh numpy generator; its numbers are not those of `torch(purpose)`."""
        return np.random.default_rng(self._integer(purpose))


@dataclass(frozen=True)
class Prediction:
    """The scores of one sample.

    Attributes:
        logits: the reported scores `[classes]`.
        step_logits: the scores after every step `[steps classes]`, for a method that iterates; the
            last row is the reported one.
        unadapted_logits: the scores of the model before the first step `[classes]`, for a method
            that adapts. They show what adaptation changed and are never reported.
    """

    logits: Float[Tensor, " classes"]
    step_logits: Float[Tensor, "steps classes"] | None = None
    unadapted_logits: Float[Tensor, " classes"] | None = None
