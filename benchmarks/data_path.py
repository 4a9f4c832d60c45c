"""Images per second of a fast method, its images decoded in 0, 1 and 2 other processes.

    python benchmarks/data_path.py

The method is clip-zero-shot with tiny-clip, on a folder of JPEGs of 500x375 made for it, without
the feature cache. The three settings take turns, so that a slow moment of the machine hits all of
them; ratios are of medians. A core for each process is what more processes can gain from.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ttt_bench.api.backbone import Backbone
from ttt_bench.api.executor import Worker
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.engine.loading import load_backbone
from ttt_bench.executors.local import LocalExecutor
from ttt_bench.runs.plan import make_plan

SIZE = (500, 375)
DECODERS = (0, 1, 2)


def make_folder(root: Path, images: int) -> None:
    """Two classes of pictures with structure at several scales, as photographs have."""
    draws = np.random.default_rng(0)
    for number in range(images):
        folder = root / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        picture = np.zeros((SIZE[1], SIZE[0], 3))
        for side in (4, 32, 256):
            noise = Image.fromarray(draws.integers(0, 255, (side, side, 3), np.uint8))
            picture += np.asarray(noise.resize(SIZE, Image.Resampling.BICUBIC)) / 3
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number:05}.jpg", quality=90)


def worker_of(folder: Path, backbone: Backbone, decoders: int) -> Worker:
    """clip-zero-shot on the folder."""
    job = Job(
        method="clip-zero-shot",
        config={},
        dataset=f"imagefolder:{folder}",
        backbone="tiny-clip",
        data_root=None,
        device="cpu",
        seed=0,
        batch_size=16,
        feature_cache=False,
        decoders=decoders,
    )
    return Worker(job, ImageFolder(str(folder), None), backbone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    backbone = load_backbone("tiny-clip", "cpu")
    rates: dict[int, list[float]] = {decoders: [] for decoders in DECODERS}
    with tempfile.TemporaryDirectory() as name:
        make_folder(Path(name), options.images)
        workers = {decoders: worker_of(Path(name), backbone, decoders) for decoders in DECODERS}
        chunks = make_plan(workers[0].dataset, None).chunks
        workers[0].run(chunks[0])
        for _ in range(options.rounds):
            for decoders, worker in workers.items():
                started = time.perf_counter()
                for _ in LocalExecutor().execute(worker, chunks):
                    pass
                rates[decoders].append(options.images / (time.perf_counter() - started))
    medians = {decoders: statistics.median(values) for decoders, values in rates.items()}
    print(f"{options.images} JPEGs of {SIZE[0]}x{SIZE[1]}, {os.cpu_count()} cores")
    for decoders, rate in medians.items():
        print(f"{decoders} decoders: {rate:.0f} images/s, {rate / medians[0]:.2f}x")
    ratios = {str(decoders): rate / medians[0] for decoders, rate in medians.items()}
    print(json.dumps({"images_per_second": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()
