"""EATA: ETA that stays near the weights which matter on the training distribution.

Paper: Niu, Wu, Zhang, Chen, Zheng, Zhao and Tan 2022, Efficient Test-Time Model Adaptation without
    Forgetting (ICML 2022, arXiv 2204.02610), section 4.
Code: mr-eggplant/EATA (MIT licence).
Kind: stream. Weight and bias of the normalization layers learn, on the batch's own statistics.
    The setup sees training images without their labels.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy
from ttt_bench_tta.methods.eta import Eta, EtaConfig, Margins, select, weighted_entropy
from ttt_bench_tta.normalization import weights_of
from ttt_bench_tta.optimizers import descend
from ttt_bench_tta.source import TrainingBatches, require_training_images


class EataConfig(EtaConfig):
    """The paper's values for ImageNet-C and ResNet-50 (section 5)."""

    fisher_alpha: float = Field(2000.0, ge=0, description="weight of the regularizer")
    fisher_images: int = Field(
        2000, ge=1, description="training images that tell which weights matter, at most"
    )


def fisher_information(
    model: WorkingCopy, batches: Iterable[Float[Tensor, "batch 3 side side"]]
) -> dict[str, Tensor]:
    """Return the importance of every trained parameter: the mean squared gradient of a batch.

    The loss is the batch's mean cross entropy to the model's own predicted classes.

    Args:
        model: the working copy, as it is before any adaptation.
        batches: training images.

    Source: equation 9; the gradient of a batch's mean, as released.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    importance = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}
    count = 0
    for pixels in batches:
        logits = model(pixels)
        loss = F.cross_entropy(logits, logits.argmax(dim=1))
        gradients = torch.autograd.grad(loss, list(trained.values()))
        for name, gradient in zip(trained, gradients, strict=True):
            importance[name] += gradient**2
        count += 1
    return {name: total / count for name, total in importance.items()}


def learn(
    model: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    pixels: Float[Tensor, "batch 3 side side"],
    mean: Float[Tensor, " classes"] | None,
    margins: Margins,
    fisher: dict[str, Tensor],
    source: dict[str, Tensor],
    alpha: float,
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, " classes"] | None]:
    """Learn from the chosen samples of a batch; return its logits and the new mean prediction.

    Args:
        model: the working copy, which is trained in place.
        optimizer: the optimizer of its parameters.
        pixels: the images.
        mean: the mean prediction before.
        margins: the margins of the filters.
        fisher: importance of every trained parameter, by name.
        source: the parameters before any adaptation, by name.
        alpha: the weight of the regularizer.
    """
    logits = model(pixels)
    kept, mean = select(logits.detach(), mean, margins)
    if kept.any():
        drift = [
            (fisher[name] * (parameter - source[name]) ** 2).sum()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
        loss = weighted_entropy(logits[kept], margins.entropy)
        descend(loss + alpha * torch.stack(drift).sum(), optimizer)
    return logits.detach(), mean


class Eata(Eta):
    """`eata`: ETA with a regularizer.

    Attributes:
        fisher: importance of every trained parameter, by name.
        source: the parameters before any adaptation, by name.
    """

    Config = EataConfig
    config: EataConfig
    fixed = ("source", "fisher")

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        require_training_images(task, "eata", instead="eta")
        self.source = weights_of(self.model)
        config = self.config
        name = f"Fisher information of {config.fisher_images} images by {config.batch_size}"
        self.fisher = task.once(name, self.importance)

    def importance(self) -> dict[str, Tensor]:
        """Return the importance of every trained parameter, by name; the same for every stream."""
        with self.task.forward_pass():
            return fisher_information(self.model, self.training_batches())

    def training_batches(self) -> Iterator[Float[Tensor, "batch 3 side side"]]:
        """Yield training images in batches, each spread over the whole training set."""
        batches = TrainingBatches(self.task, self.config.batch_size, self.config.fisher_images)
        for number in range(len(batches)):
            yield batches.pixels(number)

    @override
    def predict(
        self, pixels: Float[Tensor, "batch 3 side side"], rngs: Sequence[SampleRNG]
    ) -> Float[Tensor, "batch classes"]:
        logits, self.mean = learn(
            self.model,
            self.optimizer,
            pixels,
            self.mean,
            self.margins,
            self.fisher,
            self.source,
            self.config.fisher_alpha,
        )
        return logits
