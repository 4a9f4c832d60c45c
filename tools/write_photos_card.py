"""Measure `lite0` on `photos` and `photos-c`, and write the card of plugins/photos.

    python tools/write_photos_card.py

Runs `source` on every photograph, clean and under each corruption at severity 3. `--each 64` takes
64 photographs for each corruption, `--each 0` leaves corruptions out. A measurement that was
stopped continues.
"""

import argparse
import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from build_photos import SIDE, encode
from PIL import Image
from ttt_bench_photos.lite0 import SHA256
from ttt_bench_photos.photographs import IMAGES, Photos

from ttt_bench import load_backbone
from ttt_bench.datasets.corruptions import SHORT_NAMES, generator_version

TEMPLATE = Path(__file__).with_name("photos_card.md")


def measure(dataset: str, limit: int, output: Path) -> dict[str, Any]:
    """Run `source` on a dataset by its default backbone, and return the run's summary."""
    words = ["run", "--method", "source", "--dataset", dataset, "--limit", str(limit)]
    where = ["--device", "cpu", "--output", str(output), "--format", "json"]
    command = [sys.executable, "-m", "ttt_bench", *words, *where]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["runs"][0]


def jpeg_quality(path: Path) -> int:
    """Return the quality that an image was saved with, by its quantization."""
    with Image.open(path) as image:
        tables = vars(image)["quantization"]
    for quality in range(100, 0, -1):
        with Image.open(BytesIO(encode(Image.new("RGB", (8, 8)), quality))) as image:
            if vars(image)["quantization"] == tables:
                return quality
    raise SystemExit(f"{path}: no quality has its quantization")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("build/photos"))
    parser.add_argument("--each", type=int, default=256, help="photographs for each corruption")
    args = parser.parse_args()
    photos = Photos("", None)
    clean = measure("photos", len(photos.entries), args.output)
    rows = {"clean": (clean["n"], clean["top1"])}
    if args.each:
        corrupted = measure("photos-c", args.each * len(SHORT_NAMES), args.output)
        rows |= {name: (args.each, corrupted["corruptions"][name]) for name in SHORT_NAMES}
        rows["mean of 15 corruptions, severity 3"] = corrupted["n"], corrupted["mean_corruption"]
    files = list(IMAGES.iterdir())
    card = TEMPLATE.read_text("utf-8").format(
        classes=len({entry.label for entry in photos.entries}),
        side=SIDE,
        quality=jpeg_quality(files[0]),
        size=sum(file.stat().st_size for file in files) / 1e6,
        revision=photos.revision,
        parameters=sum(p.numel() for p in load_backbone("lite0", "cpu").model.parameters()) / 1e6,
        sha=SHA256,
        generator=generator_version(),
        rows="\n".join(f"| {name} | {n} | {top1:.1f} |" for name, (n, top1) in rows.items()),
    )
    IMAGES.with_name("CARD.md").write_text(card, "utf-8")
    print(card)


if __name__ == "__main__":
    main()
