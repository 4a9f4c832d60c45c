"""Whether loaders keep an accelerator busy: the host's code is real, the accelerator is simulated.

    python benchmarks/feeding.py --loaders 1

The cases are TPT with plain views, TPT with AugMix views, APM at its released sizes, and zero-shot,
each on JPEGs of 500x375 pixels made for it, without the feature cache. The simulated accelerator
takes a given number of milliseconds for a sample and computes nothing; the host goes on meanwhile
and waits for it at the end of a batch, as with a GPU. `host_ms` is measured in one process without
loaders. `efficiency` is max(host_ms / loaders, device_ms) / ms_per_sample: 1 where nothing waits.
The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import nn
from ttt_bench_apm.methods.apm import APM

import ttt_bench
from ttt_bench import (
    Adapter,
    AdapterConfig,
    AdapterSpec,
    AugMixViews,
    Backbone,
    CropViews,
    Inputs,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    ViewSet,
)
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.engine.worker import MethodWorker, MethodWorkerSpec
from ttt_bench.executors.local import LocalExecutor
from ttt_bench.runs.plan import make_plan

SIZE = (500, 375)
CLASSES = 2
BATCH = 8
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Case:
    """One method's way to use the accelerator.

    Attributes:
        name: what it stands for.
        device_ms: milliseconds that the accelerator takes for a sample.
        samples: how many samples are timed.
        view_set: the views whose features are asked for, None for the plain image's.
        apm: whether APM's pixels and weights are asked for.
    """

    name: str
    device_ms: float
    samples: int
    view_set: ViewSet | None = None
    apm: bool = False


CASES = (
    Case("TPT, plain views", 40, 64, CropViews(64)),
    Case("TPT, AugMix views", 40, 24, AugMixViews(64)),
    Case("APM, released sizes", 60, 48, apm=True),
    Case("zero-shot", 5, 400),
)


class SimulatedBackbone(Backbone):
    """An accelerator that takes time and computes nothing; what is moved to it is gone."""

    feature_dim = 512
    image_size = 224

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.model = nn.Identity()
        self.device = torch.device("meta")
        self.busy_until = 0.0

    def make_transform(self, size: int) -> Any:
        return image_transform_v2(PreprocessCfg(size=(size, size)), is_train=False)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.empty(len(pixels), self.feature_dim, device=self.device)

    def card(self) -> dict[str, Any]:
        return {"weights": "none"}

    def spend(self, milliseconds: float) -> None:
        """Keep the accelerator busy for some more time, and return at once."""
        self.busy_until = max(time.perf_counter(), self.busy_until) + milliseconds / 1000

    def wait(self) -> None:
        """Wait until the accelerator is done."""
        time.sleep(max(0.0, self.busy_until - time.perf_counter()))


class Fed(Adapter[AdapterConfig]):
    """A method that asks for everything and predicts nothing."""

    uses_backbone_classifier = False
    case: ClassVar[Case]

    def inputs(self, task: Task) -> Inputs:
        if self.case.apm:
            return APM(APM.Config()).inputs(task)
        if self.case.view_set:
            return Inputs(image_features=False, view_features=(self.case.view_set,))
        return Inputs()

    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> list[Prediction]:
        backbone = self.task.require(SimulatedBackbone)
        inputs = self.inputs(self.task)
        if inputs.image_features:
            self.task.encode_image(samples)
        for size in inputs.pixels:
            self.task.pixels(samples, size)
        for sample, rng in zip(samples, rngs, strict=True):
            for view_set in inputs.view_features:
                self.task.encode_views([sample], [rng], view_set)
            for draw in inputs.draws:
                self.task.draw([rng], draw)
            backbone.spend(self.case.device_ms)
        backbone.wait()
        return [Prediction(torch.zeros(CLASSES)) for _ in samples]


def make_folder(root: Path, images: int) -> None:
    """Write two classes of pictures with structure at several scales, as photographs have."""
    draws = np.random.default_rng(0)
    for number in range(images):
        folder = root / "ab"[number % CLASSES]
        folder.mkdir(exist_ok=True)
        picture = np.zeros((SIZE[1], SIZE[0], 3))
        for side in (4, 32, 256):
            noise = Image.fromarray(draws.integers(0, 255, (side, side, 3), np.uint8))
            picture += np.asarray(noise.resize(SIZE, Image.Resampling.BICUBIC)) / 3
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number:05}.jpg", quality=90)


def new_worker(folder: Path, loaders: int) -> MethodWorker:
    """Return a worker for the case that `Fed` has."""
    spec = MethodWorkerSpec(
        method="fed",
        config={},
        dataset="imagefolder:",
        backbone="simulated",
        data_root=None,
        device="cpu",
        seed=0,
        batch_size=BATCH,
        feature_cache=False,
        loaders=loaders,
    )
    device = torch.device("cpu")
    return MethodWorker(spec, ImageFolder(str(folder), None), SimulatedBackbone("", device))


def host_ms(worker: MethodWorker, samples: int) -> float:
    """Return the milliseconds that preparing a sample takes in this process."""
    preparation = worker._loader.preparation
    parts = preparation.parts()
    for part in parts:
        preparation.make(0, part)
    started = time.perf_counter()
    for index in range(1, samples + 1):
        for part in parts:
            preparation.make(index, part)
    return 1000 * (time.perf_counter() - started) / samples


def measured_ms(worker: MethodWorker, samples: int) -> float:
    """Return the milliseconds for a sample in a run, the first batch aside."""
    plan = make_plan(worker.dataset, BATCH + samples, "sample", 0, None)
    indices = plan.indices
    chunks = [
        ttt_bench.Chunk(number, tuple(indices[start : start + BATCH]))
        for number, start in enumerate(range(0, len(indices), BATCH))
    ]
    begun = 0.0
    for chunk, result in LocalExecutor().execute(worker, chunks):
        assert isinstance(result, ttt_bench.Records)
        if chunk.number == 0:
            begun = time.perf_counter()
    return 1000 * (time.perf_counter() - begun) / (len(indices) - BATCH)


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Note the largest memory of this process and its children in MB, shared pages once."""
    peaks, ended = [0.0], threading.Event()

    def look() -> None:
        while not ended.wait(LOOK_SECONDS):
            peaks[0] = max(peaks[0], sum(map(proportional_mb, process_tree(os.getpid()))))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def process_tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in process_tree(int(child)))]


def proportional_mb(pid: int) -> float:
    """Return the memory of a process in MB, each shared page by its share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:")), 0.0)


def measure(case: Case, folder: Path, loaders: int) -> dict[str, Any]:
    """Run one case and return its line of the result."""
    Fed.case = case
    torch.set_num_threads(1)
    host = host_ms(new_worker(folder, 0), max(8, case.samples // 4))
    with peak_memory() as peaks:
        measured = measured_ms(new_worker(folder, loaders), case.samples)
    best = max(host / max(loaders, 1), case.device_ms) if loaders else host + case.device_ms
    return {
        "name": case.name,
        "host_ms": round(host, 2),
        "device_ms": case.device_ms,
        "loaders": loaders,
        "ms_per_sample": round(measured, 2),
        "efficiency": round(best / measured, 3),
        "peak_memory_mb": round(peaks[0]),
    }


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--loaders", type=int, default=1, help="loader processes")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    spec = AdapterSpec(name="fed", summary="asks for its inputs", code=f"{__name__}:Fed")
    with tempfile.TemporaryDirectory() as name, ttt_bench.registered(adapters=[spec]):
        make_folder(Path(name), BATCH + max(case.samples for case in CASES))
        for case in CASES:
            if options.only in case.name:
                lines.append(measure(case, Path(name), options.loaders))
                print(json.dumps(lines[-1]), flush=True)
    print(json.dumps({"cases": lines}))


if __name__ == "__main__":
    main()
