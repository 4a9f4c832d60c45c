"""Learning a prompt from a few labelled images: CoOp's recipe, and CoCoOp's."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

from ttt_bench import Backbone, Dataset, DualEncoder, UserError
from ttt_bench_tpt.checkpoints import MetaNet, Prompt
from ttt_bench_tpt.text import ClassTexts, first_context

# Dassl's optimizer as CoOp and CoCoOp configure it.
LR, WARM_UP_LR, MOMENTUM, WEIGHT_DECAY = 2e-3, 1e-5, 0.9, 5e-4
WORDS = "a photo of a"


def choose_shots(dataset: Dataset, shots: int, seed: int) -> list[int]:
    """Indices of `shots` training images of every class.

    Raises:
        UserError: the dataset has no training images, or too few of a class.
    """
    if not dataset.training:
        raise UserError(f"{dataset.name} has no training images to learn a prompt from")
    rng = np.random.default_rng(seed)
    labels = np.array([entry.label for entry in dataset.training])
    chosen: list[int] = []
    for label, name in enumerate(dataset.classes.names):
        own = np.flatnonzero(labels == label)
        if len(own) < shots:
            raise UserError(
                f"{dataset.name} has {len(own)} training images of {name!r}; give "
                f"--shots {len(own)} or fewer"
            )
        chosen += rng.choice(own, shots, replace=False).tolist()
    return chosen


def learn(
    dataset: Dataset,
    backbone: DualEncoder,
    shots: int,
    seed: int,
    epochs: int,
    conditional: bool,
    report: Callable[[int, float], None],
) -> Prompt:
    """Learn a context on labelled training images by cross-entropy; the backbone stays frozen.

    CoOp: batches of 32. CoCoOp (`conditional`): one image at a time, the context shifted by a
    network of its feature. SGD at 2e-3 with a cosine over the epochs, the first of them at 1e-5.

    Args:
        report: told the epoch and its mean loss.

    Source: Zhou et al. 2022a, section 4; Zhou et al. 2022b, section 4.1.
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    start = first_context(model, tokenizer, WORDS)
    texts = ClassTexts(model, tokenizer, dataset.classes.names, len(start))
    chosen = choose_shots(dataset, shots, seed)
    images = [dataset.open_training(index) for index in chosen]
    labels = torch.tensor([dataset.training[i].label for i in chosen], device=backbone.device)
    # All draws of this function come from its seed; the global generator is given back after.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        meta_net = None
        if conditional:
            size = backbone.feature_dim
            meta_net = MetaNet(size, max(1, size // 16), texts.width).to(backbone.device)
        prompt = Prompt(start.clone().requires_grad_(), meta_net)
        parameters = [prompt.context, *(meta_net.parameters() if meta_net else ())]
        optimizer = torch.optim.SGD(parameters, LR, MOMENTUM, weight_decay=WEIGHT_DECAY)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        batch = 1 if conditional else 32
        for epoch in range(epochs):
            if epoch == 0:
                optimizer.param_groups[0]["lr"] = WARM_UP_LR
            losses = []
            for rows in torch.randperm(len(images)).split(batch):
                features = _features(backbone, [images[row] for row in rows.tolist()])
                contexts = prompt.context[None]
                if conditional:
                    contexts = prompt.conditioned_on(features)
                scale = backbone.logit_scale
                text = texts(contexts).expand(len(features), -1, -1)
                logits = scale * torch.bmm(text, features[:, :, None])[:, :, 0]
                loss = F.cross_entropy(logits, labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            cosine.step()
            report(epoch + 1, float(np.mean(losses)))
    return Prompt(prompt.context.detach(), meta_net)


@torch.no_grad()
def _features(backbone: Backbone, images: list[Image.Image]) -> Float[Tensor, "images dim"]:
    """Unit features of one random crop of each image."""
    crop = Compose([RandomResizedCrop(backbone.image_size), RandomHorizontalFlip()])
    pixels = torch.stack([backbone.preprocess(crop(image)) for image in images])
    return F.normalize(backbone.encode_image(pixels.to(backbone.device)), dim=1)
