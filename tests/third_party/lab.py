"""A laboratory's plugin: one of everything that a plugin can bring, from public names alone."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

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
    ClassSet,
    Dataset,
    DatasetSpec,
    DualEncoder,
    Entry,
    Executor,
    ExecutorSpec,
    GoldenSpec,
    MaskedAutoencoder,
    MetricSpec,
    PatchEncoder,
    Prediction,
    Publication,
    Records,
    ReferenceSpec,
    Row,
    Run,
    Sample,
    SampleRNG,
    Table,
    Task,
    Transform,
    UserError,
    Worker,
    entropy,
    hookimpl,
)

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}
FAMILY = BackboneFamily(name="lab", default="lab-clip", by_dataset=CLIP_FAMILY.by_dataset)


class Squares(Dataset):
    """Squares of one colour, each a little darker than the one before."""

    name = "lab-squares"
    classes = ClassSet(tuple(COLOURS), prompt="a {} square.")

    def __init__(self, argument: str, data_root: Path | None) -> None:
        count = int(argument or 4)
        if not 0 < count < 100:
            raise UserError(f"lab-squares:{count} is not between 1 and 99; give another number")
        self.name = f"lab-squares:{count}"
        self.entries = [
            Entry(f"{name}-{number}", ("day", "night")[number % 2], label)
            for number in range(count)
            for label, name in enumerate(COLOURS)
        ]

    def open(self, index: int) -> Image.Image:
        name, number = self.entries[index].key.split("-")
        red, green, blue = (level - int(number) % 20 for level in COLOURS[name])
        return Image.new("RGB", (24, 24), (red, green, blue))

    def card(self) -> dict[str, Any]:
        return {"revision": "1", "corruption_source": None}


class MeanColour(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))  # (batch, 3)


class LabBackbone(Backbone):
    """The mean colour of an image is its feature."""

    feature_dim = 3
    image_size = 8

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.device = device
        self.model = MeanColour().eval()

    def make_transform(self, size: int) -> Transform:
        def transform(image: Image.Image) -> Tensor:
            levels = torch.tensor(list(image.resize((size, size)).tobytes()))
            return levels.view(size, size, 3).permute(2, 0, 1) / 255  # (3, size, size)

        return transform

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.model(pixels)

    def card(self) -> dict[str, Any]:
        return {"weights": self.weights_hash(), "dtype": "float32", "transform": "resize"}


class Clip(LabBackbone, DualEncoder):
    tokenizer = staticmethod(str.split)

    @property
    def logit_scale(self) -> Tensor:
        return torch.tensor(10.0)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        words = [prompt.rstrip(".").split() for prompt in prompts]
        colours = [next(COLOURS[word] for word in line if word in COLOURS) for line in words]
        return torch.tensor(colours, dtype=torch.float32)


class Head(LabBackbone, Classifier):
    num_classes = 3

    def head(self, features: Tensor) -> Tensor:
        return 20 * features


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


def mistakes(records: Records) -> dict[str, float]:
    """Return the number of wrong predictions in each group."""
    wrong = (
        group for group, right in zip(records.group, records.correct, strict=True) if not right
    )
    counts = dict.fromkeys((str(group) for group in records.group), 0.0)
    for group in wrong:
        counts[str(group)] += 1
    return counts


def sharpened(arrays: Mapping[str, Any], device: torch.device) -> dict[str, tuple[Any, Any]]:
    """Return the computed and the expected scores of the release."""
    return {"scores": (2 * torch.from_numpy(arrays["lab_scores"]).to(device), arrays["sharpened"])}


def tables() -> Publication:
    """Return a table of one row."""
    cells = {"lab-squares:4": 90.0}
    row = Row(
        method="lab-sharpen", backbone="lab-clip", printed_method="Sharpen",
        printed_backbone="Lab CLIP", labelled_data=False, cells=cells,
        printed={"average": 90.0}, recomputed={"average": 90.0},
    )  # fmt: skip
    table = Table(
        name="lab", title="Squares", columns=tuple(cells), rows=(row,),
        averages={"average": tuple(cells)}, samples={"lab-squares:4": 12},
    )  # fmt: skip
    return Publication(tables=(table,))


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


class Tracker:
    """Appends a line to a file for everything that it is told."""

    @staticmethod
    def note(*words: object) -> None:
        with Path("tracker.txt").open("a") as file:
            print(*words, file=file)

    @hookimpl
    def ttt_bench_run_started(self, run: Run) -> None:
        self.note("started", run.method, run.finished, run.n)

    @hookimpl
    def ttt_bench_chunk_finished(self, run: Run, records: Records) -> None:
        self.note("chunk", len(records))

    @hookimpl
    def ttt_bench_run_finished(self, run: Run, summary: dict[str, Any]) -> None:
        self.note("finished", run.method, summary["top1"])


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
        backbone("lab-clip", "Clip", "DualEncoder"),
        backbone("lab-head", "Head", "Classifier"),
        backbone("lab-patches", "Patches", "PatchEncoder"),
        backbone("lab-masked", "Masked", "MaskedAutoencoder"),
        backbone("lab-fingerprint", "WithFingerprint", "lab:Fingerprint"),
    ],
    "datasets": [
        DatasetSpec(
            name="lab-squares", summary="squares", code="lab:Squares", argument="[COUNT]",
            source="drawn", licence="CC0",
        )
    ],
    "metrics": [MetricSpec(name="mistakes", summary="wrong predictions", code="lab:mistakes")],
    "references": [
        ReferenceSpec(name="lab-paper", summary="a table", code="lab:tables", source="the lab")
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
    "plugins": [Tracker(), Commands()],
}  # fmt: skip
