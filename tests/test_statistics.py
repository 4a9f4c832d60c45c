"""Intervals, tests and corrections, against textbooks, scipy, statsmodels and simulations."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from ttt_bench.compare import statistics
from ttt_bench.compare.statistics import bootstrap_intervals, holm, wilson

RNG = np.random.default_rng(0)


def paired(left: np.ndarray, right: np.ndarray) -> dict:
    (pair,) = statistics.paired(np.stack([left, right]))
    return pair


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 17), (812, 2000), (50_000, 50_000)])
def test_wilson_agrees_with_statsmodels(right: int, n: int):
    wanted = proportion_confint(right, n, alpha=0.05, method="wilson")
    assert wilson(np.arange(n) < right) == pytest.approx(100 * np.array(wanted), abs=1e-9)


@pytest.mark.parametrize(("won", "lost", "tied"), [(9, 2, 30), (0, 5, 1), (40, 31, 900), (1, 1, 0)])
def test_mcnemar_agrees_with_statsmodels(won: int, lost: int, tied: int):
    left = np.repeat([True, False, True], [won, lost, tied])
    right = np.repeat([False, True, True], [won, lost, tied])
    wanted = mcnemar([[tied, won], [lost, 0]], exact=True).pvalue
    assert paired(left, right)["p_mcnemar"] == pytest.approx(min(1.0, wanted))


@pytest.mark.parametrize("n", [1, 2, 20])
def test_holm_agrees_with_statsmodels(n: int):
    p = RNG.random(n) ** 4
    assert holm(list(p)) == pytest.approx(multipletests(p, method="holm")[1])


def test_bootstrap_agrees_with_scipy():
    """The same percentiles as scipy's bootstrap of the mean difference, up to its own noise."""
    from scipy.stats import bootstrap

    gains = RNG.choice([1.0, -1.0, 0.0], size=400, p=[0.25, 0.15, 0.6])
    own = paired(gains > 0, gains < 0)["ci95"]
    right = bootstrap((gains,), np.mean, method="percentile", rng=np.random.default_rng(1))
    interval = right.confidence_interval
    assert own == pytest.approx([100 * interval.low, 100 * interval.high], abs=0.5)


def test_wilson_interval_of_a_textbook_case():
    """8 of 10: 0.490 to 0.943 (Agresti and Coull 1998)."""
    low, high = wilson(np.array([True] * 8 + [False] * 2))
    assert (low, high) == pytest.approx((49.0, 94.3), abs=0.1)


def test_mcnemar_is_the_exact_binomial_test():
    left = np.array([True] * 9 + [False] * 2 + [True] * 30)
    right = np.array([False] * 9 + [True] * 2 + [True] * 30)
    result = paired(left, right)
    assert result["p_mcnemar"] == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert result["difference"] == pytest.approx(100 * 7 / 41)
    assert (result["wrong_to_right"], result["right_to_wrong"]) == (9, 2)
    same = paired(left, left)
    assert (same["difference"], same["ci95"], same["p_mcnemar"]) == (0, [0, 0], 1)


def test_bootstrap_interval_covers_the_truth_at_its_rate():
    """Simulated pairs with a true difference of 10 points: about 95 % of intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        draw = rng.random(300)
        # 20 % only the left one is right, 10 % only the right one.
        low, high = paired(draw < 0.20, (draw >= 0.20) & (draw < 0.30))["ci95"]
        held += low <= 10 <= high
    assert 0.91 <= held / 200 <= 0.985


@pytest.mark.parametrize(("won", "lost", "n"), [(24, 28, 480), (9, 2, 41), (0, 5, 6), (1, 1, 2)])
def test_bootstrap_is_the_limit_of_many_resamples(won: int, lost: int, n: int):
    """A million drawn resamples have the same quantiles, to one sample."""
    counts = np.random.default_rng(0).multinomial(
        n, np.array([won, lost, n - won - lost]) / n, 10**6
    )
    drawn = np.percentile(100 * (counts[:, 0] - counts[:, 1]) / n, [2.5, 97.5])
    (exact,) = bootstrap_intervals(np.array([won]), np.array([lost]), n)
    assert exact == pytest.approx(drawn, abs=100 / n + 1e-9)


def test_a_pair_is_the_same_among_any_others():
    correct = np.random.default_rng(0).random((23, 301)) < 0.6
    together = dict(zip(combinations(range(23), 2), statistics.paired(correct), strict=True))
    assert len(together) == 253
    for left, right in [(0, 1), (3, 19), (21, 22)]:
        assert together[left, right] == paired(correct[left], correct[right])
    assert statistics.paired(correct[:1]) == []


def test_intervals_of_many_samples_fit_in_blocks():
    """More pairs than one block holds, and a million samples."""
    won = np.arange(100, 900)
    several = bootstrap_intervals(won, won[::-1], 1_000_000)
    assert several[[0, -1]] == pytest.approx(
        np.concatenate([bootstrap_intervals(won[[i]], won[::-1][[i]], 1_000_000) for i in (0, -1)])
    )


def test_holm_is_the_published_procedure():
    """Holm 1979: multiply the ascending p-values by n, n - 1, ... and keep them ascending."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    # Reject at 5 % exactly where stepping down by hand does.
    p = np.random.default_rng(0).random(20) ** 3
    rejected, order = set(), np.argsort(p)
    for rank, place in enumerate(order):
        if p[place] * (20 - rank) > 0.05:
            break
        rejected.add(int(place))
    assert {i for i, corrected in enumerate(holm(list(p))) if corrected <= 0.05} == rejected
