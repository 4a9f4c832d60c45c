"""The method mirror: a whole plugin in one file."""

from typing import Annotated

from PIL import ImageOps
from pydantic import Field

from ttt_bench import Adapter, AdapterConfig, AdapterSpec, Prediction, Sample, hookimpl


class MirrorConfig(AdapterConfig):
    """The fields that `--set KEY=VALUE` changes."""

    weight: Annotated[float, Field(ge=0, le=1, description="weight of the mirrored image")] = 0.5


class Mirror(Adapter[MirrorConfig]):
    """Classifies the mean feature of an image and its mirror image."""

    Config = MirrorConfig

    def adapt(self, samples, rngs):
        """Return a prediction for each sample, from its own two images alone."""
        mirrored = [Sample(sample.id, ImageOps.mirror(sample.image)) for sample in samples]
        plain, flipped = self.task.encode_image(samples), self.task.encode_image(mirrored)
        mean = (1 - self.config.weight) * plain + self.config.weight * flipped
        return [Prediction(self.task.logits(feature)) for feature in mean]


@hookimpl
def ttt_bench_adapters():
    """Return the method of this file."""
    return [AdapterSpec(name="mirror", summary="an image and its mirror", code="mirror:Mirror")]
