"""Methods and a backbone for the check of declared capabilities."""

from abc import abstractmethod

import torch

from ttt_bench import Adapter, Backbone, Classifier, MaskedAutoencoder, Prediction
from ttt_bench.backbones.open_clip import TinyClip


class GridEncoder(Backbone):
    """A capability that a plugin brings."""

    @abstractmethod
    def encode_grid(self, pixels):
        """Return a grid of features."""


class GridClip(TinyClip, GridEncoder):
    """A backbone with that capability."""

    def encode_grid(self, pixels):
        return self.encode_image(pixels)[:, None, None]


class UsesTheGrid(Adapter):
    """Uses the plugin's capability."""

    def adapt(self, samples, rngs):
        grid = self.task.backbone.encode_grid(self.task.pixels(samples))
        return [Prediction(self.task.logits(feature[0, 0])) for feature in grid]


class RunsTheNetwork(Adapter):
    """Runs the whole network, and with it the head of a classifier."""

    uses_backbone_classifier = False

    def adapt(self, samples, rngs):
        with torch.no_grad():
            scores = self.task.backbone.model(self.task.pixels(samples))
        return [Prediction(one[: len(self.task.classes)]) for one in scores]


class RequiresAClassifier(RunsTheNetwork):
    """Asks for the capability by its class."""

    def adapt(self, samples, rngs):
        backbone = self.task.require(Classifier)
        features = self.task.encode_image(samples)
        return [Prediction(one[: len(self.task.classes)]) for one in backbone.head(features)]


class RunsTheDecoder(Adapter):
    """Runs a layer of the decoder, past the backbone's functions."""

    uses_backbone_classifier = False

    def adapt(self, samples, rngs):
        backbone = self.task.backbone
        features = self.task.encode_image(samples)
        with torch.no_grad():
            decoded = backbone.model.decoder_embed(features)
        return [Prediction(one[: len(self.task.classes)]) for one in decoded]


class Reconstructs(Adapter):
    """Adds the reconstruction loss to the scores."""

    uses_backbone_classifier = False

    def adapt(self, samples, rngs):
        backbone = self.task.require(MaskedAutoencoder)
        noise = torch.linspace(0, 1, backbone.mask_grid**2)[None]
        with torch.no_grad():
            losses = [
                backbone.reconstruction_loss(self.task.pixels([sample]), noise, 0.5)
                for sample in samples
            ]
        return [Prediction(loss + torch.zeros(len(self.task.classes))) for loss in losses]
