"""`ttt-bench compare`: who may stand beside whom, and what a difference is worth."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from ttt_bench.compare.published import beside
from ttt_bench.compare.runs import averages
from ttt_bench.compare.statistics import holm, paired, wilson
from ttt_bench.metrics.accuracy import corruptions, mean_corruption
from ttt_bench.records import Records
from ttt_bench.references.apm_paper import tables

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
    assert (result["wrong_to_right"], result["right_to_wrong"]) == (9, 2)
    same = paired(mine, mine)
    assert (same["difference"], same["ci95"], same["p_mcnemar"]) == (0, [0, 0], 1)


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


def test_averages_are_over_all_datasets_or_absent():
    def row(method: str, dataset: str, top1: float) -> dict:
        return {"method": method, "backbone": "b", "dataset": dataset, "top1": top1}

    rows = [row("a", "imagenet", 60.0), row("a", "imagenet-a", 40.0), row("a", "imagenet-r", 20.0)]
    found = averages([*rows, row("b", "imagenet-a", 50.0)])
    assert found[0] == {"method": "a", "backbone": "b", "mean": 40.0, "ood_mean": 30.0}
    assert found[1]["mean"] is None
    assert found[1]["ood_mean"] is None


FORMATS = {
    "latex": ["\\toprule", "\\textbf{", "% oracle"],
    "csv": ["method,backbone,n,top-1 %", "# pairs"],
    "html": ["<table>", '<th scope="col">method</th>', "<b>"],
    "text": ["top-1 %", "p (Holm)"],
}


def test_every_format_holds_the_same_numbers(ttt, run_json):
    runs = run_json(*METHODS, "--limit", 48)
    for style, wanted in FORMATS.items():
        code, out, err = ttt("compare", "--format", style)
        assert code == 0, err
        assert all(text in out for text in wanted), (style, out)
        assert all(f"{run['top1']:.1f}" in out for run in runs), style


def test_published_numbers_stand_beside_and_say_what_differs(ttt, run_json):
    run_json("--method", "clip-zero-shot", "--limit", 320)
    code, out, _ = ttt("compare", "--reference", "apm-paper", "--format", "json")
    (row,) = json.loads(out)["rows"]
    own = row["reference"]
    assert (own["published"], own["recomputed"]) == (42.1, pytest.approx(44.193, abs=1e-3))
    assert own["difference"] == pytest.approx(row["mean_corruption"] - 42.1)
    assert not own["same_protocol"]
    assert own["differs"] == [
        "dataset imagenet-c:@5",
        "backbone OpenCLIP ViT-L/14",
        "n 50000",
    ]
    code, out, _ = ttt("compare", "--reference", "apm-paper")
    assert code == 0
    for text in ("50.3", "49.7 ≠", "42.1", "44.2 ≠", "backbone OpenCLIP ViT-L/14"):
        assert text in out
    code, _, err = ttt("compare", "--reference", "apm-papr")
    assert code == 2
    assert "apm-paper" in err


def test_the_same_protocol_is_recognised():
    row = {"method": "tpt", "backbone": "open_clip:ViT-B-16/openai", "dataset": "imagenet-a",
           "n": 7500, "top1": 54.0, "groups": {}, "mean_corruption": None}  # fmt: skip
    own = beside(row, tables())
    assert own is not None
    assert own["same_protocol"]
    assert own["published"] == 54.7
    assert own["difference"] == pytest.approx(-0.7)
    assert beside({**row, "n": 100}, tables())["differs"] == ["n 7500"]
    assert beside({**row, "method": "mirror"}, tables()) is None
