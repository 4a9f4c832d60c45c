"""`ttt-bench compare`: who may stand beside whom, and what a difference is worth."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from ttt_bench.compare.statistics import paired, wilson
from ttt_bench.metrics.accuracy import corruptions, mean_corruption
from ttt_bench.records import Records

METHODS = ("--method", "clip-zero-shot", "--method", "clip-ensemble")


def test_json(ttt, run_json):
    runs = run_json(*METHODS, "--limit", 80)
    code, out, err = ttt("compare", "--format", "json")
    assert code == 0, err
    compared = json.loads(out)
    by_method = {row["method"]: row for row in compared["rows"]}
    for run in runs:
        row = by_method[run["method"]]
        assert {key: row[key] for key in run if key != "path"} == {
            key: value for key, value in run.items() if key != "path"
        }
        assert row["reference"] is None
        low, high = row["ci95"]
        assert low < row["top1"] < high
    (pair,) = compared["pairs"]
    assert {"difference", "ci95", "p_mcnemar", "n"} <= set(pair)
    a, b = by_method[pair["a"]["method"]], by_method[pair["b"]["method"]]
    assert pair["difference"] == pytest.approx(a["top1"] - b["top1"])


def test_mean_corruption_is_that_of_the_fifteen(run_json, records_of):
    (run,) = run_json("--method", "clip-zero-shot", "--limit", 320)
    groups = dict(run["groups"])
    groups.pop("clean")
    assert len(groups) == 15
    assert run["mean_corruption"] == pytest.approx(sum(groups.values()) / 15)
    assert list(run["corruptions"]) == sorted(groups)
    (few,) = run_json("--method", "clip-zero-shot", "--limit", 10)
    assert few["mean_corruption"] is None


def test_corruptions_are_means_over_severities():
    groups = ["fog@1", "fog@5", "fog@5", "snow@1", None]
    n = len(groups)
    records = Records(
        sample_id=[str(i) for i in range(n)],
        group=groups,
        label=np.zeros(n, dtype=int),
        prediction=np.array([0, 0, 1, 1, 0]),
        confidence=np.ones(n),
        step_predictions=None,
        logits=np.zeros((n, 2)),
        seconds=0.0,
    )
    assert corruptions(records) == {"fog": 75.0, "snow": 0.0}
    assert mean_corruption(records) is None


def test_text_and_markdown(ttt, run_json):
    run_json(*METHODS, "--limit", 40)
    code, out, _ = ttt("compare", "--format", "markdown")
    assert code == 0
    assert "| clip-zero-shot | tiny-clip | 40 |" in out
    table = next(part for part in out.split("**") if "brigh" in part)
    header = [cell.strip() for cell in table.strip().splitlines()[0].strip("|").split("|")]
    # The columns of the papers' ImageNet-C tables, as they print them.
    assert " ".join(header) == (
        "method backbone clean brigh cont defoc elast fog frost gauss glass impul jpeg motn pixel "
        "shot snow zoom mean 15"
    )
    code, out, _ = ttt("compare")
    assert code == 0
    assert "clip-ensemble" in out
    assert "p (McNemar)" in out


@pytest.mark.parametrize(
    ("setting", "field"), [(("--limit", 30), "limit is 20"), (("--seed", 1), "seed is 0")]
)
def test_different_columns_are_refused(ttt, run_json, setting, field: str):
    common = ("--method", "clip-zero-shot", "--limit", 20)
    run_json(*common, "--output", "runs/a")
    run_json(*common, *setting, "--output", "runs/b")
    code, out, err = ttt("compare", "runs")
    assert (code, out) == (2, "")
    assert field in err
    assert ttt("compare", Path("runs/a"))[0] == 0


def test_wilson_interval_of_a_textbook_case():
    """8 of 10: 0.490 to 0.943 (Agresti and Coull 1998)."""
    low, high = wilson(np.array([True] * 8 + [False] * 2))
    assert (low, high) == pytest.approx((49.0, 94.3), abs=0.1)


def test_mcnemar_is_the_exact_binomial_test():
    mine = np.array([True] * 9 + [False] * 2 + [True] * 30)
    theirs = np.array([False] * 9 + [True] * 2 + [True] * 30)
    result = paired(mine, theirs)
    assert result["p_mcnemar"] == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert result["difference"] == pytest.approx(100 * 7 / 41)
    assert paired(mine, mine) == {"difference": 0, "ci95": [0, 0], "p_mcnemar": 1, "n": 41}


def test_bootstrap_interval_covers_the_truth_at_its_rate():
    """Simulated pairs with a true difference of 10 points: about 95 % of intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        draw = rng.random(300)
        # 20 % only mine is right, 10 % only theirs.
        low, high = paired(draw < 0.20, (draw >= 0.20) & (draw < 0.30))["ci95"]
        held += low <= 10 <= high
    assert 0.91 <= held / 200 <= 0.985


def test_bootstrap_is_seeded():
    mine, theirs = np.arange(50) % 2 == 0, np.arange(50) % 3 == 0
    assert paired(mine, theirs) == paired(mine, theirs)
