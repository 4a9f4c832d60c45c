"""timm backbones, weights from a file, and the baseline that is nothing but the backbone."""

import json
import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform

from tests.records_equal import records_equal
from tests.test_bad_input import one_line
from ttt_bench import ClassSet, Task, UserError, seeded
from ttt_bench.backbones import published_weights
from ttt_bench.backbones.timm_classifier import TimmBackbone
from ttt_bench.datasets import image_folder
from ttt_bench.datasets.image_folder import ImageFolder
from ttt_bench.engine.loading import load_backbone
from ttt_bench.runs.folder import RunFolder

INDICES = (281, 7, 933)
THREE = ClassSet(("cat", "cock", "cheeseburger"), imagenet_indices=INDICES)
SMALL_APM = [f"--set={s}" for s in ("steps=2", "widths=[32,32,16]", "image_size=32", "grid=4")]


def random_model(name: str) -> torch.nn.Module:
    """An untrained model, its head far enough from zero to tell classes apart."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        for parameter in model.get_classifier().parameters():  # pyright: ignore
            torch.nn.init.normal_(parameter)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "test_vit.pth"
    torch.save(random_model("test_vit").state_dict(), path)
    return path


def set_indices(monkeypatch: pytest.MonkeyPatch, indices: tuple[int, ...] | None) -> None:
    """Give the classes of image folders these positions among ImageNet's 1000."""
    monkeypatch.setattr(
        image_folder, "ClassSet", lambda names: ClassSet(names, imagenet_indices=indices)
    )


@pytest.fixture
def photos(tmp_path: Path, monkeypatch) -> tuple[object, ...]:
    """Options that name a dataset of three of ImageNet's classes."""
    set_indices(monkeypatch, INDICES)
    draws = np.random.default_rng(0)
    for folder in ("cat", "cock", "cheeseburger"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(draws.integers(0, 255, (50, 40, 3), np.uint8))
            image.save(tmp_path / "photos" / folder / f"{number}.png")
    return ("--dataset", "imagefolder:photos", "--device", "cpu", "--format", "json")


def on_cpu(name: str, path: Path) -> TimmBackbone:
    backbone = load_backbone(f"timm:{name}", "cpu", path)
    assert isinstance(backbone, TimmBackbone)
    return backbone


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext", "resnetv2_18"]
)
def test_feature_and_head_give_the_models_own_logits(name: str, tmp_path: Path):
    model = random_model(name)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "w.safetensors")
    backbone = on_cpu(name, tmp_path / "w.safetensors")
    pixels = torch.rand(2, 3, backbone.image_size, backbone.image_size)
    with torch.no_grad():
        features, logits = backbone.encode_image(pixels), model(pixels)
    assert features.shape == (2, backbone.feature_dim)
    classify = backbone.build_classifier(ClassSet(("",) * 1000), [])
    torch.testing.assert_close(classify(features), logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(classify(features[:, None])[1, 0], logits[1], rtol=1e-5, atol=1e-5)
    chosen = backbone.build_classifier(THREE, [])
    torch.testing.assert_close(chosen(features), classify(features)[:, list(INDICES)])


def test_transform_is_timms_own(weights: Path):
    backbone = on_cpu("test_vit", weights)
    config = resolve_model_data_config(backbone.model)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8))
    assert torch.equal(backbone.preprocess(image), create_transform(**config)(image))  # pyright: ignore
    smaller = create_transform(**{**config, "input_size": (3, 64, 64)})
    assert torch.equal(backbone.preprocess(image, 64), smaller(image))  # pyright: ignore
    card = backbone.card()
    assert (len(card["weights"]), card["dtype"], card["activation"]) == (64, "float32", "GELU")
    assert card["transform"]["input_size"] == [3, 160, 160]
    assert card["transform"]["crop_pct"] == 0.95
    assert "weights_matched" not in card
    assert json.loads(json.dumps(card)) == card


def test_a_head_that_does_not_fit_is_refused(weights: Path, ttt, photos, monkeypatch):
    backbone = on_cpu("test_vit", weights)
    with pytest.raises(UserError, match="1000 outputs, the dataset has 10 classes"):
        backbone.build_classifier(ClassSet(("",) * 10), [])
    assert THREE.head_outputs("the method's", 1000) == list(INDICES)
    assert THREE.head_outputs("the method's", 3) == [0, 1, 2]
    with pytest.raises(UserError, match="the method's head has 10 outputs, the dataset has 3"):
        THREE.head_outputs("the method's", 10)
    set_indices(monkeypatch, None)
    run = ("run", "-b", "timm:test_vit", "--weights", weights, "-o", "r", *photos)
    one_line(ttt(*run, "-m", "apm"), "1000 outputs", "3 classes")
    assert not Path("r").exists()


def test_a_model_without_a_head_classifies_nothing(tmp_path: Path, monkeypatch):
    model = timm.create_model("test_vit", num_classes=0)
    monkeypatch.setattr(timm, "create_model", lambda *args, **settings: model)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    backbone = on_cpu("test_vit", tmp_path / "w.pth")
    task = Task(backbone, ClassSet(("a", "b")))
    assert backbone.encode_image(torch.rand(1, 3, 160, 160)).shape == (1, backbone.feature_dim)
    with pytest.raises(UserError, match="has no head"):
        task.logits(torch.zeros(backbone.feature_dim))


def test_a_head_on_something_else_than_the_feature_is_refused(tmp_path: Path):
    name = "deit_tiny_distilled_patch16_224"
    torch.save(timm.create_model(name).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="not its classifier on its pooled feature"):
        on_cpu(name, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("test_vot", ["timm model 'test_vot'", "test_vit"]),
        ("test_vit.r160_in2k", ["tag of timm:test_vit 'r160_in2k'", "r160_in1k"]),
        ("vit_base_patch16_reg4_gap_256", ["timm has no weights", "--weights"]),
        ("test_vit", ["could not be loaded (no route)", "--weights"]),
    ],
)
def test_names_and_weights_that_cannot_be_loaded(name, wanted, ttt, photos, monkeypatch):
    def unreachable(*args, **settings):
        raise OSError("no route\nto the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    monkeypatch.setattr(published_weights, "why_silent", lambda address: "")
    monkeypatch.setattr(timm, "list_pretrained", lambda f: [f[:-1] + "r160_in1k"] * ("test" in f))
    one_line(ttt("run", "-m", "source", "-b", f"timm:{name}", *photos), *wanted)


def test_source_and_apm_run_whatever_the_batch(ttt, photos, records_of, weights: Path):
    results = []
    for size in (1, 5):
        options = ("-b", "timm:test_vit", "--weights", weights, "--batch-size", size)
        methods = ("-m", "source", "-m", "apm", "--output", f"r{size}", *SMALL_APM)
        code, out, err = ttt("run", *options, *methods, *photos)
        assert code == 0, err
        results.append([records_of(run) for run in json.loads(out)["runs"]])
    (source, apm), (other_source, other_apm) = results
    assert records_equal(source, other_source)
    # To the last bit is for the tests of APM.
    np.testing.assert_allclose(apm.logits, other_apm.logits, rtol=1e-5, atol=1e-5)
    backbone = on_cpu("test_vit", weights)
    dataset = ImageFolder("photos", None)
    with torch.no_grad():
        logits = backbone.model(backbone.preprocess(dataset.open(5))[None])[0]
    np.testing.assert_allclose(source.logits[5], logits[list(INDICES)], rtol=1e-5, atol=1e-5)


@pytest.fixture
def ten_classes(tmp_path: Path) -> Path:
    """Weights as a training script leaves them: of ten classes, wrapped, names with prefixes."""
    with seeded(0):
        model = timm.create_model("test_resnet", num_classes=10).eval()
    state = {f"module.model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "model": state}, tmp_path / "ten.pth")
    return tmp_path / "ten.pth"


def test_a_head_of_ten_classes_runs_on_ten_classes(ttt, photos, ten_classes: Path, tmp_path: Path):
    backbone = on_cpu("test_resnet", ten_classes)
    assert backbone.num_classes == 10
    pixels = torch.rand(2, 3, backbone.image_size, backbone.image_size)
    with torch.no_grad():
        logits = backbone.build_classifier(ClassSet(("",) * 10), [])(backbone.encode_image(pixels))
        torch.testing.assert_close(logits, backbone.model(pixels))
    for number in range(10):
        shutil.copytree(tmp_path / "photos" / "cat", tmp_path / "ten" / f"class {number}")
    run = ("run", "-m", "source", "-b", "timm:test_resnet", "--weights", ten_classes)
    run += ("--device", "cpu", "--limit", 10)
    for dataset in ("cifar10-c-mini", "imagefolder:ten"):
        code, _, err = ttt(*run, "-d", dataset)
        assert code == 0, err
    one_line(ttt(*run, *photos), "head has 10 outputs, the dataset has 3 classes")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_ema", "ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod."])
def test_wrappers_and_prefixes_of_training_scripts(wrapper, prefix, weights: Path, tmp_path: Path):
    state = torch.load(weights, weights_only=True)
    renamed = {prefix + name: value for name, value in state.items()}
    torch.save({wrapper: renamed, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth")
    loaded = on_cpu("test_vit", tmp_path / "w.pth")
    assert all(torch.equal(state[name], value) for name, value in loaded._timm.state_dict().items())
    assert "weights_matched" not in loaded.card()


def test_of_two_state_dicts_the_plain_one_is_taken_and_said(weights: Path, tmp_path: Path, capfd):
    state = torch.load(weights, weights_only=True)
    average = {name: value + 1 for name, value in state.items()}
    torch.save({"model_ema": average, "model": state}, tmp_path / "w.pth")
    loaded = on_cpu("test_vit", tmp_path / "w.pth")
    assert torch.equal(loaded._timm.state_dict()["head.bias"], state["head.bias"])
    assert "w.pth: holds model and model_ema; takes model" in capfd.readouterr().err


def test_source_on_a_dual_encoder_is_zero_shot(run_json, records_of):
    source, zero_shot = run_json(
        "-m", "source", "-m", "clip-zero-shot", "-b", "tiny-clip", "--limit", 20
    )
    assert records_equal(records_of(source), records_of(zero_shot))


def test_entries_are_matched_by_order(ttt, photos, weights: Path, tmp_path: Path):
    state = torch.load(weights, weights_only=True)
    renamed = {f"module.layer_{place}": value for place, value in enumerate(state.values())}
    torch.save({"epoch": 3, "state_dict": renamed}, tmp_path / "renamed.pth")
    run = ("run", "-m", "source", "-b", "timm:test_vit", "-o", "r", *photos)
    code, _, err = ttt(*run, "--weights", "renamed.pth")
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if "matched by order" in line]
    assert line.startswith(f"renamed.pth: its {len(state)} entries")
    row = RunFolder(Path("r/imagefolder-photos/source")).card().method
    assert row["weights_matched"] == "by order"
    assert row["weights"] == on_cpu("test_vit", weights).card()["weights"]
    # The same folder with other weights is another run.
    state["head.bias"] += 1
    torch.save(state, tmp_path / "other.pth")
    one_line(ttt(*run, "--weights", "other.pth"), "another run", "weights: ")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda state: state.pop("norm.weight"), ["norm.bias [64]", "norm.weight [64]"]),
        (lambda state: state.update(extra=torch.ones(2)), ["extra [2]", "nothing"]),
        (
            lambda state: state.update({"head.bias": torch.ones(10)}),
            ["head.bias [10]", "head.bias [1000]"],
        ),
        (lambda state: state.update({"head.bias": "zeros"}), ["'head.bias' is no tensor"]),
        (lambda state: state.clear(), ["no state dict"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, wanted, weights: Path, tmp_path: Path):
    state = torch.load(weights, weights_only=True)
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError) as refused:
        on_cpu("test_vit", tmp_path / "w.pth")
    assert all(word in str(refused.value) for word in wanted), refused.value
    assert "\n" not in str(refused.value)


def test_a_known_name_in_another_place_is_no_match(weights: Path, tmp_path: Path):
    """As many entries, in the same shapes, and two that are called as each other."""
    swapped = {"norm.weight": "norm.bias", "norm.bias": "norm.weight", "head.bias": "fc.bias"}
    state = torch.load(weights, weights_only=True)
    torch.save(
        {swapped.get(name, name): value for name, value in state.items()}, tmp_path / "w.pth"
    )
    with pytest.raises(UserError, match=r"is norm.bias .* the model's is norm.weight"):
        on_cpu("test_vit", tmp_path / "w.pth")


def test_a_safetensors_file_has_no_order(weights: Path, tmp_path: Path):
    state = torch.load(weights, weights_only=True)
    renamed = {f"{place:03}": value.clone() for place, value in enumerate(state.values())}
    safetensors.torch.save_file(renamed, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="entry 1 is 000"):
        on_cpu("test_vit", tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"\x08" + bytes(7) + b"nonsense")
    with pytest.raises(UserError, match="not readable as safetensors"):
        on_cpu("test_vit", tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("-m", "apm"), ["--weights needs --backbone"]),
        (("-m", "apm", "-b", "tiny-clip"), ["tiny-clip brings its own weights"]),
        (("-m", "vit-probe", "-b", "tiny-mae"), ["tiny-mae brings its own weights"]),
        (("-m", "vit-probe", "-b", "mae:vit-large"), ["mae:vit-large brings its own weights"]),
        (("-m", "source", "-b", "timm:test_vit"), ["w.pth", "no such file"]),
    ],
)
def test_weights_where_none_belong(ttt, arguments, wanted):
    run = ("run", "-d", "cifar10-c-mini", "--weights", "w.pth", "-o", "r")
    one_line(ttt(*run, *arguments), *wanted)
    assert not Path("r").exists()


@pytest.fixture
def tiny_architecture(tmp_path: Path) -> str:
    """A dual encoder that open_clip knows by name and has no weights for."""
    tower = {"layers": 1, "width": 16}
    config = {
        "embed_dim": 16,
        "vision_cfg": {**tower, "image_size": 32, "patch_size": 16, "head_width": 8},
        "text_cfg": {**tower, "context_length": 77, "vocab_size": 49408, "heads": 2},
    }
    (tmp_path / "one-layer.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "one-layer.json")
    return "one-layer"


def test_open_clip_takes_weights_without_a_tag(tiny_architecture: str, tmp_path: Path):
    own = open_clip.create_model(tiny_architecture)
    torch.save({"state_dict": own.state_dict()}, tmp_path / "w.pt")
    backbone = load_backbone(f"open_clip:{tiny_architecture}", "cpu", tmp_path / "w.pt")
    loaded = backbone.model.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in own.state_dict().items())
    assert backbone.card()["activation"] == "GELU"
    with pytest.raises(UserError, match="pretrained tag"):
        load_backbone(f"open_clip:{tiny_architecture}/openai", "cpu", tmp_path / "w.pt")
    with pytest.raises(UserError, match="pretrained tag"):
        load_backbone(f"open_clip:{tiny_architecture}", "cpu")


def test_a_tag_says_activation_and_transform_of_a_file(
    tmp_path: Path, tiny_architecture, monkeypatch
):
    published = {"quick_gelu": True, "mean": (0.1, 0.2, 0.3), "resize_mode": "squash"}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: ["lab"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: published)
    torch.save(open_clip.create_model(tiny_architecture).state_dict(), tmp_path / "w.pt")
    backbone = load_backbone(f"open_clip:{tiny_architecture}/lab", "cpu", tmp_path / "w.pt")
    card = backbone.card()
    assert card["activation"] == "QuickGELU"
    assert card["transform"]["mean"] == [0.1, 0.2, 0.3]
    assert card["transform"]["resize_mode"] == "squash"
