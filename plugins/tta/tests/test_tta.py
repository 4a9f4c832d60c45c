"""The methods conform on a small network, agree with the releases, and refuse in one line."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import functional as tv
from ttt_bench_tta.augmentation import Augmentation, augment
from ttt_bench_tta.memory import Item, Memory
from ttt_bench_tta.methods import cotta, deyo, eata, eta, lame, memo, roid, rotta, sar, t3a
from ttt_bench_tta.normalization import (
    PriorStatistics,
    train_normalization,
    trained,
    use_batch_statistics,
)
from ttt_bench_tta.optimizers import scaled_rate

from ttt_bench import (
    AdapterSpec,
    BackboneSpec,
    BatchNormClassifier,
    Classifier,
    ClassSet,
    Sample,
    SampleRNG,
    Task,
    UserError,
    WorkingCopy,
    entropy,
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
}
SIDE = 8


def encode(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    return model.body(pixels)


def classify(model: Any, features: torch.Tensor) -> torch.Tensor:
    return model.head(features)


def network(classes: int = 10) -> nn.Module:
    """A network with BatchNorm and GroupNorm, the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Module()
        model.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3),
            nn.GroupNorm(2, 6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        model.head = nn.Linear(6, classes)
        nn.init.normal_(model.head.weight)
    return model.eval().requires_grad_(False)


def working_copy(classes: int = 10) -> WorkingCopy:
    return WorkingCopy(network(classes), encode, classify)


class SmallBackbone(Classifier, BatchNormClassifier):
    """A backbone of the small network."""

    def __init__(self, argument: str, device: torch.device, weights: Path | None = None) -> None:
        self.model, self.device = network().to(device), device
        self.feature_dim, self.image_size, self.num_classes = 6, SIDE, 10

    def make_transform(self, size: int):
        return lambda image: 4 * tv.to_tensor(image.resize((size, size))) - 2

    def encode_image(self, pixels):
        return encode(self.model, pixels)

    def head(self, features):
        return classify(self.model, features)

    def working_copy(self, classes, templates):
        columns = classes.head_outputs("its", self.num_classes)
        return WorkingCopy(
            copy.deepcopy(self.model), encode, lambda m, f: classify(m, f)[:, columns]
        )

    def class_weights(self, classes, templates):
        weights: Any = self.model.head
        return weights.weight[classes.head_outputs("its", self.num_classes)]

    def card(self):
        return {"weights": self.weights_hash()}


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    spec = BackboneSpec(
        name="small",
        summary="",
        code=f"{__name__}:SmallBackbone",
        gives=frozenset({"Classifier", "TrainableClassifier", "BatchNormClassifier"}),
    )
    with registered(backbones=[spec]):
        yield


def images(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator)


@pytest.mark.parametrize("method", METHODS)
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
    result = goldens.compare(registry().goldens["classic"].spec)
    cases = {name.partition("/")[0] for name in result.max_abs_diff}
    assert {case.partition("_")[0] for case in cases} == set(METHODS) - {"eata"}
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
    adapter.setup(Task(backbone, ClassSet(("",) * 10), source_images=training))
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


# Refusals


def refused(result: tuple[int, str, str], *wanted: str) -> None:
    code, _, err = result
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert all(word in line for word in wanted), line


@pytest.mark.parametrize("method", ["norm", "rotta"])
@pytest.mark.parametrize("backbone", ["timm:test_vit", "tiny-clip"])
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


def test_a_network_without_normalization_is_refused():
    model = WorkingCopy(nn.Sequential(nn.Conv2d(3, 4, 3)), encode, classify)
    with pytest.raises(UserError, match="none that it may train"):
        train_normalization(model)


# The parts, by hand


def test_normalization_layers_alone_learn_and_sar_leaves_out_the_last():
    model = working_copy()
    train_normalization(model)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    parts = ("weight", "bias")
    assert names == {f"network.body.{layer}.{part}" for layer in (1, 4) for part in parts}
    vit = WorkingCopy(timm.create_model("test_vit"), encode, classify)
    train_normalization(vit, without_last=True)
    learning = {name for name, p in vit.network.named_parameters() if p.requires_grad}
    assert "blocks.0.norm1.weight" in learning
    assert not any(name.startswith("norm.") for name in learning)


def test_batch_statistics_are_those_of_the_batch_in_eval_mode():
    model = working_copy()
    use_batch_statistics(model)
    seen = []
    body: Any = model.network.body
    body[1].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    model(images(4))
    torch.testing.assert_close(seen[0].mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-6, rtol=0)


def test_a_prior_mixes_the_statistics_by_the_number_of_images():
    layer = nn.BatchNorm2d(3).eval()
    assert layer.running_mean is not None
    layer.running_mean.fill_(5)
    mixed = PriorStatistics(layer, prior=6.0, weight=None, unbiased=False)
    maps = images(2)
    mean, variance = mixed.statistics(maps)
    values = maps.transpose(0, 1).flatten(1)
    torch.testing.assert_close(mean, 0.75 * torch.full((3,), 5.0) + 0.25 * values.mean(1))
    torch.testing.assert_close(variance, 0.75 + 0.25 * values.var(1, correction=0))
    expected = (maps - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(mixed(maps), expected)


def test_rates_follow_the_batch_as_in_sars_release():
    transformer, convolutional = nn.LayerNorm(2), nn.BatchNorm2d(2)
    assert scaled_rate(1e-3, 16, transformer) == pytest.approx(2.5e-4)
    assert scaled_rate(2.5e-4, 64, convolutional) == 2.5e-4
    assert scaled_rate(2.5e-4, 16, convolutional) == pytest.approx(1.25e-4)
    assert scaled_rate(2.5e-4, 1, convolutional) == pytest.approx(2.5e-4 / 16)


def test_eta_keeps_reliable_samples_unlike_the_mean():
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [1, 1, 1]])
    margins = eta.Margins(entropy=0.5, similarity=0.5)
    kept, mean = eta.select(logits, None, margins)
    assert kept.tolist() == [True, True, False]
    assert mean is not None
    torch.testing.assert_close(mean, logits.softmax(1)[:2].mean(0))
    like_the_first = torch.tensor([1.0, 0, 0])
    kept, mean = eta.select(logits, like_the_first, margins)
    assert kept.tolist() == [False, True, False]
    torch.testing.assert_close(mean, 0.9 * like_the_first + 0.1 * logits.softmax(1)[1])
    kept, mean = eta.select(logits[2:], None, margins)
    assert (kept.tolist(), mean) == ([False], None)


def test_fisher_information_is_the_mean_squared_gradient_of_batches():
    model = working_copy()
    train_normalization(model)
    batches = [images(3, seed) for seed in (1, 2)]
    fisher = eata.fisher_information(model, batches)
    expected = dict.fromkeys(fisher, torch.tensor(0.0))
    for pixels in batches:
        logits = model(pixels)
        nn.functional.nll_loss(logits.log_softmax(1), logits.argmax(1)).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                expected[name] = expected[name] + parameter.grad**2 / 2
                parameter.grad = None
    assert len(fisher) == 4
    for name, value in fisher.items():
        torch.testing.assert_close(value, expected[name])


def test_the_regularizer_of_eata_holds_the_weights():
    def drift(alpha: float) -> float:
        model = working_copy()
        train_normalization(model)
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        fisher = {name: torch.ones_like(value) for name, value in start.items()}
        optimizer = torch.optim.SGD(trained(model), lr=0.01)
        margins, mean = eta.Margins(9.0, 9.0), None
        for seed in range(5):
            _, mean = eata.learn(
                model, optimizer, images(4, seed), mean, margins, fisher, start, alpha
            )
        return sum(float((p.detach() - start[n]).abs().sum()) for n, p in model.named_parameters())

    assert drift(10.0) < 0.7 * drift(0.0)


def test_eatas_training_batches_are_spread_over_the_set():
    adapter = set_up("eata")
    batches = list(adapter.training_batches())
    assert [len(batch) for batch in batches] == [4]
    assert eata.EataConfig.model_fields["fisher_images"].default == 2000


def test_sar_climbs_by_its_radius_and_steps_from_where_it_was():
    model = working_copy()
    sar.configure(model)
    before = [p.detach().clone() for p in trained(model)]
    optimizer = torch.optim.SGD(trained(model), lr=0.0)
    _, loss = sar.learn(model, optimizer, images(4), margin=9.0, rho=0.5)
    assert all(torch.equal(p, b) for p, b in zip(trained(model), before, strict=True))
    # At the top of the climb the entropy is higher.
    assert loss is not None
    assert loss > entropy(model(images(4))).mean().item()
    sar.climb([p.data for p in trained(model)], before, rho=0.5)
    moved = [p.detach() - b for p, b in zip(trained(model), before, strict=True)]
    assert torch.cat([part.flatten() for part in moved]).norm() == pytest.approx(0.5, rel=1e-5)
    assert sar.learn(model, optimizer, images(4), margin=1e-6, rho=0.5)[1] is None


def test_sar_starts_again_where_its_loss_collapses():
    adapter = set_up("sar")
    adapter.config = sar.SarConfig(batch_size=4, lr=0.1, entropy_margin=2, reset_below=9)
    predicted(adapter, range(4))
    assert adapter.mean_loss is None
    assert not adapter.optimizer.state
    for name, parameter in adapter.model.named_parameters():
        assert name not in adapter.source or torch.equal(parameter, adapter.source[name])


def test_cotta_restores_about_its_share_of_the_weights():
    student, anchor = working_copy(), working_copy()
    cotta.configure(student)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 1
    cotta.restore(student, anchor, 0.3, torch.Generator().manual_seed(0))
    back = [
        (p == a).flatten() for p, a in zip(student.parameters(), anchor.parameters(), strict=True)
    ]
    assert torch.cat(back).float().mean() == pytest.approx(0.3, abs=0.05)
    cotta.average(anchor, student, 0.25)
    (one, other) = (next(model.parameters()) for model in (working_copy(), student))
    torch.testing.assert_close(next(anchor.parameters()), 0.25 * one + 0.75 * other)


def test_the_memory_is_balanced_and_evicts_old_and_uncertain_images():
    memory = Memory(capacity=4, classes=2)
    blank = torch.zeros(3, 1, 1)
    for value in (0.1, 0.6):
        memory.add(Item(blank, 0, value))
    # The class has its share: a certain image takes the place of the worst, another has none.
    memory.add(Item(blank, 0, 0.2))
    memory.add(Item(blank, 0, 0.69))
    assert [item.entropy for item in memory.items] == [0.1, 0.2]
    assert [item.age for item in memory.items] == [4, 2]
    memory.add(Item(blank, 1, 0.3))
    assert [item.label for item in memory.by_class()] == [0, 0, 1]
    expected = 1 / (1 + math.exp(-5 / 4)) + 0.1 / math.log(2)
    assert memory.score(memory.items[0]) == pytest.approx(expected)
    again = Memory(capacity=4, classes=2)
    again.load_state_dict(copy.deepcopy(memory.state_dict()))
    assert again.score(again.items[0]) == memory.score(memory.items[0])
    assert [vars(item) | {"pixels": None} for item in again.items] == [
        vars(item) | {"pixels": None} for item in memory.items
    ]


def test_robust_statistics_follow_batches_in_train_mode_alone():
    layer = rotta.RobustBatchNorm(nn.BatchNorm2d(3), rate=0.25)
    maps = images(4) + 2
    layer(maps)
    assert torch.equal(layer.mean, torch.zeros(3))
    layer.train()
    layer(maps)
    torch.testing.assert_close(layer.mean, 0.25 * maps.mean(dim=(0, 2, 3)))
    assert not layer.layer.training


def test_deyo_destroys_images_as_it_says():
    picture = torch.arange(48.0).reshape(1, 3, 4, 4)
    swapped = deyo.shuffle_tiles(picture, torch.tensor([[3, 1, 2, 0]]))
    assert torch.equal(swapped[0, :, :2, :2], picture[0, :, 2:, 2:])
    assert torch.equal(swapped[0, :, :2, 2:], picture[0, :, :2, 2:])
    assert deyo.shuffle_tiles(images(2), torch.stack([torch.arange(9)] * 2)).shape == (2, 3, 8, 8)
    reverse = deyo.shuffle_pixels(picture, torch.arange(15, -1, -1))
    assert torch.equal(reverse, picture.flip(2, 3))
    covered = deyo.occlude(picture, size=2, row=0, column=2)
    assert covered[0, 0, 0, 2] == picture[0, 0].mean()
    assert torch.equal(covered[..., :2], picture[..., :2])


def test_t3a_keeps_the_most_certain_of_each_class():
    features = torch.tensor([[1.0, 0], [3, 0], [2, 0], [0, 1]])
    supports = t3a.Supports.judged(features, lambda values: values)
    kept = supports.filtered(2, classes=2)
    assert kept.features.tolist() == [[3, 0], [2, 0], [0, 1]]
    scores = kept.scores(torch.tensor([[2.0, 1]]), classes=3)
    torch.testing.assert_close(scores, torch.tensor([[2.0, 1, 0]]))


def test_lame_makes_neighbours_agree_and_leaves_a_single_sample_alone():
    probabilities = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.45, 0.55]])
    alike = lame.affinities(torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2]]), "knn", 2, False)
    assert torch.equal(alike, 1 - torch.eye(3))
    assert lame.maximize(probabilities, alike).argmax(1).tolist() == [0, 0, 0]
    for kernel in ("knn", "rbf", "linear"):
        alone = lame.affinities(torch.ones(1, 2), kernel, 5, False)
        assert lame.maximize(probabilities[2:], alone).argmax() == 1


def test_roid_weighs_equal_samples_alike_and_leaves_the_common_ones_out():
    mean = torch.tensor([1.0, 0, 0])
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 1, 1]])
    weights = roid.sample_weights(logits, mean, temperature=1.0)
    assert weights[0] == 0
    assert weights[1] > weights[2] > 0
    assert roid.sample_weights(logits[:1], mean, 1.0).tolist() == [1.0]


def test_the_augmentation_is_its_generators_and_stays_in_range():
    picture = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def drawn(seed: int) -> torch.Tensor:
        return augment(picture, torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert drawn(0).shape == picture.shape
    assert 0 <= drawn(0).min() < drawn(0).max() <= 1
    augmentation = Augmentation(SmallBackbone("", torch.device("cpu")))
    assert (augmentation.black == -2).all()
    assert (augmentation.white == 2).all()


def test_memo_lowers_the_entropy_of_the_mean_prediction():
    model = working_copy()
    memo.configure(model, prior=16)
    config = memo.MemoConfig(lr=0.05)
    views = images(6)
    before = entropy(model(views).softmax(1).mean(0).log())
    memo.learn(model, memo.make_optimizer(model, config), views, views[:1], steps=5)
    assert entropy(model(views).softmax(1).mean(0).log()) < before


def test_every_spec_names_its_paper():
    specs = [registry().adapters[name].spec for name in METHODS]
    assert len(specs) == 12
    assert all(isinstance(spec, AdapterSpec) and "20" in spec.paper for spec in specs)
