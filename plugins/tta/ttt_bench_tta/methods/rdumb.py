"""RDumb: ETA that starts again from the trained weights after a fixed number of batches.

Paper: Press, Schneider, Kümmerer and Bethge 2023, RDumb: A simple approach that questions our
    progress in continual test-time adaptation (NeurIPS 2023, arXiv 2306.05401), section 4.
Code: oripress/CCC (MIT licence).
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
"""

from collections.abc import Sequence

from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task
from ttt_bench_tta.methods.eta import Eta, EtaConfig
from ttt_bench_tta.normalization import put_back, weights_of


class RdumbConfig(EtaConfig):
    """The paper's values for ImageNet-C and CCC (section 4)."""

    reset_every: int = Field(
        1000, ge=1, description="T: batches between two starts from the trained weights"
    )


class Rdumb(Eta):
    """`rdumb`: ETA with a new start now and then.

    Attributes:
        source: the parameters before any adaptation, by name.
        batches: the number of batches so far.
    """

    Config = RdumbConfig
    config: RdumbConfig
    fixed = ("source",)

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        self.source = weights_of(self.model)
        self.batches = 0

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        if self.batches % self.config.reset_every == 0:
            self.start_again()
        self.batches += 1
        return super().predict(pixels, rngs)

    def start_again(self) -> None:
        """Put back the trained weights; forget the optimizer's state and the mean prediction."""
        put_back(self.model, self.source)
        self.optimizer.state.clear()
        self.mean = None
