"""Faults: a wrong prediction, declaration or refusal."""

from typing import Annotated

import torch
from PIL import Image
from pydantic import ConfigDict, PlainSerializer

from tests.planted.clean import Fitted, FittedConfig
from ttt_bench import AdapterConfig, Prediction, Sample


class BestStep(Fitted):
    """Reports the most confident step, not the last."""

    def report(self, steps):
        return Prediction(steps[steps.softmax(dim=1).amax(dim=1).argmax()] + 1e-3, steps)


class NotANumber(Fitted):
    """Returns a step in the middle that is not finite."""

    def report(self, steps):
        steps[0] = torch.nan
        return Prediction(steps[-1], steps)


class OneTooMany(Fitted):
    """Returns a score for a background class."""

    def report(self, steps):
        padded = torch.nn.functional.pad(steps, (0, 1))
        return Prediction(padded[-1], padded)


class OneBuffer(Fitted):
    """Writes every prediction into the same tensor."""

    scores = None

    def report(self, steps):
        self.scores = steps.clone() if self.scores is None else self.scores.copy_(steps)
        return Prediction(self.scores[-1], steps)


class TextUndeclared(Fitted):
    """Embeds a prompt of its own, and declares image features alone."""

    def setup(self, task):
        super().setup(task)
        self.prompt = task.backbone.encode_text(["a photo"])[0]


class TextThroughTheNetwork(Fitted):
    """Embeds tokens through the network, past the backbone's functions."""

    def setup(self, task):
        super().setup(task)
        tokens = torch.zeros(1, 2, dtype=torch.long, device=task.device)
        network = task.backbone.model
        self.token = getattr(network, "text", network).token_embedding(tokens)


class RoundedConfig(AdapterConfig):
    """A rate that JSON rounds."""

    steps: int = 2
    lr: Annotated[float, PlainSerializer(lambda lr: round(lr, 2), when_used="json")] = 0.0125


class LosesConfig(Fitted):
    Config = RoundedConfig


class OpenConfig(FittedConfig):
    """Takes any key, so that a typing error changes nothing."""

    model_config = ConfigDict(extra="ignore")


class TakesAnyKey(Fitted):
    Config = OpenConfig


class Standardizes(Fitted):
    """Divides by the image's own deviation."""

    def features(self, samples):
        spread = torch.stack([pixels.std(correction=0) for pixels in self.grey(samples)])
        return super().features(samples) / spread[:, None].to(self.task.device)

    def grey(self, samples):
        return [
            torch.frombuffer(bytearray(sample.image.convert("L").tobytes()), dtype=torch.uint8)
            .float()
            .unflatten(0, (sample.image.height, -1))
            for sample in samples
        ]

    def report(self, steps):
        return super().report(steps / steps.detach().abs().max())


class Halves(Fitted):
    """Encodes the image at half its size."""

    def features(self, samples):
        half = [
            Sample(
                sample.id,
                sample.image.resize(
                    (sample.image.width // 2, sample.image.height // 2), Image.Resampling.BOX
                ),
            )
            for sample in samples
        ]
        return super().features(half)


class Margin(Fitted):
    """Scales the scores by the margin over the second class."""

    def report(self, steps):
        first, second = steps.topk(2, dim=1).values.T
        return super().report(steps * (first - second)[:, None].clamp(min=1))


class Stops(Fitted):
    """Raises in its setup."""

    def setup(self, task):
        raise ZeroDivisionError("no views")
