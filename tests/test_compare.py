"""`ttt-bench compare`: who may stand beside whom, and what a difference is worth."""

import json
from pathlib import Path

import numpy as np
import pytest

from ttt_bench.api.records import Records
from ttt_bench.compare.published import match_published
from ttt_bench.compare.read import averages
from ttt_bench.metrics.accuracy import ALEXNET_ERRORS, corruptions, mce, mean_corruption
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
        unadapted_prediction=None,
        step_predictions=None,
        logits=np.zeros((n, 2)),
        seconds=0.0,
    )
    assert corruptions(records) == {"fog": 75.0, "snow": 0.0}
    assert mean_corruption(records) is None


def on_imagenet_c(groups: list[str], right: np.ndarray, classes: int = 1000) -> Records:
    n = len(groups)
    return Records(
        sample_id=[str(i) for i in range(n)],
        group=groups,
        label=np.zeros(n, dtype=int),
        prediction=np.where(right, 0, 1),
        confidence=np.ones(n),
        unadapted_prediction=None,
        step_predictions=None,
        logits=np.zeros((n, classes), np.float32),
        seconds=0.0,
    )


def test_mce_is_one_hundred_for_alexnet():
    """With AlexNet's own errors every ratio is 1; with half of them, a half."""
    groups, right = [], []
    for name, error in ALEXNET_ERRORS.items():
        for severity in range(1, 6):
            groups += [f"{name}@{severity}"] * 100
            right += [place >= round(error) for place in range(100)]
    alexnet = on_imagenet_c(groups, np.array(right))
    assert mce(alexnet) == pytest.approx(100, abs=0.7)
    # Where AlexNet's errors do not apply there is no number.
    assert mce(on_imagenet_c(groups, np.array(right), classes=10)) is None
    assert mce(on_imagenet_c(groups[:-100], np.array(right[:-100]))) is None
    perfect = on_imagenet_c(groups, np.ones(len(groups), dtype=bool))
    assert mce(perfect) == 0


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
    own = match_published(row, tables())
    assert own is not None
    assert own["same_protocol"]
    assert own["published"] == 54.7
    assert own["difference"] == pytest.approx(-0.7)
    assert match_published({**row, "n": 100}, tables())["differs"] == ["n 7500"]
    assert match_published({**row, "method": "mirror"}, tables()) is None
