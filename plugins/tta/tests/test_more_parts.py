"""The parts of RMT, SANTA, AdaContrast, CMF, RPL and moving statistics, by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from ttt_bench_tta.contrast import Projector, contrastive, means, nearest
from ttt_bench_tta.methods import adacontrast, cmf, rmt, rpl, santa, tent
from ttt_bench_tta.methods.cotta import configure as train_everything
from ttt_bench_tta.normalization import FollowingStatistics, trained, weights_of

from tests.small_classifier import images, working_copy
from ttt_bench import SampleRNG


def test_statistics_follow_batches_as_batch_norm_does():
    layer, own = nn.BatchNorm2d(3).eval(), nn.BatchNorm2d(3).train()
    following = FollowingStatistics(layer, rate=0.1)
    maps = images(4) + 2
    assert torch.equal(following.mean, torch.zeros(3))
    following.train()
    torch.testing.assert_close(following(maps), own(maps))
    torch.testing.assert_close(following.mean, own.running_mean)
    torch.testing.assert_close(following.variance, own.running_var)
    following.eval()
    torch.testing.assert_close(following(maps), own.eval()(maps))
    # A single value has no variance, where BatchNorm refuses it.
    following.train()
    assert following(torch.ones(1, 3, 1, 1)).isfinite().all()


def test_the_generalized_cross_entropy_lies_between_its_limits():
    logits = torch.tensor([[2.0, 0, 0], [0, 1, 0]])
    largest = logits.softmax(1).amax(1)
    torch.testing.assert_close(rpl.generalized_cross_entropy(logits, 1.0), 1 - largest)
    near_zero = rpl.generalized_cross_entropy(logits, 1e-4)
    torch.testing.assert_close(near_zero, -largest.log(), rtol=1e-3, atol=1e-3)


def test_the_gain_of_cmf_follows_kalmans_equations():
    beta, variance = cmf.gain(0.0, q=0.005, alpha=0.99)
    assert (beta, variance) == (pytest.approx(0.995), pytest.approx(0.004975))
    predicted = 0.99**2 * variance + 0.005
    beta, _ = cmf.gain(variance, q=0.005, alpha=0.99)
    assert beta == pytest.approx(0.995 / (predicted + 0.995))
    assert cmf.gain(1.0, q=0.5, alpha=1.0)[0] == 0.89
    assert cmf.gain(0.0, q=1e-5, alpha=1.0)[0] == 1.0


def test_cmf_mixes_trained_hidden_and_adapted_weights():
    model = working_copy()
    tent.configure(model)
    source = {name: torch.zeros_like(value) for name, value in weights_of(model).items()}
    hidden = {name: torch.full_like(value, 8.0) for name, value in source.items()}
    with torch.no_grad():
        for parameter in trained(model):
            parameter.fill_(4.0)
    cmf.filter_weights(model, hidden, source, alpha=0.5, beta=0.75, gamma=0.5)
    # Half of 8 is 4, and 4 with 4 is 4; then 6 for a hidden weight of 8.
    assert all((value == 4.0).all() for value in hidden.values())
    cmf.filter_weights(model, {name: value + 4 for name, value in hidden.items()}, source,
                       alpha=1.0, beta=1.0, gamma=0.5)  # fmt: skip
    assert all((parameter == 6.0).all() for parameter in trained(model))


def test_the_contrast_is_that_of_the_definition():
    features, augmented = (
        torch.randn(2, 3, generator=torch.Generator().manual_seed(n)) for n in (1, 2)
    )
    prototypes = torch.eye(3)
    loss = contrastive(nn.Identity(), prototypes, features, augmented, temperature=0.5)
    close = F.normalize(features, dim=1).argmax(dim=1)
    assert torch.equal(nearest(prototypes, features), prototypes[close])
    units = F.normalize(torch.cat([prototypes[close], features, augmented]), dim=1)
    expected = 0.0
    for anchor in range(6):
        others = [k for k in range(6) if k != anchor]
        total = sum(torch.exp(units[anchor] @ units[k] / 0.5) for k in others)
        for k in others:
            if k % 2 == anchor % 2:
                share = torch.exp(units[anchor] @ units[k] / 0.5) / total
                expected = expected - share.log() / 2 / 6
    torch.testing.assert_close(loss, expected)


def test_class_means_are_of_the_classes_that_occur():
    features = torch.tensor([[1.0, 0], [3, 0], [0, 5]])
    assert means(features, torch.tensor([7, 7, 2])).tolist() == [[0, 5], [2, 0]]


def test_a_projector_is_its_streams_and_leaves_the_global_generator():
    before = torch.get_rng_state()
    one, other, again = (Projector(4) for _ in range(3))
    for projector, sample in ((one, "a"), (other, "b"), (again, "a")):
        projector.draw(SampleRNG(0, sample))
    features = torch.ones(1, 4)
    assert torch.equal(one(features), again(features))
    assert not torch.equal(one(features), other(features))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rate_rises_in_the_warm_up_and_the_teacher_follows():
    student = working_copy()
    train_everything(student)
    teacher, start = copy.deepcopy(student), copy.deepcopy(student)
    optimizer = torch.optim.SGD(trained(student), lr=0.3)
    rates: list[float] = []

    def batch(step: int) -> torch.Tensor:
        rates.append(optimizer.param_groups[0]["lr"])
        return images(4, step)

    with torch.no_grad():
        next(teacher.parameters()).add_(0.5)
    rmt.warm_up(student, teacher, optimizer, batch, steps=3, momentum=0.5)
    assert rates == pytest.approx([0.1, 0.2, 0.3])
    one, other = next(student.parameters()), next(start.parameters())
    assert not torch.equal(one, other)
    assert not torch.equal(next(teacher.parameters()), other + 0.5)


def test_santa_rests_where_it_agrees_with_its_anchor_and_the_release_does_not():
    def moved(anchor_as_cost: bool) -> float:
        student = working_copy()
        tent.configure(student)
        anchor, projector = copy.deepcopy(student), Projector(6)
        optimizer = torch.optim.SGD(trained(student), lr=0.1)
        before = weights_of(student)
        santa.learn(
            student, anchor, projector, optimizer, images(4), lambda pixels: pixels, torch.eye(6),
            contrast_weight=0.0, temperature=0.1, anchor_as_cost=anchor_as_cost,
        )  # fmt: skip
        after = weights_of(student)
        return max(float((after[name] - value).abs().max()) for name, value in before.items())

    assert moved(anchor_as_cost=False) < 1e-6
    assert moved(anchor_as_cost=True) > 1e-3


def test_neighbours_vote_on_a_pseudo_label():
    features = torch.tensor([[1.0, 0], [1, 0.1], [0, 1]])
    probabilities = torch.tensor([[0.1, 0.9], [0.2, 0.8], [1.0, 0]])
    bank = adacontrast.Newest(3, features, probabilities)
    voted = adacontrast.vote(torch.tensor([[5.0, 0.1]]), bank, neighbours=2)
    torch.testing.assert_close(voted, torch.tensor([[0.15, 0.85]]))
    assert adacontrast.vote(features, bank, neighbours=9).shape == (3, 2)
    bank.add(torch.ones(1, 2), torch.tensor([[0.5, 0.5]]))
    assert bank.features.tolist() == [[1, pytest.approx(0.1)], [0, 1], [1, 1]]


def test_keys_of_the_same_pseudo_label_do_not_count():
    queries = keys = torch.tensor([[1.0, 0]])
    queue, labels = torch.tensor([[1.0, 0], [0, 1]]), torch.tensor([3, 4])
    loss = adacontrast.contrast(queries, keys, torch.tensor([3]), queue, labels, temperature=1.0)
    torch.testing.assert_close(loss, -torch.tensor([1.0, 0]).log_softmax(0)[0])
    # Without others there is nothing to tell apart.
    empty = adacontrast.contrast(queries, keys, labels[:1], queue[:0], labels[:0], 1.0)
    assert empty == 0
    assert adacontrast.negative_diversity(torch.zeros(2, 4)) == pytest.approx(-1.386, abs=1e-3)
