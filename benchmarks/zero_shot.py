"""Zero-shot on the CPU: our run against open_clip's own loop, and the harness's own share of it.

    python benchmarks/zero_shot.py

64 JPEGs of 500x375 pixels, drawn weights, one thread, no feature cache; the two take turns and the
CPU times are compared. `ratio` is the loop's time (batches of 64) by ours. `harness_ms` is what a
sample costs without the method: reading, decoding, booking and writing, measured with a model that
does nothing. The last line is JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from feeding import make_folder
from PIL import Image
from torch import nn

from ttt_bench import Backbone, Chunk, Records
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.doctor.drawn import DrawnClip
from ttt_bench.engine.worker import MethodWorker, MethodWorkerSpec
from ttt_bench.runs.arrow import to_parquet, to_table
from ttt_bench.runs.checksum import UNSEALED, chunk_checksum, sealed_file
from ttt_bench.runs.folder import RunFolder
from ttt_bench.runs.plan import make_plan
from ttt_bench.toolkit.atomic import atomic_write

IMAGES = 64
BATCH = 64
CPU = torch.device("cpu")


class Idle(Backbone):
    """A model that does nothing."""

    feature_dim = 512
    image_size = 224

    def __init__(self) -> None:
        self.model, self.device = nn.Identity(), CPU
        self.blank = torch.zeros(3, self.image_size, self.image_size)

    def make_transform(self, size: int) -> Callable[[Image.Image], torch.Tensor]:
        return lambda image: self.blank

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(pixels), self.feature_dim)

    def build_classifier(self, classes: Any, templates: Any) -> Any:
        return lambda features: features[..., : len(classes)]

    def card(self) -> dict[str, Any]:
        return {"weights": "none"}


def worker_of(folder: Path, backbone: Backbone) -> MethodWorker:
    """Return a worker of `source` on a folder of images."""
    spec = MethodWorkerSpec(
        method="source",
        config={},
        dataset="imagefolder:",
        backbone="drawn",
        data_root=None,
        device="cpu",
        seed=0,
        batch_size=16,
        feature_cache=False,
    )
    return MethodWorker(spec, ImageFolder(str(folder), None), backbone)


def run(worker: MethodWorker, folder: Path) -> None:
    """Compute and save the records of all images."""
    for chunk in make_plan(worker.dataset, None, "sample", 0, None).chunks:
        result = worker.run(Chunk(chunk.number, chunk.indices))
        assert isinstance(result, Records)
        RunFolder(folder).chunk_path(chunk.number).parent.mkdir(parents=True, exist_ok=True)
        save(RunFolder(folder), chunk.number, result)


def save(folder: RunFolder, number: int, records: Records) -> None:
    """Write a chunk as a run does, its manifest aside."""
    checksum = chunk_checksum(records, "k", number)
    metadata = {"run": "k", "chunk": str(number), "sha256": checksum, "file": UNSEALED}
    with atomic_write(folder.chunk_path(number)) as temporary:
        temporary.write_bytes(sealed_file(to_parquet(to_table(records, metadata))))


@torch.no_grad()
def loop(backbone: DrawnClip, files: list[Path], text: torch.Tensor) -> torch.Tensor:
    """Classify as open_clip's documentation does, in batches."""
    logits: list[torch.Tensor] = []
    transform = backbone.make_transform(backbone.image_size)
    model: Any = backbone.model
    for start in range(0, len(files), BATCH):
        part = files[start : start + BATCH]
        pixels = torch.stack([transform(open_image(file)) for file in part])
        features = model.encode_image(pixels)
        features /= features.norm(dim=-1, keepdim=True)
        logits.append(100 * features @ text.T)
    return torch.cat(logits)


def seconds(work: Callable[..., object], *arguments: Any) -> float:
    """Return the CPU time of some work."""
    started = time.process_time()
    work(*arguments)
    return time.process_time() - started


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "ViT-B-16"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "images"
        root.mkdir()
        make_folder(root, IMAGES)
        files = sorted(root.rglob("*.jpg"))
        idle = worker_of(root, Idle())
        run(idle, Path(name) / "warm")
        harness = [seconds(run, idle, Path(name) / "idle") for _ in range(5)]
        harness_ms = 1000 * statistics.median(harness) / IMAGES
        for model in options.models:
            backbone = DrawnClip(model, CPU)
            worker = worker_of(root, backbone)
            text = torch.nn.functional.normalize(torch.randn(2, backbone.feature_dim), dim=-1)
            ours, theirs = [], []
            for number in range(options.rounds):
                folder = Path(name) / f"{model}-{number}"
                ours.append(seconds(run, worker, folder))
                theirs.append(seconds(loop, backbone, files, text))
            ratios = [loop_s / run_s for run_s, loop_s in zip(ours, theirs, strict=True)]
            ms = 1000 * statistics.median(ours) / IMAGES
            lines.append(
                {
                    "model": model,
                    "ms_per_sample": round(ms, 1),
                    "ratio": round(statistics.median(ratios), 3),
                    "harness_ms": round(harness_ms, 2),
                    "harness_share": round(harness_ms / ms, 4),
                }
            )
            print(json.dumps(lines[-1]), flush=True)
    print(json.dumps({"models": lines}))


if __name__ == "__main__":
    main()
