"""The embedded models are as their cards say, and rounding is that of any batch."""

import hashlib
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from ttt_bench.api.backbone import Classifier
from ttt_bench.api.cost import Counter
from ttt_bench.api.specs import CLASSIFIER_FAMILY
from ttt_bench.backbones import tiny_clip, tiny_resnet
from ttt_bench.datasets.cifar10_c_mini import Cifar10CMini
from ttt_bench.engine.loading import default_backbone, load_backbone

FOLDER = Path(tiny_clip.__file__).parent


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny-clip", "cpu")


def test_tiny_clip_is_in_open_clips_format(tiny):
    assert sum(f.stat().st_size for f in FOLDER.iterdir() if f.is_file()) < 10_000_000
    model = open_clip.create_model(f"local-dir:{FOLDER}", require_pretrained=True).eval()
    own = tiny.model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    tokens = open_clip.get_tokenizer(f"local-dir:{FOLDER}")(["a photo of a cat."])
    torch.testing.assert_close(model.encode_text(tokens), tiny.encode_text(["a photo of a cat."]))


@pytest.mark.parametrize(
    ("method", "backbone"), [("clip-zero-shot", "tiny-clip"), ("source", "tiny-resnet")]
)
def test_the_embedded_models_know_clean_photographs(ttt, method: str, backbone: str):
    words = ("-d", "cifar10-c-mini:clean", "--format", "json", "--device", "cpu")
    code, out, err = ttt("run", "-m", method, *words)
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    assert run["backbone"] == backbone
    assert run["top1"] >= 80


def test_features_do_not_depend_on_the_batch(tiny):
    dataset = Cifar10CMini("", None)
    pixels = torch.stack([tiny.preprocess(dataset.open(i)) for i in range(9)])
    together = tiny.batch_invariant(tiny.encode_image, pixels)
    for size in (1, 2, 5):
        parts = [tiny.batch_invariant(tiny.encode_image, part) for part in pixels.split(size)]
        assert torch.equal(torch.cat(parts), together)


def test_a_place_in_a_group_changes_no_bit(tiny):
    pixels = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = tiny.encode_image(pixels)
    assert torch.equal(tiny.encode_image(pixels.flip(0)), features.flip(0))
    others = torch.rand(15, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(tiny.encode_image(torch.cat([others, pixels[:1]]))[15], features[0])


def test_groups_of_a_fixed_size_are_padded(tiny, monkeypatch):
    """Images pass in groups; the padding of the last one is dropped."""
    sizes = []

    def encode(pixels):
        sizes.append(len(pixels))
        return pixels.mean(dim=(2, 3))

    monkeypatch.setattr(tiny, "encode_image", encode)
    pixels = torch.rand(70, 3, 4, 4)
    assert torch.equal(tiny.batch_invariant(tiny.encode_image, pixels), pixels.mean(dim=(2, 3)))
    assert sizes == [16] * 5
    sizes.clear()
    with Counter():
        tiny.batch_invariant(tiny.encode_image, pixels[:17])
    # Padding is no cost of the images.
    assert sizes == [16, 1]


def test_preprocess_is_open_clips_own(tiny):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), np.uint8))
    _, _, own = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    assert torch.equal(tiny.preprocess(image), own(image))
    assert tiny.preprocess(image, 64).shape == (3, 64, 64)


def test_class_features_are_means_of_unit_features(tiny):
    templates = ("a photo of a {}.", "a bad photo of a {}.")
    features = tiny.class_features(["cat", "dog"], templates)
    cat = tiny.encode_text(["a photo of a cat.", "a bad photo of a cat."])
    mean = (cat / cat.norm(dim=1, keepdim=True)).mean(0)
    torch.testing.assert_close(features[0], mean / mean.norm())


def test_card_records_what_decides_numbers(tiny):
    card = tiny.card()
    assert len(card["weights"]) == 64
    assert (card["dtype"], card["activation"]) == ("float32", "GELU")
    assert card["transform"]["size"] == [32, 32]


def test_tiny_resnet_is_a_classifier_with_batchnorm():
    resnet = load_backbone("tiny-resnet", "cpu")
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = resnet.encode_image(pixels)
    assert isinstance(resnet, Classifier)
    assert torch.equal(resnet.head(features), resnet.model(pixels))
    assert resnet.encode_patches(pixels).shape == (3, 8, 8, resnet.feature_dim)
    assert any(isinstance(module, nn.BatchNorm2d) for module in resnet.model.modules())


@pytest.mark.parametrize("dataset", ["cifar10-c-mini", "cifar10", "cifar10-c:fog@5"])
def test_tiny_resnet_is_the_default_of_classifiers_on_cifar10(dataset: str):
    assert default_backbone(dataset, CLASSIFIER_FAMILY) == "tiny-resnet"


@pytest.mark.parametrize("folder", [tiny_clip, tiny_resnet])
def test_a_model_card_names_the_hash_of_its_file(folder):
    path = Path(folder.__file__).parent
    (weights,) = path.glob("*.safetensors")
    card = (path / "MODEL_CARD.md").read_text()
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in card
