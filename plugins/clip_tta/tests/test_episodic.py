"""Votes, modes and means of views are those of plain forms, sample by sample."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from ttt_bench_clip_tta.choosing import fitted
from ttt_bench_clip_tta.layer_norms import LayerNorms, mean_of
from ttt_bench_clip_tta.methods import mta, ttl, zero
from ttt_bench_clip_tta.methods.clipartt import joined_texts
from ttt_bench_clip_tta.methods.watt import Schedule, WattConfig, learn
from ttt_bench_clip_tta.prompts import SEVEN, PromptConfig, class_texts
from ttt_bench_clip_tta.references import publication
from ttt_bench_clip_tta.views import (
    confident_views,
    count_votes,
    mean_log_probabilities,
    number_kept,
    view_statistics,
    vote_scores,
)

from ttt_bench import (
    ClassSet,
    DualEncoder,
    Sample,
    SampleRNG,
    Task,
    UserError,
    WorkingCopy,
    load_backbone,
)
from ttt_bench.registry import registry

SCALE = 100.0


@pytest.fixture(scope="module")
def views() -> tuple[Tensor, Tensor]:
    """Unit features of ten samples' views, and their logits, in which votes often tie."""
    draw = torch.Generator().manual_seed(0)
    text = F.normalize(torch.randn(6, 16, generator=draw) + 2, dim=1)
    centre = torch.randn(10, 1, 16, generator=draw)
    features = F.normalize(centre + torch.randn(10, 12, 16, generator=draw), dim=2)
    return features, SCALE * features @ text.T


def plain_zero(logits: Tensor, kept: int) -> Tensor:
    """Return the votes of one sample's views."""
    order = (-(logits.softmax(1) * logits.log_softmax(1)).sum(1)).argsort()
    votes = logits[order[:kept]].argmax(1).bincount(minlength=logits.shape[1])
    tied = (votes == votes.max()).nonzero().flatten().tolist()
    if len(tied) > 1:
        others = logits[order[kept:]]
        helping = [label for label in others.argmax(1).tolist() if label in tied]
        best = max(tied, key=lambda label: float(others[0, label]))
        votes[helping[0] if helping else best] += 1
    return votes.float()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.9])
def test_zeros_votes_and_ties_are_those_of_a_plain_form(views, share: float):
    _, logits = views
    kept = int(12 * share)
    expected = torch.stack([plain_zero(one, kept) for one in logits])
    votes, _ = zero.vote(logits, share)
    assert torch.equal(votes, expected)
    assert (votes.sum(dim=1) > kept).any() == (kept > 1)


def test_zero_without_a_helping_view_takes_the_tied_class_that_scores_best():
    # Two voters for classes 0 and 1, and a third view that is for class 2.
    logits = torch.tensor([[[9.0, 0, 0], [0, 9.0, 0], [0, 1.0, 2.0]]])
    votes, order = zero.vote(logits, 0.7)
    assert order.tolist() == [[0, 1, 2]]
    assert votes.tolist() == [[1, 2, 0]]


def plain_mta(features: Tensor, logits: Tensor, lambda_y: float, lambda_q: float) -> Tensor:
    """Return the mode of one sample's views, by loops over the whole features."""
    distances = torch.cdist(features, features).sort(dim=1).values
    near = int(0.3 * (len(features) - 1))
    bandwidth = (distances[:, 1 : near + 1].square().mean(1) / 2).sqrt()
    alike = logits.softmax(1) @ logits.softmax(1).T

    def kernel(mode: Tensor) -> Tensor:
        return torch.exp(-((features - mode).norm(dim=1) ** 2) / (2 * bandwidth**2))

    weights, mode = torch.ones(len(features)).double() / len(features), features[0]
    for _ in range(5):
        density = kernel(mode)
        for _ in range(5):
            old = weights
            weights = ((density + lambda_q * alike @ weights) / lambda_y).softmax(0)
            if (weights - old).norm() < 1e-6:
                break
        for _ in range(5):
            old = mode
            mode = F.normalize((kernel(mode) * weights) @ features, dim=0)
            if (mode - old).norm() < 1e-6:
                break
    return mode


def test_mtas_mode_is_that_of_a_plain_form(views):
    features, logits = (part.double() for part in views)
    expected = [plain_mta(f, s, 0.2, 4.0) for f, s in zip(features, logits, strict=True)]
    mode = mta.find_mode(features, logits, 0.2, 4.0)
    found = mta.combine(mode.parts, features)
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-5)
    assert (found - features[:, 0]).norm(dim=1).max() > 0.1


def test_mta_bears_views_that_are_all_the_same():
    features = F.normalize(torch.ones(1, 8, 4), dim=2)
    mode = mta.find_mode(features, features @ torch.eye(4), 0.2, 4.0)
    assert torch.isfinite(mode.parts).all()
    torch.testing.assert_close(mta.combine(mode.parts, features), features[:, 0])


def test_scores_of_votes_are_their_shares_and_order_the_rest_by_probability(views):
    _, logits = views
    votes = count_votes(logits.argmax(dim=2), 6)
    assert torch.equal(votes.sum(dim=1), torch.full((10,), 12.0))
    scores = vote_scores(votes, mean_log_probabilities(logits))
    torch.testing.assert_close(scores.softmax(dim=1), votes / 12, rtol=0, atol=1e-3)
    for own, counted, mean in zip(scores, votes, mean_log_probabilities(logits), strict=True):
        order = sorted(range(6), key=lambda label: (-float(counted[label]), -float(mean[label])))
        assert own.argsort(descending=True).tolist() == order


def test_statistics_of_views_are_means_over_the_confident_ones(views):
    features, logits = views
    seen = view_statistics(features, logits, 0.25)
    assert (number_kept(64, 0.1), number_kept(1, 0.1), number_kept(3, 0.1)) == (6, 1, 0)
    for sample in range(10):
        kept = confident_views(logits, 0.25)[sample]
        assert len(kept) == 3
        mean = logits[sample, kept].softmax(1).mean(0)
        torch.testing.assert_close(seen.probabilities[sample], mean)
        torch.testing.assert_close(seen.feature[sample], features[sample, kept].mean(0))
        torch.testing.assert_close(seen.entropy[sample], -(mean * mean.log()).sum())


# Prompts


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(load_backbone("tiny-clip", "cpu"), ClassSet(("cat", "dog"), "a {}."))


def test_prompts_are_the_protocols_unless_a_field_says_otherwise(task: Task, tmp_path: Path):
    encoder = task.require(DualEncoder)

    def features(*templates: str) -> Tensor:
        return encoder.class_features(task.classes.names, templates)

    assert torch.equal(class_texts(task, PromptConfig()), features("a {}."))
    assert torch.equal(class_texts(task, PromptConfig(prompts="seven")), features(*SEVEN))
    path = tmp_path / "described.json"
    path.write_text(json.dumps({"cat": ["a cat!"], "dog": ["a dog!"]}))
    described = PromptConfig(descriptions=str(path))
    assert len(described.descriptions_sha256) == 64
    torch.testing.assert_close(class_texts(task, described), features("a {}.", "a {}!"))


def test_a_row_with_other_prompts_says_so(ttt):
    settings = ("--set", "views=2", "--set", "prompts=seven")
    code, out, err = ttt("run", "-d", "cifar10-c-mini", "-m", "view-vote", "--limit", 2, *settings)
    assert code == 0, err
    assert "◊ view-vote: other prompts than the protocol's (prompts seven)." in out


def test_descriptions_that_lack_a_class_are_refused(task: Task, tmp_path: Path):
    path = tmp_path / "described.json"
    for content, message in (
        ('{"cat": ["a cat"]}', "no list of sentences for the class 'dog'"),
        ("[]", "holds no object"),
        ("{", "not readable as JSON"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            class_texts(task, PromptConfig(descriptions=str(path)))


def test_a_fitted_temperature_is_where_the_likelihood_is_highest():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 3, generator=draw)
    labels = (logits / 2).softmax(1).multinomial(1, generator=draw)[:, 0]
    choice = fitted(logits, labels)
    assert choice.temperature == pytest.approx(2, rel=0.1)
    assert choice.after < choice.before
    for other in (0.97, 1.03):
        assert (
            F.cross_entropy(logits.double() / (choice.temperature * other), labels) > choice.after
        )


# Methods that train the image tower


def small_tower() -> WorkingCopy:
    """Return a tower of one layer and its LayerNorm."""
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 8))
    return WorkingCopy(tower, lambda network, pixels: network(pixels), lambda network, f: f)


def test_watt_averages_the_records_of_its_templates():
    model, draw = small_tower(), torch.Generator().manual_seed(1)
    pixels = torch.randn(6, 3, 2, 2, generator=draw)
    texts = F.normalize(torch.randn(2, 4, 8, generator=draw), dim=2)
    scale = torch.tensor(10.0)
    records = []
    for text in texts:
        alone = small_tower()
        learn(alone, pixels, text[None], scale, Schedule("parallel", 2, 1, 1e-2))
        records.append(LayerNorms(alone).values())
    steps = learn(model, pixels, texts, scale, Schedule("parallel", 2, 1, 1e-2))
    assert len(steps) == 4
    for value, expected in zip(LayerNorms(model).values(), mean_of(records), strict=True):
        torch.testing.assert_close(value, expected)
    in_turn = small_tower()
    learn(in_turn, pixels, texts, scale, Schedule("sequential", 2, 1, 1e-2))
    assert not torch.equal(LayerNorms(in_turn).values()[0], LayerNorms(model).values()[0])


def test_prompts_of_several_classes_are_encoded_once_each():
    seen: list[str] = []

    def encode(prompts: list[str]) -> Tensor:
        seen.extend(prompts)
        return torch.eye(len(prompts))

    joined = joined_texts(encode, ("cat", "dog"), "a {}.", [(0, 1), (1, 0), (0, 1)])
    assert seen == ["a cat or dog.", "a dog or cat."]
    assert torch.equal(joined, torch.eye(2)[[0, 1, 0]])


def test_a_tower_without_layer_norms_is_refused():
    model = WorkingCopy(nn.Conv2d(3, 4, 3), lambda n, p: n(p), lambda n, f: f)
    with pytest.raises(UserError, match="trains the LayerNorm layers"):
        LayerNorms(model)


def test_a_low_rank_change_is_added_to_q_and_v_alone():
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 4, generator=draw)  # q, k and v of width 4
    change = ttl.LowRank.of_zero(ttl.drawn(weight, 2, draw), alpha=6.0)
    assert torch.equal(change.changed(weight), weight)
    with torch.no_grad():
        change.up.copy_(torch.randn(2, 4, 2, generator=draw))
        added = (change.changed(weight) - weight).unflatten(0, (3, 4))  # (q k v, 4, 4)
    torch.testing.assert_close(added[0], 3 * change.up[0] @ change.down[0])
    torch.testing.assert_close(added[2], 3 * change.up[1] @ change.down[1])
    assert not added[1].any()
    assert added[0].any()
    assert added[2].any()


def test_ttl_takes_as_many_steps_as_it_is_asked_for(task: Task, monkeypatch: pytest.MonkeyPatch):
    steps, plain = list[float](), ttl.ChangedTower.step

    def counted(*arguments) -> tuple[Tensor, Tensor]:
        logits, loss = plain(*arguments)
        steps.append(float(loss))
        return logits, loss

    monkeypatch.setattr(ttl.ChangedTower, "step", counted)
    method = ttl.TTL(ttl.TTLConfig(steps=3, views=4, blocks=1))
    method.setup(task)
    sample = Sample("a", Image.effect_mandelbrot((32, 32), (-2, -1, 1, 1), 20).convert("RGB"))
    (prediction,) = method.adapt([sample], [SampleRNG(0, "a")])
    assert len(steps) == 3
    assert steps[-1] < steps[0]
    assert prediction.step_logits is not None
    assert prediction.unadapted_logits is not None
    assert len(prediction.step_logits) == 3
    frozen = task.logits(task.encode_image([sample]))[0]
    torch.testing.assert_close(prediction.unadapted_logits, frozen, rtol=1e-4, atol=1e-4)


def test_ttl_refuses_a_tower_of_too_few_blocks(task: Task):
    with pytest.raises(UserError, match="last 3 transformer blocks, and this backbone has 2"):
        ttl.TTL(ttl.TTLConfig()).setup(task)


def test_a_template_without_a_place_for_the_name_is_refused():
    with pytest.raises(ValueError, match="needs one"):
        WattConfig(templates=("a photo",))


# What the package declares


@pytest.mark.parametrize("method", ["zero", "view-mean", "watt"])
def test_a_classifier_is_refused_before_it_is_loaded(
    ttt, monkeypatch: pytest.MonkeyPatch, method: str
):
    kind = registry().backbones.find("tiny-resnet").spec.load()
    monkeypatch.setattr(kind, "__init__", lambda *arguments: pytest.fail("was loaded"))
    code, _, err = ttt("run", "-m", method, "-b", "tiny-resnet", "-d", "cifar10-c-mini")
    assert code == 2
    assert f"{method} needs DualEncoder" in err


def test_the_temperature_has_to_be_given(ttt):
    arguments = ("-d", "cifar10-c-mini", "-b", "tiny-clip", "--limit", 2)
    code, _, err = ttt("run", "-m", "temperature", *arguments, "--set", "temperature=null")
    assert code == 2
    assert "choose-temperature" in err


def test_published_numbers_name_their_source_and_their_use_of_labels():
    tables = {table.name: table for table in publication().tables}
    assert all(table.source.startswith(("second-hand: ", "own: ")) for table in tables.values())
    labelled = {row.printed_method for table in tables.values() for row in table.rows
                if row.labelled_data}  # fmt: skip
    assert labelled == {"DMN-ZS"}
    zero_row = next(row for row in tables["dota-2"].rows if row.method == "zero")
    assert "imagenet-v2" not in zero_row.cells
    assert zero_row.cells["imagenet-a"] == 59.61
    assert tables["m2tpt-2"].rows[0].backbone == "open_clip:ViT-B-16/openai"
