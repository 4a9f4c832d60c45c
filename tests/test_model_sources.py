"""Models as their libraries keep them: repositories of the hub, folders, torchvision's cache."""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants as hub
from PIL import Image
from safetensors.torch import save_file
from timm.models._hub import save_for_hf
from torchvision.models import ShuffleNet_V2_X0_5_Weights

from ttt_bench import ClassSet, UserError, load_backbone, seeded
from ttt_bench.backbones import model_sources
from ttt_bench.backbones.open_clip import OpenClipBackbone
from ttt_bench.backbones.timm_classifier import TimmBackbone
from ttt_bench.backbones.torchvision_classifier import TorchvisionBackbone
from ttt_bench.registry import registry
from ttt_bench.toolkit import network

WEIGHTS = ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1
SHUFFLENET = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(autouse=True)
def own_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Empty caches, and a hub that refuses connections."""
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(network, "SECONDS", 0.5)
    model_sources._hub_config.cache_clear()


def put_into_cache(folder: Path, repository: str, cache: Path) -> None:
    """Copy a folder to where the hub's client keeps a repository."""
    kept = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, kept / "snapshots" / ("0" * 40))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)


@pytest.fixture
def timm_folder(tmp_path: Path) -> Path:
    """Return a folder as timm uploads models, with a head of three classes."""
    with seeded(0):
        model = timm.create_model("test_resnet", num_classes=3)
    model.pretrained_cfg["mean"] = (0.1, 0.2, 0.3)  # pyright: ignore
    save_for_hf(model, tmp_path / "lab-resnet", safe_serialization=True)
    return tmp_path / "lab-resnet"


@pytest.fixture
def open_clip_folder(tmp_path: Path) -> Path:
    """Return a folder as open_clip uploads models."""
    vision = {"layers": 1, "width": 16, "image_size": 32, "patch_size": 16, "head_width": 8}
    return write_clip(tmp_path / "lab-clip", vision)


def write_clip(folder: Path, vision: dict[str, Any]) -> Path:
    """Write a folder as open_clip uploads models, and return it."""
    model_cfg = {
        "embed_dim": 16,
        "quick_gelu": True,
        "vision_cfg": vision,
        "text_cfg": {
            "layers": 1, "width": 16, "context_length": 77, "vocab_size": 49408, "heads": 2,
        },
    }  # fmt: skip
    folder.mkdir()
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with seeded(0):
        model = open_clip.CLIP(**model_cfg)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


def refused(name: str, weights: Path | None = None) -> str:
    started = time.perf_counter()
    with pytest.raises(UserError) as error:
        load_backbone(name, "cpu", weights)
    assert time.perf_counter() - started < 10
    assert "\n" not in str(error.value)
    return str(error.value)


def test_timm_models_of_a_folder_and_of_the_hub(timm_folder: Path, tmp_path: Path):
    put_into_cache(timm_folder, "lab/resnet", tmp_path / "hub")
    folder = load_backbone(f"timm:local-dir:{timm_folder}", "cpu")
    cached = load_backbone("timm:hf-hub:lab/resnet", "cpu")
    pinned = load_backbone(f"timm:hf-hub:lab/resnet@{'0' * 40}", "cpu")
    assert isinstance(folder, TimmBackbone)
    assert folder.num_classes == 3
    assert folder.card() == cached.card() == pinned.card()
    assert folder.card()["transform"]["mean"] == [0.1, 0.2, 0.3]
    own = timm.create_model(f"local-dir:{timm_folder}", pretrained=True).eval()
    pixels = torch.rand(1, 3, folder.image_size, folder.image_size)
    with torch.no_grad():
        torch.testing.assert_close(folder.head(folder.encode_image(pixels)), own(pixels))
    backbones = registry().backbones
    for name in (f"timm:local-dir:{timm_folder}", "timm:hf-hub:lab/resnet"):
        assert "BatchNormClassifier" in backbones.find(name).spec.gives


def test_open_clip_models_of_a_folder_and_of_the_hub(open_clip_folder: Path, tmp_path: Path):
    put_into_cache(open_clip_folder, "lab/clip", tmp_path / "hub")
    folder = load_backbone(f"open_clip:local-dir:{open_clip_folder}", "cpu")
    cached = load_backbone("open_clip:hf-hub:lab/clip", "cpu")
    assert isinstance(folder, OpenClipBackbone)
    assert folder.card() == cached.card()
    assert folder.card()["activation"] == "QuickGELU"
    assert folder.card()["transform"]["mean"] == [0.1, 0.2, 0.3]
    own = open_clip.create_model(f"local-dir:{open_clip_folder}").eval()
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folder.encode_image(pixels), own.encode_image(pixels))


def test_clips_resnets_have_their_image_size_as_a_number(tmp_path: Path):
    vision = {"layers": (1, 1, 1, 1), "width": 8, "image_size": 64}
    backbone = load_backbone(f"open_clip:local-dir:{write_clip(tmp_path / 'rn', vision)}", "cpu")
    assert backbone.image_size == 64
    pixels = backbone.preprocess(Image.new("RGB", (80, 70)))
    assert pixels.shape == (3, 64, 64)
    assert backbone.encode_image(pixels[None]).shape == (1, 16)


def test_a_model_that_is_not_there_is_refused_at_once(
    timm_folder: Path, open_clip_folder: Path, tmp_path: Path
):
    for library in ("timm", "open_clip"):
        assert "127.0.0.1:9 does not answer" in refused(f"{library}:hf-hub:lab/other")
        assert "there is no folder" in refused(f"{library}:local-dir:{tmp_path / 'none'}")
        assert "no such file" in refused(f"{library}:local-dir:{tmp_path}")
    (open_clip_folder / "open_clip_model.safetensors").unlink()
    assert "the folder's model cannot be loaded" in refused(
        f"open_clip:local-dir:{open_clip_folder}"
    )
    assert "leave --weights out" in refused(f"timm:local-dir:{timm_folder}", tmp_path / "w.pth")
    (timm_folder / "config.json").write_text("{")
    assert "not readable as JSON" in refused(f"timm:local-dir:{timm_folder}")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put drawn weights into torch's cache, published under their own hash."""
    with seeded(0):
        model = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None)
    file = tmp_path / "torch" / "hub" / "checkpoints" / "x.pth"
    file.parent.mkdir(parents=True)
    torch.save(model.state_dict(), file)
    begin = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    named = file.rename(file.with_name(f"shufflenet-{begin}.pth"))
    monkeypatch.setattr(WEIGHTS.value, "url", f"http://127.0.0.1:9/{named.name}")
    return named


def test_torchvision_models_have_their_weights_and_transform(published: Path, capfd):
    backbone = load_backbone(SHUFFLENET, "cpu")
    assert isinstance(backbone, TorchvisionBackbone)
    own = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None).eval()
    own.load_state_dict(torch.load(published, weights_only=True))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 260, 3), np.uint8))
    assert torch.equal(backbone.preprocess(image), WEIGHTS.transforms()(image))
    assert backbone.preprocess(image, 64).shape == (3, 64, 64)
    pixels = backbone.preprocess(image)[None]
    with torch.no_grad():
        torch.testing.assert_close(backbone.head(backbone.encode_image(pixels)), own(pixels))
    card = backbone.card()
    assert card["published"] == "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"
    assert (card["transform"]["resize"], card["transform"]["crop"]) == (256, 224)
    assert json.loads(json.dumps(card)) == card
    for typed in ("IMAGENET1K_V1", "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1", "DEFAULT"):
        assert load_backbone(f"{SHUFFLENET}/{typed}", "cpu").card() == card
    classes = ClassSet(("a", "b"), imagenet_indices=(7, 3))
    copy = backbone.working_copy(classes, [])
    assert torch.equal(copy(pixels), backbone.build_classifier(classes, [])(copy.features(pixels)))
    assert "BatchNormClassifier" in registry().backbones.find(SHUFFLENET).spec.gives
    assert "BatchNormClassifier" not in registry().backbones.find("torchvision:vgg11").spec.gives
    assert capfd.readouterr().out == ""


def test_torchvision_takes_weights_of_a_file(tmp_path: Path):
    model = torchvision.models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=3)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pth")
    backbone = load_backbone(SHUFFLENET, "cpu", tmp_path / "w.pth")
    assert isinstance(backbone, TorchvisionBackbone)
    assert backbone.num_classes == 3
    assert "published" not in backbone.card()


def test_torchvision_weights_that_are_not_the_published_ones_are_refused(published: Path):
    content = published.read_bytes()
    published.write_bytes(content[:-1] + b"\x01")
    assert "is not the published file (its SHA-256 does not begin with" in refused(SHUFFLENET)
    published.unlink()
    message = refused(SHUFFLENET)
    assert "127.0.0.1:9 does not answer" in message
    assert "give a file with --weights" in message


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet5", "unknown torchvision model 'resnet5'; did you mean resnet50"),
        ("resnet50/IMAGENET1K_V3", "unknown weights of torchvision:resnet50 'IMAGENET1K_V3'"),
    ],
)
def test_unknown_names_of_torchvision_are_refused(name: str, wanted: str):
    assert wanted in refused(f"torchvision:{name}")


def test_a_torchvision_model_without_a_linear_head_is_refused(tmp_path: Path):
    model = torchvision.models.get_model("squeezenet1_1", weights=None)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    message = refused("torchvision:squeezenet1_1", tmp_path / "w.pth")
    assert "its last layer is not linear" in message
