"""A capability is used by the names of its class, or by the modules that only it runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch

from ttt_bench import AdapterSpec, BackboneSpec, DualEncoder, PatchEncoder, registered
from ttt_bench.testing import CheckFailed, adapter_checks
from ttt_bench.testing.fakes.capability_spy import built_in_capabilities, names_of

MODULE = "tests.planted.capabilities"
GRID = f"{MODULE}:GridEncoder"
CLASSES = {
    "UsesTheGrid": GRID,
    "RunsTheNetwork": "Classifier",
    "RequiresAClassifier": "Classifier",
    "RunsTheDecoder": "MaskedAutoencoder",
    "Reconstructs": "MaskedAutoencoder",
}


@pytest.fixture(autouse=True)
def methods() -> Iterator[None]:
    """Register each method twice: once as it is, and once with its need declared."""
    specs = [
        AdapterSpec(
            name=f"{name.lower()}-{'declared' if needs else 'undeclared'}",
            summary="",
            code=f"{MODULE}:{name}",
            needs=needs,
        )
        for name, need in CLASSES.items()
        for needs in (frozenset(), frozenset({need}))
    ]
    grid_clip = BackboneSpec(
        name="grid-clip",
        summary="",
        code=f"{MODULE}:GridClip",
        gives=frozenset({"DualEncoder", "PatchEncoder", GRID}),
    )
    with registered(adapters=specs, backbones=[grid_clip]):
        yield


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet10t", num_classes=10).state_dict(), path)
    return path


def needs_declared(method: str, backbone: str, weights: Path | None) -> str:
    checks = adapter_checks(method, backbone=backbone, weights=weights, samples=3, device="cpu")
    (check,) = (check for check in checks if check.name == "check_needs_declared")
    return check().text


@pytest.mark.parametrize(
    ("method", "backbone", "finding"),
    [
        ("UsesTheGrid", "grid-clip", "encode_grid, which is part of GridEncoder"),
        ("RunsTheNetwork", "timm:resnet10t", "model.fc, which is part of Classifier"),
        ("RequiresAClassifier", "timm:resnet10t", "head, which is part of Classifier"),
        ("RunsTheDecoder", "tiny-mae", "model.decoder_embed, which is part of MaskedAuto"),
        ("Reconstructs", "tiny-mae", "mask_grid, which is part of MaskedAutoencoder"),
    ],
)
def test_a_capability_must_be_declared(method: str, backbone: str, finding: str, resnet: Path):
    weights = resnet if backbone.startswith("timm") else None
    with pytest.raises(CheckFailed, match=finding):
        needs_declared(f"{method.lower()}-undeclared", backbone, weights)
    text = needs_declared(f"{method.lower()}-declared", backbone, weights)
    assert text == f"uses {CLASSES[method].rpartition(':')[2]}"


def test_a_declared_capability_without_use_is_a_warning():
    spec = AdapterSpec(
        name="idle",
        summary="",
        code="ttt_bench.baselines.source:Source",
        needs=frozenset({"PatchEncoder"}),
    )
    with registered(adapters=[spec], name="idle"):
        text = needs_declared("idle", "tiny-clip", None)
    assert text == "uses image features alone; warning: declares PatchEncoder without use"


def test_every_capability_of_the_harness_is_known():
    assert {DualEncoder, PatchEncoder} <= set(built_in_capabilities())
    assert names_of(DualEncoder) == {"tokenizer", "logit_scale", "encode_text", "class_features"}
    assert names_of(PatchEncoder) == {"encode_patches"}


def test_the_command_checks_a_method_on_weights_from_a_file(ttt, resnet: Path):
    code, out, err = ttt(
        "check", "source", "--backbone", "timm:resnet10t", "--weights", resnet,
        "--only", "check_a_b_a", "--only", "check_backbone_untouched",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == (
        "source on timm:resnet10t and cifar10-c-mini: 2 passed, 0 failed, 0 skipped"
    )
