"""A laboratory's plugin: one of everything that a plugin can bring, from public names alone.

The files beside this one, which docs/ shows, bring the dataset, two backbones, the metrics, the
published table and the tracker.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lab_paper
import line_tracker
import mean_colour
import my_metrics
import squares
import torch
import torch.nn.functional as F
from mean_colour import Head, LabBackbone
from pydantic import Field
from torch import Tensor

from ttt_bench import (
    CLIP_FAMILY,
    Adapter,
    AdapterConfig,
    AdapterSpec,
    Backbone,
    BackboneFamily,
    BackboneSpec,
    Chunk,
    ChunkResult,
    Classifier,
    DualEncoder,
    Executor,
    ExecutorSpec,
    GoldenSpec,
    MaskedAutoencoder,
    PatchEncoder,
    Prediction,
    Sample,
    SampleRNG,
    Task,
    Worker,
    entropy,
    hookimpl,
)

FAMILY = BackboneFamily(name="lab", default="lab-clip", by_dataset=CLIP_FAMILY.by_dataset)


class Patches(LabBackbone, PatchEncoder):
    def encode_patches(self, pixels: Tensor) -> Tensor:
        return F.avg_pool2d(pixels, 4).permute(0, 2, 3, 1)  # (batch, rows, columns, 3)


class Masked(LabBackbone, MaskedAutoencoder):
    mask_grid = 2

    def reconstruction_loss(self, images: Tensor, noise: Tensor, mask_ratio: float) -> Tensor:
        return (images.mean() - noise.mean() * mask_ratio) ** 2


class Fingerprint(Backbone):
    """A capability of the laboratory's own."""

    def fingerprint(self) -> str:
        return "lab"


class WithFingerprint(Head, Fingerprint):
    pass


class SharpenConfig(AdapterConfig):
    steps: int = Field(3, ge=1, description="steps of gradient descent")


class Sharpen(Adapter[SharpenConfig]):
    """Makes the prediction of a dual encoder more certain, step by step."""

    Config = SharpenConfig

    def setup(self, task: Task) -> None:
        super().setup(task)
        encoder = task.require(DualEncoder)
        text = encoder.class_features(task.classes.names, task.classes.templates)
        self.text = encoder.logit_scale * text

    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> list[Prediction]:
        features = F.normalize(self.task.encode_image(samples), dim=-1)
        pairs = zip(features, rngs, strict=True)
        return [self.predict(feature, rng) for feature, rng in pairs]

    def predict(self, feature: Tensor, rng: SampleRNG) -> Prediction:
        noise = torch.randn(3, generator=rng.torch("start"))
        shift = (1e-3 * noise).to(feature.device).requires_grad_()
        unadapted, steps = self.text @ feature, []
        for _ in range(self.config.steps):
            (gradient,) = torch.autograd.grad(entropy(self.text @ (feature + shift)), shift)
            shift = (shift - 1e-3 * gradient).detach().requires_grad_()
            steps.append((self.text @ (feature + shift)).detach())
        return Prediction(steps[-1], torch.stack(steps), unadapted)


class Frozen(Adapter):
    """Classifies with the head of the backbone."""

    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> list[Prediction]:
        features = self.task.encode_image(samples)
        return [Prediction(logits) for logits in self.task.require(Classifier).head(features)]


class CentrePatch(Adapter):
    """Classifies the first patch of an image by its own rule."""

    uses_backbone_classifier = False

    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> list[Prediction]:
        patches = self.task.require(PatchEncoder).encode_patches(self.task.pixels(samples))
        return [Prediction(grid[0, 0]) for grid in patches]


class Reconstruct(Adapter):
    """Weighs the colour of an image by the loss of its reconstruction."""

    uses_backbone_classifier = False

    def adapt(self, samples: Sequence[Sample], rngs: Sequence[SampleRNG]) -> list[Prediction]:
        return [self.predict(*pair) for pair in zip(samples, rngs, strict=True)]

    def predict(self, sample: Sample, rng: SampleRNG) -> Prediction:
        encoder, pixels = self.task.require(MaskedAutoencoder), self.task.pixels([sample])
        noise = torch.rand(2, encoder.mask_grid**2, generator=rng.torch("mask"))
        loss = encoder.reconstruction_loss(pixels, noise, 0.75)
        return Prediction(self.task.encode_image([sample])[0] * (1 + loss))


class Named(Frozen):
    """Needs a capability of the laboratory's own."""

    def setup(self, task: Task) -> None:
        super().setup(task)
        assert task.require(Fingerprint).fingerprint() == "lab"


def sharpened(arrays: Mapping[str, Any], device: torch.device) -> dict[str, tuple[Any, Any]]:
    """Return the computed and the expected scores of the release."""
    return {"scores": (2 * torch.from_numpy(arrays["lab_scores"]).to(device), arrays["sharpened"])}


class Backwards(Executor):
    """Computes the last chunk first, and writes the order to the file that its argument names."""

    def execute(
        self, worker: Worker, chunks: Sequence[Chunk]
    ) -> Iterator[tuple[Chunk, ChunkResult]]:
        order = list(reversed(chunks))
        if self.argument:
            Path(self.argument).write_text(" ".join(str(chunk.number) for chunk in order))
        with worker.prefetching(order):
            for chunk in order:
                yield chunk, worker.run(chunk)


class Commands:
    """Adds a command."""

    @hookimpl
    def ttt_bench_commands(self, cli: Any) -> None:
        @cli.command()
        def laboratory() -> None:
            """Say where the laboratory is."""
            print("second floor")


def method(name: str, code: str, needs: str) -> AdapterSpec:
    return AdapterSpec(
        name=name, summary="a method of the lab", code=f"lab:{code}",
        needs=frozenset({needs}), family=FAMILY,
    )  # fmt: skip


def backbone(name: str, code: str, gives: str) -> BackboneSpec:
    return BackboneSpec(
        name=name, summary="a model of the lab", code=f"lab:{code}", gives=frozenset({gives})
    )


# Pairs of a method and a backbone, one for each capability.
PAIRS = [
    ("lab-sharpen", "lab-clip"),
    ("lab-frozen", "lab-head"),
    ("lab-patch", "lab-patches"),
    ("lab-reconstruct", "lab-masked"),
    ("lab-named", "lab-fingerprint"),
]
BROUGHT = {
    "adapters": [
        method("lab-sharpen", "Sharpen", "DualEncoder"),
        method("lab-frozen", "Frozen", "Classifier"),
        method("lab-patch", "CentrePatch", "PatchEncoder"),
        method("lab-reconstruct", "Reconstruct", "MaskedAutoencoder"),
        method("lab-named", "Named", "lab:Fingerprint"),
    ],
    "backbones": [
        backbone("lab-patches", "Patches", "PatchEncoder"),
        backbone("lab-masked", "Masked", "MaskedAutoencoder"),
        backbone("lab-fingerprint", "WithFingerprint", "lab:Fingerprint"),
    ],
    "executors": [
        ExecutorSpec(
            name="lab-backwards", summary="last chunk first", code="lab:Backwards",
            argument="[FILE]",
        )
    ],
    "goldens": [
        GoldenSpec(
            name="lab-numbers", summary="scores of the release", code="lab:sharpened",
            methods=("lab-sharpen",), file="lab.npz", arrays=frozenset({"lab_scores"}),
        )
    ],
    "plugins": [Commands(), squares, mean_colour, my_metrics, lab_paper, line_tracker],
}  # fmt: skip
