"""Methods that work on a copy of the classifier: batch by batch, or on views of each image."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from ttt_bench import Adapter, AugMixViews, Inputs, Prediction, Sample, SampleRNG, Task

ConfigT = TypeVar("ConfigT", bound=Any)


class WorkingCopyAdapter(Adapter[ConfigT]):
    """A method that predicts each batch with a copy of the classifier, which it may change.

    Everything that it keeps between batches is an attribute: tensors, plain values, modules and
    optimizers.

    Attributes:
        fixed: names of the attributes that stay as `setup` makes them, and are no state.
        model: the copy, made once for each stream.
    """

    fixed: ClassVar[tuple[str, ...]] = ()

    @override
    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, pixels=(None,))

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.model = task.working_copy()

    @override
    def state(self) -> dict[str, Any]:
        return {name: value for name, value in super().state().items() if name not in self.fixed}

    @override
    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> Sequence[Prediction]:
        pixels = self.task.pixels(samples)
        with self.task.forward_pass():
            logits = self.predict(pixels, rngs)
        return [Prediction(scores) for scores in logits]

    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits of a batch; a method that adapts to it does so here.

        Args:
            pixels: the images, transformed.
            rngs: the random generators of each sample.
        """
        with torch.no_grad():
            return self.model(pixels)


class AugMixAdapter(Adapter[ConfigT]):
    """A method that looks at AugMix views of each image; its configuration has `views`.

    Attributes:
        model: the working copy of the classifier.
    """

    @property
    def view_set(self) -> AugMixViews:
        """The image and crops of it, mixed with chains of operations on them."""
        return AugMixViews(self.config.views)

    @override
    def inputs(self, task: Task) -> Inputs:
        return Inputs(image_features=False, view_pixels=(self.view_set,))

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.model = task.working_copy()
