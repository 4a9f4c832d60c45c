"""Measure the shipped `tiny-clip` and write its model card.

    python tools/write_tiny_clip_card.py

Clean and under CIFAR-10-C's 15 corruptions at severity 5: 5,000 held-out training images with the
single prompt, with a prompt that describes the corruption and with the ensemble, and 10,000 test
images with the single prompt. Nothing is chosen by what this prints about test images.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from corrupted import CONDITIONS, corrupted, read_split
from train_tiny_clip import STAGES, normalized

from ttt_bench import load_backbone
from ttt_bench.backbones import tiny_clip
from ttt_bench.datasets.facts.cifar import CIFAR10_CLASSES

FOLDER = Path(tiny_clip.__file__).parent
TEMPLATE = Path(__file__).with_name("tiny_clip_card.md")
# What a caption says about an image under each corruption. No caption of the training says
# "snowy" or "frosty".
DESCRIBING = {
    "gaussian_noise": "noisy",
    "shot_noise": "noisy",
    "impulse_noise": "noisy",
    "defocus_blur": "blurry",
    "glass_blur": "blurry",
    "motion_blur": "blurry",
    "zoom_blur": "blurry",
    "snow": "snowy",
    "frost": "frosty",
    "fog": "foggy",
    "brightness": "bright",
    "contrast": "low contrast",
    "elastic_transform": "warped",
    "pixelate": "pixelated",
    "jpeg_compression": "jpeg corrupted",
}


class Measured:
    """The backbone, and the labels of both splits."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.backbone = load_backbone("tiny-clip", "cpu")
        self.labels = {
            name: torch.from_numpy(read_split(name, data).labels) for name in ("held-out", "test")
        }

    @torch.no_grad()
    def features(self, split: str, condition: str) -> torch.Tensor:
        """Return the features of a split's images, `[N, dim]`."""
        images = corrupted(split, condition, self.data)
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)  # (N, 3, h, w)
        parts = pixels.split(500)
        return torch.cat([self.backbone.encode_image(normalized(p.float() / 255)) for p in parts])

    def predicted(self, features: torch.Tensor, templates: Sequence[str]) -> torch.Tensor:
        """Return the classes predicted with some templates."""
        with torch.no_grad():
            return self.backbone.build_classifier(CIFAR10_CLASSES, templates)(features).argmax(1)

    def accuracy(self, split: str, predicted: torch.Tensor) -> float:
        """Return the percentage right."""
        return 100 * (predicted == self.labels[split]).float().mean().item()


def measure(measured: Measured) -> dict[str, dict[str, float]]:
    """Return the columns of the card for every condition, in percent."""
    rows: dict[str, dict[str, float]] = {}
    for condition in CONDITIONS:
        features = measured.features("held-out", condition)
        plain = measured.predicted(features, [CIFAR10_CLASSES.prompt])
        ensemble = measured.predicted(features, CIFAR10_CLASSES.templates)
        row = {"plain": measured.accuracy("held-out", plain)}
        if condition in DESCRIBING:
            words = [f"a {DESCRIBING[condition]} photo of a {{}}."]
            row["described"] = measured.accuracy("held-out", measured.predicted(features, words))
        row["ensemble"] = measured.accuracy("held-out", ensemble)
        row["differs"] = 100 * (plain != ensemble).float().mean().item()
        on_test = measured.predicted(measured.features("test", condition), [CIFAR10_CLASSES.prompt])
        row["test"] = measured.accuracy("test", on_test)
        rows[condition] = row
        print(condition, {name: round(value, 2) for name, value in row.items()}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-clip"))
    args = parser.parse_args()
    measured = Measured(args.data)
    rows = measure(measured)
    shown = {
        **rows,
        "mean of 15 corruptions": {
            name: fmean(row[name] for condition, row in rows.items() if condition != "clean")
            for name in rows["fog"]
        },
    }
    columns = ("test", "plain", "described", "ensemble", "differs")
    cells = {
        name: [f"{row[column]:.2f}" if column in row else "" for column in columns]
        for name, row in shown.items()
    }
    model = measured.backbone.model
    image = sum(p.numel() for p in model.visual.parameters())
    weights = (FOLDER / "open_clip_model.safetensors").read_bytes()
    logs = [(args.build / f"stage-{n}" / "log.jsonl").read_text() for n, _ in enumerate(STAGES, 1)]
    log = [json.loads(line) for text in logs for line in text.splitlines()]
    first, second = STAGES
    card = TEMPLATE.read_text().format(
        first=first,
        second=second,
        image=image / 1e6,
        text=(sum(p.numel() for p in model.parameters()) - image) / 1e6,
        size=len(weights) / 1e6,
        sha=hashlib.sha256(weights).hexdigest(),
        minutes=sum(line["seconds"] for line in log) / 60,
        rows="\n".join(f"| {name} | {' | '.join(row)} |" for name, row in cells.items()),
        risen=sum(rows[name]["described"] > rows[name]["plain"] for name in DESCRIBING),
    )
    (FOLDER / "MODEL_CARD.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
