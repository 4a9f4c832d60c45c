"""Patch features: the last norm's tokens of the patches, in their places, at any side."""

from pathlib import Path

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed

from ttt_bench import Backbone, ClassSet, DualEncoder, PatchEncoder, Task, UserError
from ttt_bench.engine.loading import load_backbone
from ttt_bench.registry import registry


def loaded(name: str, folder: Path, **changes: object) -> tuple[Backbone, torch.nn.Module]:
    """A timm backbone with random weights, and the model they are of."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, **changes).eval()
    torch.save(model.state_dict(), folder / "w.pth")
    return load_backbone(f"timm:{name}", "cpu", folder / "w.pth"), model


def noise(side: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3"])
def test_vit_tokens_without_the_prefix(name: str, tmp_path: Path):
    backbone, model = loaded(name, tmp_path)
    pixels = noise(backbone.image_size)
    with torch.no_grad():
        patches = backbone.encode_patches(pixels)
        kept = model.forward_intermediates(pixels, indices=1, norm=True, intermediates_only=True)  # pyright: ignore
    torch.testing.assert_close(patches, kept[0].permute(0, 2, 3, 1))


def test_maps_of_convolutional_models(tmp_path: Path):
    backbone, model = loaded("test_resnet", tmp_path)
    pixels = noise(backbone.image_size)
    with torch.no_grad():
        expected = model.forward_features(pixels)  # pyright: ignore
        patches = backbone.encode_patches(pixels)
    assert torch.equal(patches, expected.permute(0, 2, 3, 1))


def test_another_side_resamples_positions_and_leaves_the_model_alone(tmp_path: Path):
    backbone, model = loaded("test_vit", tmp_path)
    before = backbone.weights_hash()
    with torch.no_grad():
        patches = backbone.encode_patches(noise(96))
        model.set_input_size(img_size=(96, 96))  # pyright: ignore
        expected = model.forward_features(noise(96))[:, 1:].unflatten(1, (6, 6))  # pyright: ignore
    torch.testing.assert_close(patches, expected)
    assert backbone.weights_hash() == before
    assert backbone.encode_image(noise(160)).shape == (2, backbone.feature_dim)
    with pytest.raises(UserError, match="takes no images of 97 pixels"), torch.no_grad():
        backbone.encode_patches(noise(97))


def test_dinov2_loads_as_a_teacher_and_classifies_nothing(tmp_path: Path):
    """The released teacher's architecture without its size: registers, and no classifier head."""
    from timm.models.vision_transformer import VisionTransformer

    name = "vit_small_patch14_reg4_dinov2"
    backbone, model = loaded(name, tmp_path)
    assert isinstance(model, VisionTransformer)
    assert model.num_prefix_tokens == 5
    with torch.no_grad():
        patches = backbone.encode_patches(noise(112, 1))
        model.set_input_size(img_size=(112, 112))
        tokens = model.forward_features(noise(112, 1))
    assert patches.shape == (1, 8, 8, 384)
    torch.testing.assert_close(patches.flatten(1, 2), tokens[:, 5:])
    with pytest.raises(UserError, match="has no head"):
        backbone.build_classifier(ClassSet(("a", "b")), [])


def test_tiny_clip_and_a_clip_transformer(tmp_path: Path):
    import open_clip

    tiny = load_backbone("tiny-clip", "cpu")
    with torch.no_grad():
        patches = tiny.encode_patches(noise(32))
        pooled = tiny.model.visual.trunk.fc_norm(patches.mean((1, 2)))  # pyright: ignore
        feature = tiny.model.visual.head(pooled)  # pyright: ignore
        torch.testing.assert_close(feature, tiny.encode_image(noise(32)))
        assert tiny.encode_patches(noise(64)).shape == (2, 16, 16, 128)
    model = open_clip.create_model("ViT-S-32-alt")
    torch.save(model.state_dict(), tmp_path / "w.pt")
    clip = load_backbone("open_clip:ViT-S-32-alt", "cpu", tmp_path / "w.pt")
    with torch.no_grad():
        patches = clip.encode_patches(noise(224, 1))
    assert patches.shape == (1, 7, 7, 384)
    torch.testing.assert_close(patches.mean(-1), torch.zeros(1, 7, 7), atol=1e-5, rtol=0)
    with pytest.raises(UserError, match="224 pixels"):
        clip.encode_patches(noise(256, 1))


def test_tiny_mae_at_its_own_and_another_side():
    tiny = load_backbone("tiny-mae", "cpu")
    with torch.no_grad():
        tokens = tiny.model(noise(32))
        assert torch.equal(tiny.encode_patches(noise(32)).flatten(1, 2), tokens[:, 1:])
        assert tiny.encode_patches(noise(40)).shape == (2, 10, 10, 128)
        assert torch.equal(tiny.model(noise(32)), tokens)
    with pytest.raises(UserError, match="no whole number of patches"):
        tiny.encode_patches(noise(30))
    own = tiny.model.pos_embed.data  # pyright: ignore
    torch.testing.assert_close(resample_abs_pos_embed(own, [8, 8]), own)


def test_patch_encoders_are_declared_as_such():
    declared = {
        name for name, entry in registry().backbones.items() if "PatchEncoder" in entry.spec.gives
    }
    assert declared == {"tiny-clip", "tiny-resnet", "open_clip", "timm", "tiny-mae", "mae", "lite0"}


def test_a_backbone_without_a_capability_is_refused(tmp_path: Path):
    backbone, _ = loaded("test_resnet", tmp_path)
    task = Task(backbone, ClassSet(("a",)))
    assert task.require(PatchEncoder) is backbone
    with pytest.raises(UserError, match="TimmBatchNormBackbone is no DualEncoder"):
        task.require(DualEncoder)
