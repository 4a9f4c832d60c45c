"""Measure the shipped rows of `tiny-mae` on CIFAR-10's clean test set and write the model card.

    python tools/write_tiny_mae_card.py

10,000 images. This is the only script of tiny-mae that scores test images; nothing is chosen by
what it prints.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from cifar10 import read_test
from PIL import Image
from train_tiny_mae import BATCH, FILES, held_out_accuracy
from ttt_bench_ttt_mae.checkpoints import autoencoder, encoder_of, head, read
from ttt_bench_ttt_mae.files import EMBEDDED
from ttt_bench_ttt_mae.head_adapter import classify
from ttt_bench_ttt_mae.transform import to_pixels

TEMPLATE = Path(__file__).with_name("tiny_mae_card.md")
LEARNS = {
    "pretrain": "encoder and decoder, by reconstruction",
    "vit-probe": "the head, by labels",
    "fine-tune": "encoder and head, by labels",
    "joint-train": "everything, by labels and reconstruction",
}


def trainings(build: Path) -> tuple[list[str], float]:
    """A line of the card for each training, and the minutes they took."""
    lines, seconds = [], 0.0
    for recipe, learns in LEARNS.items():
        log = [json.loads(line) for line in (build / recipe / "log.jsonl").read_text().splitlines()]
        options = json.loads((build / recipe / "options.json").read_text())
        seconds += sum(line["seconds"] for line in log)
        end = f"loss {log[-1]['loss']:.3f}"
        if recipe != "pretrain":
            end += f", held-out {held_out_accuracy(recipe, build):.2f} %"
        rate = f"{options['lr']:g}"
        lines.append(f"| {recipe} | {learns} | {len(log)} | {BATCH[recipe]} | {rate} | {end} |")
    return lines, seconds / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--build", type=Path, default=Path("build/tiny-mae"))
    args = parser.parse_args()
    test = read_test(args.data)
    pixels = torch.stack([to_pixels()(Image.fromarray(image)) for image in test.images])
    labels = torch.from_numpy(test.labels)
    start = autoencoder(read(EMBEDDED / FILES["pretrain"]))
    rows = []
    for recipe in ("vit-probe", "fine-tune", "joint-train"):
        checkpoint = read(EMBEDDED / FILES[recipe])
        model = start if recipe == "vit-probe" else encoder_of(checkpoint, start)
        classifier = head(checkpoint, model)
        logits = torch.cat([classify(model, classifier, part) for part in pixels.split(500)])
        rows.append(f"| {recipe} | {100 * (logits.argmax(1) == labels).float().mean():.2f} |")
        print(rows[-1], flush=True)
    sizes = {
        "decoder": sum(
            p.numel()
            for name, p in start.named_parameters()
            if name.startswith("decoder") or name == "mask_token"
        ),
        "head": sum(p.numel() for p in classifier.parameters()),
    }
    sizes["encoder"] = sum(p.numel() for p in start.parameters()) - sizes["decoder"]
    shipped = [EMBEDDED / name for name in FILES.values()]
    hashes = [f"| `{f.name}` | `{hashlib.sha256(f.read_bytes()).hexdigest()}` |" for f in shipped]
    lines, minutes = trainings(args.build)
    card = TEMPLATE.read_text().format(
        **{name: count / 1e6 for name, count in sizes.items()},
        files=", ".join(f"`{file.name}`" for file in shipped),
        size=sum(file.stat().st_size for file in shipped) / 1e6,
        hashes="\n".join(["| file | SHA-256 |", "| --- | --- |", *hashes]),
        trainings="\n".join(lines),
        minutes=minutes,
        rows="\n".join(rows),
    )
    (EMBEDDED / "MODEL_CARD.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
