"""`ttt-bench compare`: which runs stand in one table, and how they differ."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.run_folders import IDS, METHOD, PROTOCOL, N, write_run
from ttt_bench import AdapterSpec, MetricSpec, registered
from ttt_bench.api.records import Records
from ttt_bench.compare.pairs import averages, tabulate
from ttt_bench.compare.published import match_published
from ttt_bench.compare.read import read_runs
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
    assert list(run["corruptions"]) == [group.removesuffix("@5") for group in sorted(groups)]
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
            right += [index >= round(error) for index in range(100)]
    alexnet = on_imagenet_c(groups, np.array(right))
    assert mce(alexnet) == pytest.approx(100, abs=0.7)
    # Where AlexNet's errors do not apply there is no number.
    assert mce(on_imagenet_c(groups, np.array(right), classes=10)) is None
    assert mce(on_imagenet_c(groups[:-100], np.array(right[:-100]))) is None
    perfect = on_imagenet_c(groups, np.ones(len(groups), dtype=bool))
    assert mce(perfect) == 0


def test_text_and_markdown(ttt, run_json):
    run_json(*METHODS, "--limit", 40)
    code, out, _ = ttt("compare", "--format", "markdown", "--tables", "all")
    assert code == 0
    assert "| clip-zero-shot | tiny-clip | 40 |" in out
    table = next(part for part in out.split("**") if "brigh" in part)
    header = [cell.strip() for cell in table.strip().splitlines()[0].strip("|").split("|")]
    # The columns of the papers' ImageNet-C tables, as they print them.
    assert " ".join(header) == (
        "method backbone clean brigh cont defoc elast fog frost gauss glass impul jpeg motn pixel "
        "shot snow zoom mean 15"
    )
    code, out, _ = ttt("compare", "--tables", "pairs")
    assert code == 0
    assert "clip-ensemble" in out
    assert "p (McNemar)" in out


def test_averages_are_over_all_datasets_or_absent(tmp_path: Path):
    wrong = {("a", "imagenet"): 40, ("a", "imagenet-a"): 60, ("a", "imagenet-r"): 80,
             ("b", "imagenet-a"): 50}  # fmt: skip
    for (method, dataset), count in wrong.items():
        write_run(
            tmp_path / dataset / method,
            {**PROTOCOL, "dataset": dataset},
            {**METHOD, "method": method},
            group=["all"] * 100,
            wrong=count,
        )
    means = {one["method"]: one for one in averages(tabulate(read_runs([tmp_path]))[0])}
    assert (means["a"]["mean"], means["a"]["ood_mean"]) == (40.0, 30.0)
    assert (means["b"]["mean"], means["b"]["ood_mean"]) == (None, None)


FORMATS = {
    "latex": ["\\toprule", "% Oracle"],
    "csv": ["variant,method,dataset,limit,seed,backbone"],
    "html": ["<table>", '<th scope="col">method</th>'],
    "text": ["top-1 %", "Further tables by --tables NAME"],
}


def test_every_format_holds_the_same_numbers(ttt, run_json):
    runs = run_json(*METHODS, "--limit", 48)
    for style, wanted in FORMATS.items():
        code, out, err = ttt("compare", "--format", style)
        assert code == 0, err
        assert all(text in out for text in wanted), (style, out)
        numbers = [repr(run["top1"]) if style == "csv" else f"{run['top1']:.1f}" for run in runs]
        assert all(number in out for number in numbers), style


def test_published_numbers_stand_beside_and_say_what_differs(ttt, run_json):
    run_json("--method", "clip-zero-shot", "--limit", 320)
    code, out, _ = ttt("compare", "--reference", "apm-paper", "--format", "json")
    (row,) = json.loads(out)["rows"]
    match = row["reference"]
    assert (match["published"], match["recomputed"]) == (42.1, pytest.approx(44.193, abs=1e-3))
    assert match["difference"] == pytest.approx(row["mean_corruption"] - 42.1)
    assert not match["same_protocol"]
    assert match["differs"] == [
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
    match = match_published(row, tables())
    assert match is not None
    assert match["same_protocol"]
    assert match["published"] == 54.7
    assert match["difference"] == pytest.approx(-0.7)
    assert match_published({**row, "n": 100}, tables())["differs"] == ["n 7500"]
    assert match_published({**row, "method": "mirror"}, tables()) is None


def test_marks_and_notes_in_every_format(ttt, tmp_path: Path):
    """Labelled data, a kind that is not alone with its sample, and known failures are marked."""
    lame = {"method": "lame", "kind": "batch", "config": {"batch_size": 64}}
    tent = {"method": "tent", "kind": "stream", "config": {"batch_size": 16}}
    parts = {
        "coop": {"method": "coop", "labelled_data": "a learned prompt"},
        "lame": {**lame, "known_failures": {"batch-independence": "by its paper"}},
        "tent": {**tent, "labelled_data": "a learned head"},
        "tpt": {"method": "tpt"},
    }
    for name, part in parts.items():
        write_run(tmp_path / "runs" / name, method={**METHOD, **part})
    names = {
        "text": ("coop†", "lame‡§", "tent†‡"),
        "latex": (r"coop$^\dagger$", r"lame$^\ddagger$$^\S$", r"tent$^\dagger$$^\ddagger$"),
    }
    for style in ("text", "markdown", "latex", "html"):
        code, out, err = ttt("compare", "runs", "--format", style)
        assert code == 0, err
        for text in (
            *names.get(style, names["text"]),
            "† coop: a learned prompt.",
            "† tent: a learned head.",
            "its batch of 64.",
            "its batch of 16.",
            "§ lame: fails the check batch-independence by design (by its paper).",
        ):
            assert text in out, (style, text)
        assert "tpt‡" not in out
    code, out, _ = ttt("compare", "runs", "--format", "json")
    rows = {row["method"]: row for row in json.loads(out)["rows"]}
    assert (rows["lame"]["kind"], rows["lame"]["batch_size"]) == ("batch", 64)
    assert rows["lame"]["known_failures"] == {"batch-independence": "by its paper"}
    assert rows["tpt"]["batch_size"] is None
    code, _, err = ttt("report", "runs", "-o", "page.html")
    assert code == 0, err
    assert "lame‡§" in Path("page.html").read_text("utf-8")


def test_a_run_without_its_manifest_is_named(ttt, tmp_path: Path):
    write_run(tmp_path / "runs" / "whole")
    write_run(tmp_path / "runs" / "lost", method={**METHOD, "method": "tpt"})
    (tmp_path / "runs" / "lost" / "manifest.json").unlink()
    code, out, err = ttt("compare", "runs", "--format", "json")
    assert code == 0, err
    assert [row["method"] for row in json.loads(out)["rows"]] == [METHOD["method"]]
    assert "runs/lost holds the chunks of a run whose manifest.json is missing" in err
    code, out, err = ttt("compare", "runs/lost")
    assert (code, out) == (2, "")
    assert "manifest.json is missing" in err


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"method": "tpt", "config": {"steps": 1}, "code": {"method": "1"}, "chunks": 1}, []),
        (
            {"method": "tpt", "weights": "1", "transform": {"size": 8}},
            ["transform.size", "weights"],
        ),
        ({"config": {"steps": 1}, "code": {"method": "1"}}, ["code.method", "config.steps"]),
    ],
)
def test_pairs_say_in_what_else_two_rows_differ(ttt, tmp_path: Path, change, differs: list[str]):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", method={**METHOD, **change})
    code, out, err = ttt("compare", "runs", "--format", "json")
    assert code == 0, err
    (pair,) = json.loads(out)["pairs"]
    assert pair["method_differences"] == differs


def test_rows_of_one_table_saw_the_same_pixels(ttt, tmp_path: Path):
    seen = [f"{index:02x}" for index in range(N)]
    write_run(tmp_path / "runs" / "a", image_digest=seen)
    write_run(tmp_path / "runs" / "b", image_digest=[*seen[:-1], "ff"])
    code, out, err = ttt("compare", "runs")
    assert (code, out) == (2, "")
    assert f"the image of sample {IDS[-1]} was replaced" in err
    write_run(tmp_path / "runs" / "b", image_digest=[*seen[:-1], ""])
    assert ttt("compare", "runs")[0] == 0


def test_show_of_a_run_prints_the_whole_card(ttt, tmp_path: Path):
    write_run(tmp_path / "run")
    code, out, err = ttt("show", "run")
    assert code == 0, err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text("utf-8"))
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert manifest["key"] in lines["key"]
    assert "names this run" in lines["key"]
    assert manifest["fingerprint"] in lines["fingerprint"]
    assert "every row of a table" in lines["fingerprint"]
    for part in ("protocol", "method"):
        for field, value in manifest["card"][part].items():
            text = value if isinstance(value, str) else json.dumps(value)
            assert any(line.split() == [field, *text.split()] for line in out.splitlines()), field


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("ray", ["executor ray", "[HOST:PORT]"]),
        ("tpt", ["method tpt", "sample (episodic", "DualEncoder", "tiny-clip on cifar10-c-mini"]),
        ("tiny-clip", ["backbone tiny-clip", "DualEncoder"]),
        ("top1", ["metric top1", "overview"]),
        ("apm-paper", ["reference apm-paper", "2410.20535"]),
    ],
)
def test_show_of_everything_that_is_registered(ttt, name: str, texts: list[str]):
    code, out, err = ttt("show", name)
    assert code == 0, err
    assert all(text in out for text in texts), out


def test_kinds_and_known_failures_are_listed_and_shown(ttt):
    spec = AdapterSpec(
        name="laplace", summary="Laplacian", code="ttt_bench.baselines.source:Source", kind="batch",
        trains="a graph", known_failures={"batch-independence": "by its paper"},
    )  # fmt: skip
    with registered(adapters=[spec]):
        _, out, _ = ttt("list", "methods")
        (line,) = [line for line in out.splitlines() if line.startswith("laplace")]
        assert " ".join(line.split()) == (
            "laplace batch Laplacian; fails by design: batch-independence (by its paper)"
        )
        _, out, _ = ttt("list", "methods", "--format", "json")
        row = next(row for row in json.loads(out)["methods"] if row["name"] == "laplace")
        assert (row["kind"], row["known_failures"]) == ("batch", dict(spec.known_failures))
        assert (row["trains"], row["keeps"], row["release"]) == ("a graph", "", "")
        _, out, _ = ttt("show", "laplace")
        assert "batch (a prediction depends on its batch" in out
        assert "batch-independence: by its paper" in out
        assert "trains          a graph" in out


def test_a_metric_chooses_its_table(ttt, tmp_path: Path):
    write_run(tmp_path / "run")
    code = "ttt_bench.metrics.accuracy:error_rate"
    first = MetricSpec(name="first", summary="", code=code, heading="ERR", shown_in="overview")
    second = MetricSpec(name="second_one", summary="", code=code)
    third = MetricSpec(name="third", summary="", code=code, shown_in="elsewhere")
    with registered(metrics=[first, second, third]):
        _, out, _ = ttt("compare", "run", "--format", "markdown", "--tables", "all")
    lines = [line for line in out.splitlines() if line.startswith("| method |")]
    headers = [[cell.strip() for cell in line.split("|")] for line in lines]
    overview = next(header for header in headers if "top-1 %" in header)
    others = next(header for header in headers if "nll" in header)
    assert "ERR" in overview
    assert "second one" in others
    assert "ERR" not in others
    assert "third" not in out
