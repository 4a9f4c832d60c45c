"""AdaContrast: contrastive learning between views, with pseudo-labels that neighbours correct.

Paper: Chen, Wang, Darrell and Ebrahimi 2022, Contrastive Test-Time Adaptation (CVPR 2022, arXiv
    2204.10377), section 3.
Code: DianCh/AdaContrast (no licence file); nothing of it is used here. The online form is that of
    mariodoebler/test-time-adaptation (MIT licence).
Kind: stream. All weights and biases learn, and BatchNorm's statistics follow the batches; features
    of `queue` samples are kept.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torchvision import transforms
from typing_extensions import override

from ttt_bench import SampleRNG, Task, WorkingCopy, seeded
from ttt_bench_tta.adapter import WorkingCopyAdapter
from ttt_bench_tta.augmentation import Augmentation
from ttt_bench_tta.methods.cotta import average
from ttt_bench_tta.methods.norm_ema import configure as follow_statistics
from ttt_bench_tta.normalization import follow_batches, train_weights_and_biases
from ttt_bench_tta.optimizers import TrainingConfig, descend, make_optimizer

Pixels = Float[Tensor, "batch 3 side side"]
# The share of a batch in BatchNorm's new statistics, torch's default.
STATISTICS_RATE = 0.1
TINY = 1e-8


class AdaContrastConfig(TrainingConfig):
    """The values of the online form; the paper's own are for several epochs of a domain."""

    lr: float = Field(2e-4, gt=0, description="learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    teacher_momentum: float = Field(
        0.999, ge=0, le=1, description="m: weight of the past in the momentum model's average"
    )
    temperature: float = Field(0.07, gt=0, description="tau: temperature of the contrast")
    queue: int = Field(16384, ge=1, description="samples of which features are kept")
    neighbours: int = Field(10, ge=1, description="N: neighbours that vote on a pseudo-label")
    neighbours_after: int = Field(
        1024, ge=0, description="samples before neighbours vote on pseudo-labels"
    )


@dataclass
class Newest:
    """The newest feature vectors of a stream, with a value of each.

    Attributes:
        size: the largest number of vectors.
        features: the vectors, the oldest first.
        values: a class or the probabilities of each.
    """

    size: int
    features: Float[Tensor, "kept dim"]
    values: Tensor

    def add(self, features: Float[Tensor, "batch dim"], values: Tensor) -> None:
        """Take vectors in, and drop the oldest where there are too many."""
        self.features = torch.cat([self.features, features])[-self.size :]
        self.values = torch.cat([self.values, values])[-self.size :]

    def state_dict(self) -> dict[str, Any]:
        """Return the vectors and the values."""
        return {"features": self.features, "values": self.values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.features, self.values = state["features"], state["values"]


@dataclass(frozen=True)
class Views:
    """The three views of a batch.

    Attributes:
        weak: for the pseudo-labels.
        query: a strong one, for the student.
        key: another strong one, for the momentum model.
    """

    weak: Pixels
    query: Pixels
    key: Pixels


def configure(model: WorkingCopy) -> None:
    """Let BatchNorm's statistics follow the batches, and train every weight and bias."""
    follow_statistics(model, STATISTICS_RATE)
    train_weights_and_biases(model)


def vote(
    features: Float[Tensor, "batch dim"], bank: Newest, neighbours: int
) -> Float[Tensor, "batch classes"]:
    """Return the mean probabilities of the nearest features in the bank.

    Args:
        features: the features to label.
        bank: features with their probabilities.
        neighbours: how many vote.
    """
    cosines = F.normalize(features, dim=1) @ F.normalize(bank.features, dim=1).T
    nearest = cosines.topk(min(neighbours, len(bank.features)), dim=1).indices
    return bank.values[nearest].mean(dim=1)


def contrast(
    queries: Float[Tensor, "batch dim"],
    keys: Float[Tensor, "batch dim"],
    labels: Int[Tensor, " batch"],
    queue: Float[Tensor, "kept dim"],
    queue_labels: Int[Tensor, " kept"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the loss that finds each query's key among others of other pseudo-labels.

    Args:
        queries: unit features by the student.
        keys: unit features of the same images by the momentum model.
        labels: the pseudo-labels of the images.
        queue: earlier keys.
        queue_labels: their pseudo-labels.
        temperature: the divisor of cosines.
    """
    same = labels[:, None] == queue_labels[None]  # (B, kept)
    others = (queries @ queue.T).masked_fill(same, -torch.inf)
    own = (queries * keys).sum(dim=1, keepdim=True)
    similarities = torch.cat([own, others], dim=1) / temperature
    return -similarities.log_softmax(dim=1)[:, 0].mean()


def negative_diversity(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    """Return the negative entropy of the mean prediction."""
    mean = logits.softmax(dim=1).mean(dim=0)
    return (mean * torch.log(mean + TINY)).sum()


@torch.no_grad()
def pseudo_labels(
    model: WorkingCopy, weak: Pixels, bank: Newest, neighbours: int
) -> Int[Tensor, " batch"]:
    """Return the classes by the student, or by the neighbours in the bank.

    Args:
        model: the student.
        weak: the weak views.
        bank: features with their probabilities.
        neighbours: how many vote, 0 for the student's own classes.
    """
    features = model.features(weak)
    if neighbours and len(bank.features):
        return vote(features.float(), bank, neighbours).argmax(dim=1)
    return model.classify(features).argmax(dim=1)


def learn(
    student: WorkingCopy,
    teacher: WorkingCopy,
    optimizer: torch.optim.Optimizer,
    views: Views,
    queue: Newest,
    bank: Newest,
    neighbours: int,
    momentum: float,
    temperature: float,
    mask_after_write: bool = False,
) -> Int[Tensor, " batch"]:
    """Take a step of the student, extend queue and bank, and return the pseudo-labels.

    Args:
        student: the model that learns, in place.
        teacher: the momentum model, which follows.
        optimizer: the optimizer of the student.
        views: the views of the batch.
        queue: unit features by the momentum model with pseudo-labels.
        bank: features by the momentum model with probabilities.
        neighbours: how many vote on pseudo-labels, 0 for none.
        momentum: the weight of the past in the momentum model.
        temperature: the temperature of the contrast.
        mask_after_write: whether the oldest keys of a full queue count with the labels of those
            that replace them, as in the release.
    """
    for model in (student, teacher):
        follow_batches(model, follow=True)
    labels = pseudo_labels(student, views.weak, bank, neighbours)
    features = student.features(views.query)
    logits = student.classify(features)
    average(teacher, student, momentum)
    with torch.no_grad():
        keys = F.normalize(teacher.features(views.key).float(), dim=1)
    queue_labels = queue.values
    if mask_after_write:
        queue_labels = torch.cat([labels, queue_labels[len(labels) :]])
    queries = F.normalize(features.float(), dim=1)
    loss = F.cross_entropy(logits, labels) + negative_diversity(logits)
    loss = loss + contrast(queries, keys, labels, queue.features, queue_labels, temperature)
    queue.add(keys, labels)
    descend(loss, optimizer)
    with torch.no_grad():
        weak = teacher.features(views.weak)
        bank.add(weak.float(), teacher.classify(weak).softmax(dim=1))
    for model in (student, teacher):
        follow_batches(model, follow=False)
    return labels


class AdaContrast(WorkingCopyAdapter[AdaContrastConfig]):
    """`adacontrast`: a student and its momentum model, a queue of keys and a bank of neighbours.

    Attributes:
        teacher: the momentum model.
        optimizer: the optimizer of the student, `model`.
        queue: unit features by the momentum model with pseudo-labels.
        bank: features by the momentum model with probabilities.
        seen: the number of samples so far.
        augmentation: the range of the pixels.
    """

    Config = AdaContrastConfig
    fixed = ("augmentation",)

    @override
    def setup(self, task: Task) -> None:
        super().setup(task)
        config, device = self.config, task.device
        configure(self.model)
        self.teacher = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = make_optimizer(
            self.model, config, nesterov=True, weight_decay=config.weight_decay
        )
        none = torch.empty(0, task.backbone.feature_dim, device=device)
        self.queue = Newest(config.queue, none, torch.empty(0, dtype=torch.long, device=device))
        self.bank = Newest(config.queue, none, torch.empty(0, len(task.classes), device=device))
        self.seen = 0
        self.augmentation = Augmentation(task.backbone)

    @override
    def samples_kept(self) -> int:
        return self.config.queue

    @override
    def predict(self, pixels: Pixels, rngs: Sequence[SampleRNG]) -> Float[Tensor, "batch classes"]:
        config, side = self.config, pixels.shape[-1]
        views = Views(
            self.drawn(pixels, rngs, "weak", weak(side)),
            self.drawn(pixels, rngs, "query", strong(side)),
            self.drawn(pixels, rngs, "key", strong(side)),
        )
        neighbours = config.neighbours if self.seen >= config.neighbours_after else 0
        self.seen += len(pixels)
        learn(
            self.model,
            self.teacher,
            self.optimizer,
            views,
            self.queue,
            self.bank,
            neighbours,
            config.teacher_momentum,
            config.temperature,
        )
        with torch.no_grad():
            return self.model(pixels)

    def drawn(
        self,
        pixels: Pixels,
        rngs: Sequence[SampleRNG],
        purpose: str,
        change: Callable[[Tensor], Tensor],
    ) -> Pixels:
        """Return a view of every image, drawn by its own generator.

        Args:
            pixels: the images.
            rngs: the random generators of each.
            purpose: the purpose of the generator.
            change: the augmentation of one image.
        """

        def each(images: Pixels) -> Pixels:
            changed: list[Tensor] = []
            for image, rng in zip(images, rngs, strict=True):
                # torchvision's transforms draw from the global generator.
                with seeded(rng.torch(purpose).initial_seed()):
                    changed.append(change(image))
            return torch.stack(changed)

        return self.augmentation.changed(pixels, each)


def weak(side: int) -> Callable[[Tensor], Tensor]:
    """Return the weak augmentation: a crop of 7/8 of the side, mirrored half of the time."""
    return transforms.Compose(
        [
            transforms.Resize(round(side * 8 / 7)),
            transforms.RandomCrop(side),
            transforms.RandomHorizontalFlip(),
        ]
    )


def strong(side: int) -> Callable[[Tensor], Tensor]:
    """Return the strong augmentation, that of MoCo v2 (Chen et al. 2020, arXiv 2003.04297)."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(side, scale=(0.2, 1.0)),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([transforms.GaussianBlur(5, (0.1, 2.0))], p=0.5),
            transforms.RandomHorizontalFlip(),
        ]
    )
