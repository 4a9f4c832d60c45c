"""Faults of one sort: randomness that does not come from the sample's stream."""

import random

import numpy as np
import torch

from tests.planted.clean import Fitted


class TorchSeeded(Fitted):
    """Seeds the global generator, so that its own draws are always the same."""

    def noise(self, stream, feature):
        torch.manual_seed(0)
        return torch.randn(4, len(feature))


class TorchDraws(Fitted):
    """Draws from torch's global generator."""

    def noise(self, stream, feature):
        return torch.randn(4, len(feature))


class NumpyDraws(Fitted):
    """Draws from numpy's global generator."""

    def noise(self, stream, feature):
        return torch.from_numpy(np.random.randn(4, len(feature))).float()


class PythonDraws(Fitted):
    """Draws from python's global generator."""

    def noise(self, stream, feature):
        return super().noise(stream, feature) + random.random()


class Switches(Fitted):
    """Changes how the whole process computes."""

    def fit(self, sample, stream, feature):
        torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
        return super().fit(sample, stream, feature)


class Unseeded(Fitted):
    """Draws from a generator that nobody seeded."""

    def noise(self, stream, feature):
        drawn = np.random.default_rng().standard_normal((4, len(feature)))
        return torch.from_numpy(drawn).float()


class SetupDraws(Fitted):
    """Starts every sample from weights that the global generator drew in the setup."""

    def setup(self, task):
        self.shift = torch.rand(task.backbone.feature_dim).to(task.device)
        super().setup(task)

    def score(self, feature):
        return super().score(feature + self.shift)


class DeafToTheSeed(Fitted):
    """Asks the stream, then draws from a seed of its own."""

    def draw(self, stream):
        rng.torch("weights")

    def noise(self, stream, feature):
        rng.torch("views")
        return torch.randn(4, len(feature), generator=torch.Generator().manual_seed(7))
