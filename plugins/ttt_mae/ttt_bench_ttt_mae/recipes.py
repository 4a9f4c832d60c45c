"""What is trained: a masked autoencoder, and the three kinds of classifier on top of one."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ttt_bench import Dataset, TrainingFolder
from ttt_bench_ttt_mae.checkpoints import ENCODER, save
from ttt_bench_ttt_mae.model import (
    Head,
    LinearHead,
    MAENetwork,
    Sizes,
    Tower,
    ViTHead,
)
from ttt_bench_ttt_mae.training import (
    Loss,
    Report,
    Schedule,
    TrainingImages,
    fit,
)
from ttt_bench_ttt_mae.transform import CROP, to_pixels

Recipe = Literal["vit-probe", "fine-tune", "joint-train"]
HeadKind = Literal["vit", "linear"]
SMOOTHING = 0.1

# The published sizes (He et al. 2022, section 4; Gandelsman et al. 2022, section 4), and tiny-mae.
SIZES: Mapping[str, Sizes] = {
    "tiny": Sizes(32, 4, Tower(128, 4, 4), Tower(64, 1, 4)),
    "base": Sizes(224, 16, Tower(768, 12, 12), Tower(512, 8, 16)),
    "large": Sizes(224, 16, Tower(1024, 24, 16), Tower(512, 8, 16)),
    "huge": Sizes(224, 14, Tower(1280, 32, 16), Tower(512, 8, 16)),
}
TINY_HEAD = Tower(96, 3, 4)
PAPER_HEAD = Tower(768, 12, 12)


@dataclass(frozen=True)
class Defaults:
    """A recipe's own values; `base_lr` is for 256 images in a step."""

    epochs: int
    batch_size: int
    base_lr: float
    weight_decay: float
    betas: tuple[float, float]
    warm_up: int
    min_crop: float


# Pretraining: He et al. 2022, table 8. Probe: Gandelsman et al. 2022, section 4 and its release.
# Fine-tuning: He et al. 2022, table 9, without its layer-wise decay, mixing and drop path.
DEFAULTS: Mapping[str, Defaults] = {
    "pretrain": Defaults(800, 64, 1.5e-4, 0.05, (0.9, 0.95), 40, 0.2),
    "vit-probe": Defaults(20, 128, 1e-3, 0.2, (0.9, 0.999), 5, 0.08),
    "fine-tune": Defaults(50, 64, 1e-3, 0.05, (0.9, 0.999), 5, 0.08),
    "joint-train": Defaults(50, 64, 1e-3, 0.05, (0.9, 0.999), 5, 0.08),
}


class Classifier(nn.Module):
    """An autoencoder and a head, trained together or the head alone."""

    def __init__(self, model: MAENetwork, head: Head) -> None:
        super().__init__()
        self.model = model
        self.head = head


def make_head(model: MAENetwork, kind: HeadKind, classes: int) -> Head:
    """A head with fresh weights: the paper's size, or tiny-mae's for 32-pixel models."""
    if kind == "linear":
        return LinearHead(model.sizes.encoder.width, classes)
    tower = TINY_HEAD if model.sizes == SIZES["tiny"] else PAPER_HEAD
    return ViTHead(model.sizes.encoder.width, model.sizes.grid, tower, classes)


def pretraining_loss(model: MAENetwork) -> Loss:
    """Reconstruction alone; labels are not looked at."""

    def loss(
        images: Float[Tensor, "batch 3 side side"],
        labels: Int[Tensor, " batch"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        noise = torch.rand(len(images), model.sizes.grid**2, generator=generator)
        return model.reconstruction_loss(images, noise.to(images.device)), {}

    return loss


def prepare(classifier: Classifier, recipe: Recipe) -> Loss:
    """Say which weights of a classifier learn, and by which loss.

    `vit-probe`: the head alone, by labels. `fine-tune`: encoder and head, by labels. `joint-train`:
    everything, by labels and reconstruction in equal parts.

    Source: Gandelsman et al. 2022, section 3 and table 1.
    """
    model, head = classifier.model, classifier.head
    for name, parameter in model.named_parameters():
        fixed = name.endswith("pos_embed")
        learns = recipe == "joint-train" or (recipe == "fine-tune" and name.startswith(ENCODER))
        parameter.requires_grad_(learns and not fixed)
    for name, parameter in head.named_parameters():
        parameter.requires_grad_(name != "pos_embed")
    head.train()

    def loss(
        images: Float[Tensor, "batch 3 side side"],
        labels: Int[Tensor, " batch"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        with torch.set_grad_enabled(recipe != "vit-probe"):
            tokens = model(images)
        logits = head(tokens)
        right = (logits.argmax(1) == labels).float().mean().item()
        total = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        figures: dict[str, Any] = {"accuracy": right}
        if recipe == "joint-train":
            noise = torch.rand(len(images), model.sizes.grid**2, generator=generator)
            reconstruction = model.reconstruction_loss(images, noise.to(images.device))
            figures["reconstruction"] = reconstruction.item()
            total = total + reconstruction
        return total, figures

    return loss


def pretrain(
    dataset: Dataset,
    size: str,
    schedule: Schedule,
    folder: TrainingFolder,
    device: torch.device,
    workers: int,
    report: Report,
) -> None:
    """Train a masked autoencoder of a named size on a dataset's training images, without labels."""
    with seeded(schedule.seed):
        model = MAENetwork(SIZES[size]).to(device)
    images = TrainingImages(dataset, model.sizes.image, schedule.min_crop, to_pixels())
    fit(model, pretraining_loss(model), images, schedule, folder, device, workers, report)
    about = {**folder.options, "crop": 1.0 if size == "tiny" else CROP}
    folder.save_model(lambda path: save(path, about, model))


def train(
    dataset: Dataset,
    backbone: MAENetwork,
    recipe: Recipe,
    head: HeadKind,
    schedule: Schedule,
    folder: TrainingFolder,
    device: torch.device,
    workers: int,
    report: Report,
) -> None:
    """Train a classifier on top of a masked autoencoder by a dataset's training images."""
    with seeded(schedule.seed):
        classifier = Classifier(
            copy.deepcopy(backbone), make_head(backbone, head, len(dataset.classes))
        ).to(device)
    loss = prepare(classifier, recipe)
    images = TrainingImages(dataset, backbone.sizes.image, schedule.min_crop, to_pixels())
    fit(classifier, loss, images, schedule, folder, device, workers, report)
    # The probe leaves the autoencoder as it was, so its file needs the head alone.
    trained = None if recipe == "vit-probe" else classifier.model
    folder.save_model(lambda path: save(path, folder.options, trained, classifier.head))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw first weights from a seed; the global generator is given back after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
