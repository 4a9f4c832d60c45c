"""The parts of the methods do what the papers say, in numbers that can be worked out by hand."""

import copy
import math
from typing import Any

import pytest
import timm
import torch
from torch import nn
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

from tests.small_classifier import SIDE, SmallBackbone, classify, encode, images, working_copy
from ttt_bench import WorkingCopy, entropy


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
