"""RobustBench's checkpoints: its networks, its wrappers and prefixes, and its normalization."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from ttt_bench import ClassSet, UserError, load_backbone
from ttt_bench.backbones.cifar_networks import WideResNet
from ttt_bench.backbones.robustbench import MODELS, RESNETS, RobustBenchBackbone

# The first three logits that the networks of robustbench 1.1.1 give for `drawn` weights and image.
PUBLISHED = {
    "wrn-10-1": [1.81683, 6.4683, 7.04651],
    "resnet-18": [269739.0, 416393.0, 535392.0],
    "resnet-50": [-5.87099, 2.98005, 8.88589],
    "preact-resnet-18": [106108.0, 214014.0, 307708.0],
    "preact-resnet-18-raw": [-17474.6, -13304.2, -8253.08],
}


def drawn(expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that follow from their place, name and shape alone."""
    state: dict[str, Tensor] = {}
    for place, (name, value) in enumerate(expected.items()):
        waves = torch.sin(torch.arange(value.numel()) * 0.7 + place).reshape(value.shape)
        if value.ndim > 1:
            state[name] = 1.5 * waves / math.sqrt(value[0].numel())
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 1 + 0.5 * waves**2
        else:
            around = 1.0 if "bn" in name and name.endswith("weight") else 0.0
            state[name] = around + 0.1 * waves
    return state


def drawn_image() -> Tensor:
    # (3 * 32 * 32) -> (1, 3, 32, 32)
    return (torch.sin(torch.arange(3 * 32 * 32) * 0.3) / 2 + 0.5).reshape(1, 3, 32, 32)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Return weights of the smallest wide network."""
    return drawn(WideResNet(10, 1, 10).state_dict())


def load(name: str, content: Any, folder: Path) -> RobustBenchBackbone:
    torch.save(content, folder / "w.pt")
    backbone = load_backbone(f"robustbench:{name}", "cpu", folder / "w.pt")
    assert isinstance(backbone, RobustBenchBackbone)
    return backbone


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_networks_compute_what_robustbenchs_do(name: str, tmp_path: Path):
    if name.startswith("wrn"):
        network = WideResNet(10, 1, 10)
    else:
        last = {"norm_last": True} if name == "preact-resnet-18" else {}
        network = RESNETS[name](classes=10, **last)
    backbone = load(name, drawn(network.state_dict()), tmp_path)
    logits = backbone.head(backbone.encode_image(drawn_image()))
    assert logits[0, :3].tolist() == pytest.approx(PUBLISHED[name], rel=1e-4, abs=1e-5)
    assert backbone.feature_dim == backbone.class_weights(ClassSet(("",) * 10), []).shape[1]


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "net", "last"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
def test_wrappers_and_prefixes_are_taken_off(wrapper: str, prefix: str, state, tmp_path: Path):
    # Files of old releases have no counters.
    prefixed = {f"{prefix}{n}": v for n, v in state.items() if "num_batches" not in n}
    backbone = load("wrn-10-1", {wrapper: prefixed} if wrapper else prefixed, tmp_path)
    loaded = backbone.model.state_dict()
    assert torch.equal(loaded["body.block2.layer.0.convShortcut.weight"],
                       state["block2.layer.0.convShortcut.weight"])  # fmt: skip
    assert torch.equal(loaded["head.bias"], state["fc.bias"])
    assert "weights_matched" not in backbone.card()


@pytest.mark.parametrize("names", [("mu", "sigma"), ("module.mu", "module.sigma"),
                                   ("normalize.mean", "normalize.std")])  # fmt: skip
def test_the_files_normalization_is_the_transforms(names, state, tmp_path: Path):
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    norm = {names[0]: mean.view(1, 3, 1, 1), names[1]: std.view(1, 3, 1, 1)}
    backbone = load("wrn-10-1", {"state_dict": {**norm, **state}}, tmp_path)
    card = backbone.card()
    expected = {"size": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    assert card["transform"] == expected
    pixels = backbone.preprocess(Image.new("RGB", (32, 32), (255, 0, 51)))
    assert pixels[:, 0, 0].tolist() == pytest.approx([3, -2, -4 / 3])
    assert backbone.preprocess(Image.new("RGB", (50, 40))).shape == (3, 32, 32)
    # Without one the model's own code normalizes, or nothing does.
    plain = load("wrn-10-1", state, tmp_path)
    assert torch.equal(plain.preprocess(Image.new("RGB", (32, 32), (51, 0, 255)))[:, 3, 3],
                       torch.tensor([0.2, 0.0, 1.0]))  # fmt: skip
    assert card["weights"] == plain.card()["weights"]


def test_the_zoos_names_have_their_network_and_normalization(tmp_path: Path):
    network = WideResNet(40, 2, 10).state_dict()
    backbone = load("Hendrycks2020AugMix_WRN", {"state_dict": network}, tmp_path)
    card = backbone.card()
    assert card["architecture"] == "wrn-40-2"
    assert card["transform"]["mean"] == [0.5, 0.5, 0.5]
    assert MODELS["Standard"].architecture == "wrn-28-10"
    assert MODELS["Kireev2021Effectiveness_RLAT"].architecture == "preact-resnet-18"


def test_any_number_of_classes_and_a_spare_stage_fit(tmp_path: Path):
    network = WideResNet(10, 1, 3, spare_stage=True)
    backbone = load("wrn-10-1", {"state_dict": network.state_dict()}, tmp_path)
    classes = ClassSet(("a", "b", "c"))
    pixels = torch.rand(2, 3, 32, 32)
    logits = backbone.build_classifier(classes, [])(backbone.encode_image(pixels))
    copy = backbone.working_copy(classes, [])
    assert torch.equal(copy(pixels), logits)
    with pytest.raises(UserError, match="3 outputs, the dataset has 10"):
        backbone.build_classifier(ClassSet(("",) * 10), [])


def test_what_does_not_fit_is_refused_in_a_line(state, tmp_path: Path):
    for name, content, wanted in (
        ("Standard", state, "does not fit the model: its entry"),
        ("resnet-18", state, "holds no weights of resnet-18"),
        ("wrn-10-1", {"epoch": 3}, "no tensor"),
        ("Standrd", state, "unknown model of robustbench 'Standrd'; did you mean Standard?"),
        ("wrn-12-1", state, "unknown model of robustbench 'wrn-12-1'"),
    ):
        with pytest.raises(UserError) as refused:
            load(name, content, tmp_path)
        assert wanted in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"needs its file; download Standard .* by --weights"):
        load_backbone("robustbench:Standard", "cpu")
