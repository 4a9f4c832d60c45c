"""Runs that differ in the seed alone are one row, with intervals over samples and seeds."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.run_folders import METHOD, PROTOCOL, write_run
from ttt_bench.compare.seeds import accuracy_interval, compare_over_seeds
from ttt_bench.compare.statistics import bootstrap_intervals

N = 60


def correct(seeds: int, share: float, start: int) -> np.ndarray:
    """Return drawn predictions, right with a probability that differs between seeds and samples."""
    draw = np.random.default_rng(start)
    easy = np.random.default_rng(7).random(N)
    offset = draw.normal(0, 0.1, (seeds, 1))
    return draw.random((seeds, N)) < np.clip(share + offset + (easy - 0.5), 0, 1)


def resampled(first: np.ndarray, second: np.ndarray, same: bool) -> np.ndarray:
    """Return the differences of the mean accuracies in points, over drawn samples and seeds."""
    draw = np.random.default_rng(1)
    differences = []
    for _ in range(4_000):
        samples = draw.integers(0, N, N)
        a = draw.integers(0, len(first), len(first))
        b = a if same else draw.integers(0, len(second), len(second))
        drawn = first[np.ix_(a, samples)].mean() - second[np.ix_(b, samples)].mean()
        differences.append(100 * drawn)
    return np.array(differences)


@pytest.mark.parametrize(("seeds", "others", "same"), [(3, 3, True), (3, 3, False), (4, 1, False)])
def test_interval_and_p_value_are_those_of_drawn_resamples(seeds: int, others: int, same: bool):
    first, second = correct(seeds, 0.6, 0), correct(others, 0.5, 1)
    pair = compare_over_seeds(first, second, same)
    drawn = resampled(first, second, same)
    assert pair["difference"] == pytest.approx(100 * (first.mean() - second.mean()))
    assert pair["ci95"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.9)
    p = 2 * min((drawn <= 1e-9).mean(), (drawn >= -1e-9).mean())
    assert pair["p"] == pytest.approx(p, abs=0.03)
    gained, given = pair["wrong_to_right"], pair["right_to_wrong"]
    assert 100 * (gained - given) / N == pytest.approx(pair["difference"])


def test_one_seed_is_the_bootstrap_of_the_samples_alone():
    first, second = correct(1, 0.7, 0), correct(1, 0.5, 1)
    won, lost = (first & ~second).sum(), (second & ~first).sum()
    (wanted,) = bootstrap_intervals(np.array([won]), np.array([lost]), N)
    assert compare_over_seeds(first, second, same_seeds=True)["ci95"] == pytest.approx(wanted)


def test_many_seeds_are_drawn_and_come_out_the_same():
    first, second = correct(12, 0.6, 0), correct(12, 0.5, 1)
    pair = compare_over_seeds(first, second, same_seeds=True)
    assert pair == compare_over_seeds(first, second, same_seeds=True)
    drawn = np.quantile(resampled(first, second, same=True), [0.025, 0.975])
    assert pair["ci95"] == pytest.approx(drawn, abs=1)


def test_seeds_that_differ_widen_the_interval_of_an_accuracy():
    alike = np.repeat(correct(1, 0.6, 0), 3, axis=0)
    low, high = accuracy_interval(alike)
    differing = np.stack([np.arange(N) < right for right in (20, 36, 52)])
    assert differing.mean() == pytest.approx(0.6)
    wide_low, wide_high = accuracy_interval(differing)
    assert low < 100 * alike.mean() < high
    assert wide_high - wide_low > 1.2 * (high - low)


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Three seeds of one method, one of another, and a third with another configuration."""
    for seed, wrong in enumerate((30, 36, 42)):
        write_run(
            tmp_path / f"apm{seed}", {**PROTOCOL, "seed": seed}, group=["fog"] * N, wrong=wrong
        )
    other = {**METHOD, "method": "clip-zero-shot", "config": {}}
    write_run(tmp_path / "zero", method=other, group=["fog"] * N, wrong=50)
    return tmp_path


def test_runs_of_one_method_with_several_seeds_are_one_row(ttt, seeds: Path):
    code, out, err = ttt("compare", seeds, "--format", "json")
    assert code == 0, err
    compared = json.loads(out)
    apm, zero = sorted(compared["rows"], key=lambda row: row["method"])
    assert (apm["variant"], apm["seeds"], apm["seed"]) == ("apm", [0, 1, 2], None)
    assert apm["top1"] == pytest.approx(100 * (1 - 36 / N))
    assert apm["sd"]["top1"] == pytest.approx(10.0)
    assert apm["groups"]["fog"] == pytest.approx(apm["top1"])
    assert len(apm["paths"]) == 3
    assert (zero["seeds"], zero["seed"], zero["sd"]) == ([0], 0, None)
    (pair,) = compared["pairs"]
    assert pair["test"] == "bootstrap over samples and seeds"
    assert pair["p_mcnemar"] is None
    assert apm["baseline"]["name"] == "clip-zero-shot"
    assert apm["baseline"]["difference"] == pytest.approx(apm["top1"] - zero["top1"])
    _, out, _ = ttt("compare", seeds)
    assert "40.0 ± 10.0 [" in out
    assert "Seeds of the rows: apm: 0, 1, 2; all others: 0." in out


def test_each_seed_is_shown_on_request(ttt, seeds: Path):
    code, out, err = ttt("compare", seeds, "--by-seed", "--format", "json")
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["variant"] for row in rows] == [
        "apm seed=0", "apm seed=1", "apm seed=2", "clip-zero-shot",
    ]  # fmt: skip
    _, out, _ = ttt("compare", seeds, "--by-seed")
    assert "Seeds of the rows" not in out
