"""The training of a prompt on a few labelled images, by CoOp's recipe and by CoCoOp's."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

from ttt_bench import (
    Backbone,
    Dataset,
    DualEncoder,
    GlobalGenerator,
    TrainingRun,
    UserError,
    seeded,
)
from ttt_bench_tpt.checkpoints import MetaNet, Prompt
from ttt_bench_tpt.text import ClassTexts, embed_words

# Dassl's optimizer as CoOp and CoCoOp configure it.
LR, WARM_UP_LR, MOMENTUM, WEIGHT_DECAY = 2e-3, 1e-5, 0.9, 5e-4
WORDS = "a photo of a"


@dataclass(frozen=True, kw_only=True)
class PromptSchedule:
    """The values of a training.

    Attributes:
        conditional: CoCoOp's recipe instead of CoOp's.
        shots: labelled images per class.
        epochs: passes over them.
        seed: seed of every random draw.
    """

    conditional: bool
    shots: int
    epochs: int
    seed: int


def choose_shots(dataset: Dataset, shots: int, seed: int) -> list[int]:
    """Return the indices of `shots` training images of every class.

    Raises:
        UserError: the dataset has no training images, or too few of a class.
    """
    if not dataset.training:
        raise UserError(
            f"{dataset.name} has no training images to learn a prompt from; take a dataset that has"
        )
    rng = np.random.default_rng(seed)
    labels = np.array([entry.label for entry in dataset.training])
    chosen: list[int] = []
    for label, name in enumerate(dataset.classes.names):
        images = np.flatnonzero(labels == label)
        if len(images) < shots:
            raise UserError(
                f"{dataset.name} has {len(images)} training images of {name!r}; give "
                f"--shots {len(images)} or fewer"
            )
        chosen += rng.choice(images, shots, replace=False).tolist()
    return chosen


def learn(dataset: Dataset, backbone: DualEncoder, run: TrainingRun[PromptSchedule]) -> Prompt:
    """Learn a context on labelled training images by cross-entropy; the backbone stays frozen.

    CoOp: batches of 32. CoCoOp: one image at a time, the context shifted by a network of its
    feature. SGD at 2e-3 with a cosine over the epochs, the first of them at 1e-5.

    Args:
        dataset: a dataset with training images.
        backbone: the frozen dual encoder.
        run: the schedule, the folder, and where to compute.

    Raises:
        UserError: the dataset has too few training images, or the training is not to be continued.

    Source: Zhou et al. 2022a, section 4; Zhou et al. 2022b, section 4.1.
    """
    schedule, device = run.schedule, run.device
    start = embed_words(backbone.model, backbone.tokenizer, WORDS)
    texts = ClassTexts(backbone.model, backbone.tokenizer, dataset.classes.names, len(start))
    chosen = choose_shots(dataset, schedule.shots, schedule.seed)
    images = [dataset.open_training(index) for index in chosen]
    labels = torch.tensor([dataset.training[i].label for i in chosen], device=device)
    with seeded(schedule.seed):
        meta_net = None
        if schedule.conditional:
            size = backbone.feature_dim
            meta_net = MetaNet(size, max(1, size // 16), texts.width).to(device)
        context = nn.Parameter(start.clone())
        prompt = Prompt(context, meta_net)
        learned = nn.ModuleDict({"meta_net": meta_net} if meta_net else {})
        learned.register_parameter("context", context)
        # The module's own parameters come first: the context, then the network's.
        optimizer = torch.optim.SGD(learned.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.epochs)
        parts = {
            "prompt": learned,
            "optimizer": optimizer,
            "schedule": cosine,
            "draws": GlobalGenerator(),
        }
        for epoch in run.epochs(parts):
            if epoch.number == 0:
                optimizer.param_groups[0]["lr"] = WARM_UP_LR
            for rows, features in _batches(images, backbone, schedule.conditional):
                contexts = prompt.conditioned_on(features) if meta_net else context[None]
                text = texts(contexts).expand(len(features), -1, -1)  # (images, classes, dim)
                scores = torch.bmm(text, features[:, :, None])[:, :, 0]  # (images, classes)
                loss = F.cross_entropy(backbone.logit_scale * scores, labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                epoch.add({"loss": loss.item()})
            cosine.step()
            epoch.finish(epoch.line(epoch.means()))
    return Prompt(context.detach(), meta_net)


def _batches(
    images: list[Image.Image], backbone: Backbone, conditional: bool
) -> Iterator[tuple[Int[Tensor, " batch"], Float[Tensor, "batch dim"]]]:
    """Yield an epoch's batches: numbers of the images, and unit features of random crops."""
    crop = Compose([RandomResizedCrop(backbone.image_size), RandomHorizontalFlip()])
    for rows in torch.randperm(len(images)).split(1 if conditional else 32):
        crops = [backbone.preprocess(crop(images[row])) for row in rows.tolist()]
        with torch.no_grad():
            features = backbone.encode_image(torch.stack(crops).to(backbone.device))
        yield rows, F.normalize(features, dim=1)
