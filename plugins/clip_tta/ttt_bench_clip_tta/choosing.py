"""The temperature of the control `temperature`, chosen on labelled images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from ttt_bench import Backbone, Dataset, DualEncoder, Sample, Task
from ttt_bench_clip_tta.prompts import PromptConfig, class_texts

WIDEST = 100.0
IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class Choice:
    """A temperature, and what it does to the loss.

    Attributes:
        temperature: the divisor of the logits.
        before: the mean negative log-likelihood of the labels without it, in nats.
        after: the same with it.
        images: how many images they are of.
    """

    temperature: float
    before: float
    after: float
    images: int


def choose(dataset: Dataset, backbone: Backbone) -> Choice:
    """Return the temperature under which zero-shot confidences fit the labels best.

    Args:
        dataset: labelled images that are no test images.
        backbone: a dual encoder.

    Raises:
        UserError: the backbone is no dual encoder.
    """
    task = Task(backbone, dataset.classes)
    text = class_texts(task, PromptConfig())
    indices = range(len(dataset.entries))
    logits: list[Tensor] = []
    for first in range(0, len(indices), IMAGES_AT_ONCE):
        part = indices[first : first + IMAGES_AT_ONCE]
        samples = [Sample(dataset.sample_id(index), dataset.open(index)) for index in part]
        features = F.normalize(task.encode_image(samples), dim=1)
        logits.append(task.require(DualEncoder).logit_scale.detach() * features @ text.T)
    labels = torch.tensor([dataset.entries[index].label for index in indices])
    return fitted(torch.cat(logits).cpu(), labels)


def fitted(logits: Float[Tensor, "images classes"], labels: Int[Tensor, " images"]) -> Choice:
    """Return the temperature of the lowest negative log-likelihood.

    The loss is convex in the inverse of the temperature.
    """
    wide = logits.double()

    def loss(inverse: float) -> float:
        return float(F.cross_entropy(inverse * wide, labels))

    found = minimize_scalar(loss, bounds=(1 / WIDEST, WIDEST), options={"xatol": 1e-9})
    inverse = float(found.x)
    return Choice(1 / inverse, loss(1.0), loss(inverse), len(labels))
