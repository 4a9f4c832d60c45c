"""The methods conform on a small network, agree with their releases, and refuse in one line."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from ttt_bench_tta.methods import eata, sar
from ttt_bench_tta.normalization import train_normalization

from tests.small_classifier import SmallBackbone, classify, encode
from ttt_bench import (
    AdapterSpec,
    BackboneSpec,
    ClassSet,
    Sample,
    SampleRNG,
    Task,
    UserError,
    WorkingCopy,
    load_dataset,
    registered,
)
from ttt_bench.registry import registry
from ttt_bench.testing import adapter_checks, goldens

METHODS = [
    name
    for name, item in registry().adapters.items()
    if item.spec.code.startswith("ttt_bench_tta.")
]
# Small enough for a test, and every part of the method at work.
SETTINGS: dict[str, dict[str, Any]] = {
    "norm": {"prior": 2},
    "tent": {"lr": 0.01},
    "memo": {"views": 3, "lr": 0.01},
    "t3a": {"filter_k": 3},
    "eta": {"lr": 0.01, "entropy_margin": 2, "similarity_margin": 1},
    "eata": {"lr": 0.01, "entropy_margin": 2, "similarity_margin": 1, "fisher_images": 4},
    "sar": {"lr": 0.01, "entropy_margin": 2},
    "cotta": {"threshold": 2, "copies": 2, "restore": 0.1},
    "rotta": {"memory": 4, "update_every": 2, "lr": 0.01, "teacher_rate": 0.5},
    "deyo": {"lr": 0.01, "select_margin": 2, "plpd": -1},
    "roid": {"lr": 0.01},
    "ttaug": {"views": 3},
    "rdumb": {"lr": 0.01, "entropy_margin": 2, "similarity_margin": 1},
    "rpl": {"lr": 0.05},
    "cmf": {"lr": 0.01},
    "rmt": {"warmup_samples": 4, "teacher_momentum": 0.5},
    "adacontrast": {"queue": 4, "neighbours_after": 4, "lr": 0.01},
}


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    spec = BackboneSpec(
        name="small",
        summary="",
        code="tests.small_classifier:SmallBackbone",
        gives=frozenset({"Classifier", "TrainableClassifier", "BatchNormClassifier"}),
    )
    with registered(backbones=[spec]):
        yield


# The tests of all shipped methods run the checks on a dual encoder.
@pytest.mark.parametrize("method", ["norm", "memo", "sar", "cotta", "rotta"])
def test_conforms_on_a_small_network(method: str):
    settings = SETTINGS.get(method, {})
    checks = adapter_checks(method, backbone="small", settings=settings, samples=4, device="cpu")
    findings = {check.name: check() for check in checks}
    assert not findings["check_prediction_scores"].skipped
    assert "warning" not in findings["check_needs_declared"].text


@pytest.mark.parametrize(("method", "model"), [("tent", "test_resnet"), ("sar", "test_vit")])
def test_conforms_on_timm(method: str, model: str, tmp_path: Path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(timm.create_model(model, num_classes=10).state_dict(), tmp_path / "w.pth")
    checks = adapter_checks(
        method,
        backbone=f"timm:{model}",
        weights=tmp_path / "w.pth",
        settings=SETTINGS[method],
        samples=3,
        device="cpu",
    )
    for check in checks:
        check()


def test_the_releases_numbers_agree():
    classic, more = (registry().goldens[kind].spec for kind in ("classic", "more_classic"))
    assert {*classic.methods, *more.methods} == set(METHODS) - {"eata"}
    result = goldens.compare(classic)
    cases = {name.partition("/")[0] for name in result.max_abs_diff}
    assert {case.partition("_")[0] for case in cases} == set(classic.methods)
    for name, difference in result.max_abs_diff.items():
        first_or_fixed = name.endswith("first") or name.startswith(("norm", "t3a", "lame"))
        assert difference < (1e-4 if first_or_fixed else 3e-2), name


# What is kept between batches


def samples(numbers: range) -> list[Sample]:
    dataset = load_dataset("cifar10-c-mini")
    return [Sample(f"image {number}", dataset.open(number)) for number in numbers]


def set_up(method: str) -> Any:
    kind = registry().adapters[method].spec.load()
    adapter = kind(kind.Config(batch_size=4, **SETTINGS.get(method, {})))
    backbone = SmallBackbone("", torch.device("cpu"))
    training = [sample.image for sample in samples(range(50, 60))]
    labels = [number // 2 for number in range(10)]
    classes = ClassSet(("",) * 10)
    adapter.setup(Task(backbone, classes, source_images=training, source_labels=labels))
    return adapter


def predicted(adapter: Any, numbers: range) -> torch.Tensor:
    batch = samples(numbers)
    rngs = [SampleRNG(0, sample.id) for sample in batch]
    return torch.stack([one.logits for one in adapter.adapt(batch, rngs)])


def restore(fresh: Any, used: Any) -> None:
    """Give a fresh adapter what another one keeps in modules, optimizers, tensors and values."""
    for name, value in vars(used).items():
        if hasattr(value, "load_state_dict"):
            getattr(fresh, name).load_state_dict(copy.deepcopy(value.state_dict()))
        elif name not in ("task", "config"):
            assert isinstance(value, torch.Tensor | int | float | dict | None), name
            setattr(fresh, name, copy.deepcopy(value))


STREAMS = [name for name in METHODS if registry().adapters[name].spec.kind == "stream"]


@pytest.mark.parametrize("method", STREAMS)
def test_a_stream_goes_on_from_what_the_attributes_hold(method: str):
    whole, begun, resumed = set_up(method), set_up(method), set_up(method)
    first = predicted(whole, range(8))
    assert torch.equal(predicted(begun, range(8)), first)
    restore(resumed, begun)
    rest = predicted(whole, range(8, 14))
    assert torch.equal(predicted(resumed, range(8, 14)), rest)
    assert not torch.equal(predicted(set_up(method), range(8, 14)), rest)


def test_eatas_training_batches_are_spread_over_the_set():
    adapter = set_up("eata")
    batches = list(adapter.training_batches())
    assert [len(batch) for batch in batches] == [4]
    assert eata.EataConfig.model_fields["fisher_images"].default == 2000


def test_sar_starts_again_where_its_loss_collapses():
    adapter = set_up("sar")
    adapter.config = sar.SarConfig(batch_size=4, lr=0.1, entropy_margin=2, reset_below=9)
    predicted(adapter, range(4))
    assert adapter.mean_loss is None
    assert not adapter.optimizer.state
    for name, parameter in adapter.model.named_parameters():
        assert name not in adapter.source or torch.equal(parameter, adapter.source[name])


def test_rdumb_starts_again_after_its_period():
    adapter = set_up("rdumb")
    adapter.config = adapter.config.model_copy(update={"reset_every": 2})
    first, _ = predicted(adapter, range(4)), predicted(adapter, range(4, 8))
    assert adapter.optimizer.state
    assert torch.equal(predicted(adapter, range(4)), first)
    assert adapter.batches == 3


def test_rmt_goes_on_through_the_training_images_after_its_warm_up():
    adapter = set_up("rmt")
    (one, other) = adapter.training_batches.indices
    assert sorted([*one, *other]) == list(range(10))
    assert adapter.next_batch == 1
    _, labels = adapter.labelled()
    assert labels.tolist() == [index // 2 for index in other]
    assert adapter.next_batch == 0
    kept = adapter.task.once("warm-up", lambda: pytest.fail("was not made"))
    before = copy.deepcopy(kept["student"])
    predicted(adapter, range(4))
    assert all(torch.equal(kept["student"][name], value) for name, value in before.items())


# Refusals


def refused(result: tuple[int, str, str], *wanted: str) -> None:
    code, _, err = result
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert all(word in line for word in wanted), line


@pytest.mark.parametrize("method", ["norm", "rotta"])
@pytest.mark.parametrize("backbone", ["timm:test_vit", "open_clip:ViT-B-16/openai"])
def test_a_backbone_without_batch_norm_is_refused_before_it_is_loaded(
    ttt, monkeypatch: pytest.MonkeyPatch, method: str, backbone: str
):
    kind = registry().backbones.find(backbone).spec.load()
    monkeypatch.setattr(kind, "__init__", lambda *arguments: pytest.fail("was loaded"))
    result = ttt("run", "-m", method, "-b", backbone, "-d", "cifar10-c-mini")
    refused(result, f"{method} needs BatchNormClassifier", backbone)


def test_timm_models_with_batch_norm_give_the_capability():
    def gives(name: str) -> frozenset[str]:
        return registry().backbones.find(f"timm:{name}").spec.gives

    assert "BatchNormClassifier" in gives("resnet50.tv_in1k") & gives("test_efficientnet")
    assert "BatchNormClassifier" not in gives("test_vit") | gives("no_such_model")


def test_eata_without_training_images_is_refused(ttt, tmp_path: Path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "dog").mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (32, 32)).save(tmp_path / "photos" / name / "1.png")
    result = ttt("run", "-m", "eata", "-d", "imagefolder:photos", "-b", "tiny-clip")
    refused(result, "eata needs training images", "the method eta")


@pytest.mark.parametrize("method", ["rmt", "santa"])
def test_prototypes_without_training_images_are_refused(method: str):
    kind = registry().adapters[method].spec.load()
    task = Task(SmallBackbone("", torch.device("cpu")), ClassSet(("",) * 10))
    with pytest.raises(UserError, match=f"{method} needs training images.* the method roid"):
        kind(kind.Config()).setup(task)


def test_a_network_without_normalization_is_refused():
    model = WorkingCopy(nn.Sequential(nn.Conv2d(3, 4, 3)), encode, classify)
    with pytest.raises(UserError, match="none that it may train"):
        train_normalization(model)


def test_every_spec_names_its_paper():
    specs = [registry().adapters[name].spec for name in METHODS]
    assert len(specs) == 21
    assert all(isinstance(spec, AdapterSpec) and "20" in spec.paper for spec in specs)
