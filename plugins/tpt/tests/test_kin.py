"""C-TPT, R-TPT and RLCF: what they change in TPT, and the reward model on the card."""

from pathlib import Path

import pytest
import torch
from ttt_bench_tpt.methods.c_tpt import CTPT, CTPTConfig, calibrated, dispersion
from ttt_bench_tpt.methods.r_tpt import (
    RTPT,
    RTPTConfig,
    cosines_to_others,
    similarity_to_neighbours,
    uncertainty,
)
from ttt_bench_tpt.methods.rlcf import RLCF, RLCFConfig
from ttt_bench_tpt.methods.tpt import TPT, TPTConfig
from ttt_bench_tpt.rewards import reinforce

from ttt_bench import (
    Prediction,
    Sample,
    SampleRNG,
    Task,
    entropy,
    load_backbone,
    load_dataset,
    marginal_entropy,
)
from ttt_bench.registry import registry
from ttt_bench.runs.folder import RunFolder

FEW = {"views": 8, "selection": 0.5}


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(load_backbone("tiny-clip", "cpu"), load_dataset("cifar10-c-mini").classes)


def predict(method: TPT | CTPT | RLCF, task: Task) -> list[Prediction]:
    dataset = load_dataset("cifar10-c-mini")
    samples = [Sample(f"s{i}", dataset.open(i)) for i in range(3)]
    method.setup(task)
    return list(method.adapt(samples, [SampleRNG(0, sample.id) for sample in samples]))


def test_c_tpts_loss_is_tpts_minus_the_weighted_dispersion(task: Task):
    draw = torch.Generator().manual_seed(0)
    text, scores = torch.randn(2, 5, 8, generator=draw), torch.randn(2, 3, 5, generator=draw)
    kept = torch.zeros(2, 3, dtype=torch.int64)
    expected = marginal_entropy(scores) - 3 * dispersion(text)
    torch.testing.assert_close(calibrated(3.0)(text, scores, kept), expected)
    tpt = predict(TPT(TPTConfig(**FEW)), task)
    other = predict(CTPT(CTPTConfig(**FEW)), task)
    for one, different in zip(tpt, other, strict=True):
        assert one.unadapted_logits is not None
        assert different.unadapted_logits is not None
        assert torch.equal(one.unadapted_logits, different.unadapted_logits)
        assert not torch.equal(one.logits, different.logits)


def test_dispersion_is_the_mean_distance_to_the_mean():
    text = torch.tensor([[[1.0, 0], [-1, 0], [0, 3], [0, -3]]])
    assert dispersion(text).tolist() == [2]


def test_c_tpts_weight_is_the_authors_for_each_kind_of_dataset():
    spec = registry().adapters["c-tpt"].spec
    assert spec.dataset_presets["imagenet-a"] == {"dispersion": 20.0}
    assert "imagenet" not in spec.dataset_presets
    assert "per test set" in spec.dataset_presets_note


def test_r_tpts_loss_is_the_mean_entropy_and_does_not_ask_views_to_agree():
    # Two certain views of different classes: their mean distribution is uncertain, they are not.
    scores = torch.tensor([[[50.0, 0, 0], [0, 50.0, 0]], [[3.0, 1, 0], [0, 2.0, 1]]])
    kept = torch.zeros(2, 2, dtype=torch.int64)
    loss = uncertainty(torch.zeros(2, 3, 4), scores, kept)
    expected = torch.stack([(entropy(one[0]) + entropy(one[1])) / 2 for one in scores])
    torch.testing.assert_close(loss, expected)
    assert loss[0] < 1e-6 < marginal_entropy(scores)[0]


def test_a_view_is_not_its_own_neighbour_but_its_twin_is():
    views = torch.nn.functional.normalize(
        torch.tensor([[[1.0, 0], [1.0, 0], [0, 1.0], [1.0, 1.0]]]), dim=2
    )
    similarity = similarity_to_neighbours(cosines_to_others(views), 2)
    root = 0.5**0.5
    expected = torch.tensor([[(1 + root) / 2, (1 + root) / 2, root / 2, root]])
    torch.testing.assert_close(similarity, expected)


def test_r_tpt_weights_the_logits_of_views_by_their_neighbours(task: Task):
    method = RTPT(RTPTConfig(**FEW, neighbours=3, temperature=0.05))
    method.setup(task)
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(2, 8, 128, generator=draw) + 1
    views = torch.nn.functional.normalize(features, dim=2)
    text = torch.nn.functional.normalize(torch.randn(2, 10, 128, generator=draw), dim=2)
    cosines = views @ views.mT
    for sample in range(2):
        others = [
            sorted(value for j, value in enumerate(row) if j != i)[-3:]
            for i, row in enumerate(cosines[sample].tolist())
        ]
        weights = (torch.tensor(others).mean(dim=1) / 0.05).softmax(dim=0)
        expected = weights @ method.logits(text, views)[sample]
        averaged = method.logits(text, method.classified(views))[sample, 0]
        torch.testing.assert_close(averaged, expected, rtol=1e-4, atol=1e-4)
        assert weights.max() > 2 * weights.min()


def test_r_tpt_with_too_few_views_is_refused_in_one_line(ttt):
    code, _, err = ttt("run", "-m", "r-tpt", "-d", "cifar10-c-mini", "--set", "views=20")
    assert code == 2
    assert "need more than 20 views; set neighbours lower" in err.splitlines()[-1]


def test_the_reward_raises_the_classes_that_score_above_the_mean():
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    with torch.no_grad():
        logits[0, 0] = torch.tensor([3.0, 2, 1, 0])
    scores = torch.tensor([[[0.2, 0.6, 0.1, 9.0]]])
    reinforce(logits, scores, 3).sum().backward()
    assert logits.grad is not None
    # Descent raises class 1; class 3 is not among the three that are rewarded.
    assert logits.grad[0, 0].argmin() == 1
    assert logits.grad[0, 0, 3].abs() < 1e-6


@pytest.mark.parametrize("tower", ["prompt", "image"])
def test_a_reward_model_of_the_same_weights_gives_what_the_backbone_itself_gives(
    task: Task, tower: str
):
    settings = {**FEW, "tower": tower, "image_lr": 1e-3}
    own = predict(RLCF(RLCFConfig(**settings, reward="")), task)
    second = predict(RLCF(RLCFConfig(**settings, reward="tiny-clip")), task)
    for one, other in zip(own, second, strict=True):
        torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-2)
        assert one.step_logits is not None
        assert one.unadapted_logits is not None
        assert not torch.equal(one.logits, one.unadapted_logits)


def test_the_card_records_the_reward_models_weights(run_json):
    settings = ("--set", "views=8", "--set", "selection=0.5", "--set", "reward=tiny-clip")
    (run,) = run_json("-m", "rlcf", "--limit", 2, *settings)
    card = RunFolder(Path(run["path"])).card().method
    assert card["further_backbones"]["tiny-clip"]["weights"] == card["weights"]


def test_a_reward_model_without_a_text_tower_is_refused(ttt):
    arguments = ("-d", "cifar10-c-mini", "--limit", 2, "--set", "reward=tiny-resnet")
    code, _, err = ttt("run", "-m", "rlcf", *arguments)
    assert code == 2
    assert "tiny-resnet has no text tower" in err
