"""Faults: randomness that does not come from the sample's generators."""

import random

import numpy as np
import torch

from tests.planted.clean import Fitted


class TorchSeeded(Fitted):
    """Seeds the global generator, so that its own draws are always the same."""

    def noise(self, rng, feature):
        torch.manual_seed(0)
        return torch.randn(4, len(feature))


class TorchDraws(Fitted):
    """Draws from torch's global generator."""

    def noise(self, rng, feature):
        return torch.randn(4, len(feature))


class NumpyDraws(Fitted):
    """Draws from numpy's global generator."""

    def noise(self, rng, feature):
        return torch.from_numpy(np.random.randn(4, len(feature))).float()


class PythonDraws(Fitted):
    """Draws from python's global generator."""

    def noise(self, rng, feature):
        return super().noise(rng, feature) + random.random()


class Switches(Fitted):
    """Changes a switch of the whole process."""

    def fit(self, sample, rng, feature):
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        return super().fit(sample, rng, feature)


class Unseeded(Fitted):
    """Draws from a generator that nobody seeded."""

    def noise(self, rng, feature):
        drawn = np.random.default_rng().standard_normal((4, len(feature)))
        return torch.from_numpy(drawn).float()


class SetupDraws(Fitted):
    """Starts every sample from weights that the global generator drew in the setup."""

    def setup(self, task):
        self.shift = torch.rand(task.backbone.feature_dim).to(task.device)
        super().setup(task)

    def score(self, feature):
        return super().score(feature + self.shift)


class IgnoresTheSeed(Fitted):
    """Asks the rng, then draws from a seed of its own."""

    def draw(self, rng):
        rng.torch("weights")

    def noise(self, rng, feature):
        rng.torch("views")
        return torch.randn(4, len(feature), generator=torch.Generator().manual_seed(7))
