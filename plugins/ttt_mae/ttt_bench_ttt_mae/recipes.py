"""The trainings: a masked autoencoder, and three kinds of classifier on top of one."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ttt_bench import Dataset, TrainingRun, seeded
from ttt_bench_ttt_mae.checkpoints import ENCODER, save
from ttt_bench_ttt_mae.model import Head, LinearHead, MAENetwork, Sizes, Tower, ViTHead
from ttt_bench_ttt_mae.training import Loss, Schedule, TrainingImages, fit
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
class RecipeValues:
    """The values of a recipe in its paper; `base_lr` is for 256 images in a step."""

    epochs: int
    batch_size: int
    base_lr: float
    weight_decay: float
    betas: tuple[float, float]
    warm_up: int
    min_crop: float


# Pretraining: He et al. 2022, table 8. Probe: Gandelsman et al. 2022, section 4 and its release.
# Fine-tuning: He et al. 2022, table 9, without its layer-wise decay, mixing and drop path.
RECIPES: Mapping[str, RecipeValues] = {
    "pretrain": RecipeValues(800, 64, 1.5e-4, 0.05, (0.9, 0.95), 40, 0.2),
    "vit-probe": RecipeValues(20, 128, 1e-3, 0.2, (0.9, 0.999), 5, 0.08),
    "fine-tune": RecipeValues(50, 64, 1e-3, 0.05, (0.9, 0.999), 5, 0.08),
    "joint-train": RecipeValues(50, 64, 1e-3, 0.05, (0.9, 0.999), 5, 0.08),
}


class MAEClassifier(nn.Module):
    """An autoencoder and a head on its tokens."""

    def __init__(self, model: MAENetwork, head: Head) -> None:
        super().__init__()
        self.model = model
        self.head = head


def make_head(model: MAENetwork, kind: HeadKind, classes: int) -> Head:
    """Return a head with fresh weights, of the paper's size, or tiny-mae's for its model."""
    if kind == "linear":
        return LinearHead(model.sizes.encoder.width, classes)
    tower = TINY_HEAD if model.sizes == SIZES["tiny"] else PAPER_HEAD
    return ViTHead(model.sizes.encoder.width, model.sizes.grid, tower, classes)


def pretraining_loss(model: MAENetwork) -> Loss:
    """Return the reconstruction loss; it does not look at labels."""

    def loss(
        images: Float[Tensor, "batch 3 side side"],
        labels: Int[Tensor, " batch"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        noise = torch.rand(len(images), model.sizes.grid**2, generator=generator)
        return model.reconstruction_loss(images, noise.to(images.device)), {}

    return loss


def set_trainable(classifier: MAEClassifier, recipe: Recipe) -> None:
    """Let the weights learn that a recipe trains, and no others.

    `vit-probe`: the head. `fine-tune`: encoder and head. `joint-train`: everything. Position codes
    never learn.

    Source: Gandelsman et al. 2022, section 3 and table 1.
    """
    for name, parameter in classifier.model.named_parameters():
        learns = recipe == "joint-train" or (recipe == "fine-tune" and name.startswith(ENCODER))
        parameter.requires_grad_(learns and not name.endswith("pos_embed"))
    for name, parameter in classifier.head.named_parameters():
        parameter.requires_grad_(name != "pos_embed")
    classifier.head.train()


def classification_loss(classifier: MAEClassifier, recipe: Recipe) -> Loss:
    """Return the cross-entropy of labels; for `joint-train` the reconstruction loss is added."""
    model, head = classifier.model, classifier.head

    def loss(
        images: Float[Tensor, "batch 3 side side"],
        labels: Int[Tensor, " batch"],
        generator: torch.Generator,
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        with torch.set_grad_enabled(recipe != "vit-probe"):
            tokens = model(images)
        logits = head(tokens)
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        total = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        figures = {"accuracy": accuracy}
        if recipe == "joint-train":
            noise = torch.rand(len(images), model.sizes.grid**2, generator=generator)
            reconstruction = model.reconstruction_loss(images, noise.to(images.device))
            figures["reconstruction"] = reconstruction.item()
            total = total + reconstruction
        return total, figures

    return loss


def pretrain(dataset: Dataset, size: str, run: TrainingRun[Schedule]) -> None:
    """Train a masked autoencoder on a dataset's training images, without labels.

    Args:
        dataset: a dataset with training images.
        size: a name of `SIZES`.
        run: the schedule, the folder, and where to compute.
    """
    schedule, folder = run.schedule, run.folder
    with seeded(schedule.seed):
        model = MAENetwork(SIZES[size]).to(run.device)
    images = TrainingImages(dataset, model.sizes.image, schedule.min_crop, to_pixels())
    fit(model, pretraining_loss(model), images, run)
    save(folder.model, {**folder.options, "crop": 1.0 if size == "tiny" else CROP}, model)


def train(
    dataset: Dataset,
    backbone: MAENetwork,
    recipe: Recipe,
    head: HeadKind,
    run: TrainingRun[Schedule],
) -> None:
    """Train a head, with the masked autoencoder below it or alone, on labelled training images.

    Args:
        dataset: a dataset with training images.
        backbone: the autoencoder to start from; it stays as it is.
        recipe: which weights learn, and by which loss.
        head: the kind of head.
        run: the schedule, the folder, and where to compute.
    """
    schedule, folder = run.schedule, run.folder
    with seeded(schedule.seed):
        classifier = MAEClassifier(
            copy.deepcopy(backbone), make_head(backbone, head, len(dataset.classes))
        ).to(run.device)
    set_trainable(classifier, recipe)
    images = TrainingImages(dataset, backbone.sizes.image, schedule.min_crop, to_pixels())
    fit(classifier, classification_loss(classifier, recipe), images, run)
    # The probe leaves the autoencoder as it was, so its file needs the head alone.
    trained = None if recipe == "vit-probe" else classifier.model
    save(folder.model, folder.options, trained, classifier.head)
