"""Choose APM's configuration for `tiny-clip`, on held-out training images only.

    python tools/choose_apm_preset.py

480 of the 5,000 CIFAR-10 training images that tiny-clip never fitted, each once: clean or under one
of the 15 corruptions, in turn. No test image is read. Prints, for every candidate, the accuracy of
the last of 20 steps, its agreement with the backbone's own predictions, and the time per sample.
The preset in plugins/apm is the most accurate one, the cheaper of two that tie.
"""

import argparse
import itertools
import time
from pathlib import Path

import torch
from cifar10 import read_train
from cifar_c import CORRUPTIONS, corrupt
from PIL import Image
from ttt_bench_apm.methods.apm import APM, APMConfig

from ttt_bench import Sample, SampleRNG, Task, load_backbone
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini

SAMPLES = 480
BATCH = 16
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
WIDTHS = ((64, 64, 32), (128, 128, 64), (256, 256, 128))


def held_out_samples(data: Path) -> tuple[list[Sample], torch.Tensor]:
    """Return held-out training images under the 16 conditions in turn, and their labels."""
    _, held_out = read_train(data)
    rows = torch.randperm(len(held_out.labels), generator=torch.Generator().manual_seed(0))
    chosen = held_out.take(rows[:SAMPLES].numpy())
    conditions = itertools.cycle([None, *CORRUPTIONS])
    images = [
        image if condition is None else corrupt(image, condition, 5, seed)
        for seed, (image, condition) in enumerate(zip(chosen.images, conditions, strict=False))
    ]
    samples = [Sample(f"held-out {n}", Image.fromarray(image)) for n, image in enumerate(images)]
    return samples, torch.from_numpy(chosen.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    samples, labels = held_out_samples(parser.parse_args().data)
    rngs = [SampleRNG(0, sample.id) for sample in samples]
    task = Task(load_backbone("tiny-clip", "cpu"), Cifar10CMini.classes)
    unadapted = torch.stack([task.logits(f) for f in task.encode_image(samples)]).argmax(1)
    print(f"backbone alone: {100 * (unadapted == labels).float().mean():.1f} %")
    for widths, lr in itertools.product(WIDTHS, RATES):
        adapter = APM(APMConfig(image_size=32, grid=8, widths=widths, lr=lr))
        adapter.setup(task)
        started = time.perf_counter()
        predicted = torch.stack(
            [
                prediction.logits.argmax()
                for start in range(0, SAMPLES, BATCH)
                for prediction in adapter.adapt(
                    samples[start : start + BATCH], rngs[start : start + BATCH]
                )
            ]
        )
        milliseconds = 1000 * (time.perf_counter() - started) / SAMPLES
        accuracy = 100 * (predicted == labels).float().mean()
        agreement = 100 * (predicted == unadapted).float().mean()
        print(
            f"widths {widths}  lr {lr:g}  accuracy {accuracy:.1f} %  "
            f"as the backbone {agreement:.1f} %  {milliseconds:.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
