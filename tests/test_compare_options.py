"""What `ttt-bench compare` shows is chosen by options, and each of them says what it cannot do."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.run_folders import METHOD, PROTOCOL, write_run

GROUPS = ["fog"] * 50 + ["snow"] * 50
MINI = {**PROTOCOL, "dataset": "cifar10-c-mini", "limit": 100}


def write(path: Path, method: str, wrong: int, protocol: dict | None = None, **config) -> None:
    part = {**METHOD, "method": method, "config": config}
    write_run(path / method, protocol or MINI, part, group=GROUPS, wrong=wrong)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two configurations of one method, two other methods, and a run that fits nowhere."""
    folder = tmp_path / "runs"
    write(folder / "a", "apm", 30, steps=5, lr=0.001)
    write(folder / "b", "apm", 20, steps=20, lr=0.001)
    write(folder / "c", "clip-zero-shot", 50)
    write(folder / "d", "tpt", 50, steps=1)
    stray = {**METHOD, "method": "apm", "config": {"steps": 5, "lr": 0.001}}
    write_run(folder / "stray", {**MINI, "limit": 1}, stray, group=["fog"], wrong=0)
    return folder


def rows(ttt, *arguments: object) -> list[str]:
    """Return the labels of the rows, in order."""
    code, out, err = ttt("compare", *arguments, "--format", "json")
    assert code == 0, err
    return [row["variant"] for row in json.loads(out)["rows"]]


def test_a_run_that_fits_nowhere_is_named_and_left_out(ttt, runs: Path):
    code, out, err = ttt("compare", runs)
    assert code == 0
    assert "apm steps=5" in out
    assert err.strip() == (
        f"left out: apm ({runs / 'stray'}): its limit is 1, and 100 in the table of 4 runs on "
        "cifar10-c-mini"
    )
    assert rows(ttt, runs, "--where", "limit=1") == ["apm"]


def test_columns_of_one_dataset_are_tables_of_their_own(ttt, runs: Path):
    for seed in (0, 1):
        write(runs / f"few{seed}", "apm", 3, {**MINI, "limit": 5, "seed": seed}, steps=5)
    code, out, err = ttt("compare", runs, "--tables", "results")
    assert code == 0, err
    titles = [line for line in out.splitlines() if line.startswith("cifar10-c-mini")]
    assert titles == ["cifar10-c-mini limit=100", "cifar10-c-mini limit=5"]


def test_fields_methods_and_rows_are_chosen(ttt, runs: Path):
    every = ["apm steps=5", "apm steps=20", "clip-zero-shot", "tpt"]
    assert rows(ttt, runs) == every
    assert rows(ttt, runs, "--where", "steps=5", "--where", "limit=100") == ["apm"]
    assert rows(ttt, runs, "--only", "apm") == every[:2]
    assert rows(ttt, runs, "--only", "apm:steps=20", "--only", "tpt") == ["apm", "tpt"]
    assert rows(ttt, runs, "--without", "apm steps=5") == ["apm", "clip-zero-shot", "tpt"]


def test_rows_are_sorted_by_a_metric_or_a_cost(ttt, runs: Path):
    assert rows(ttt, runs, "--sort", "top1")[:2] == ["apm steps=20", "apm steps=5"]
    assert rows(ttt, runs, "--sort", "error_rate")[0] == "apm steps=20"
    assert rows(ttt, runs, "--sort", "name") == sorted(rows(ttt, runs))


def test_tests_against_one_row_are_corrected_for_their_own_number(ttt, runs: Path):
    code, out, err = ttt("compare", runs, "--against", "tpt", "--format", "json")
    assert code == 0, err
    compared = json.loads(out)
    assert [pair["a"]["name"] for pair in compared["pairs"]] == [
        "apm steps=5", "apm steps=20", "clip-zero-shot",
    ]  # fmt: skip
    assert {pair["b"]["name"] for pair in compared["pairs"]} == {"tpt"}
    smallest = min(compared["pairs"], key=lambda pair: pair["p"])
    assert smallest["p_holm"] == pytest.approx(3 * smallest["p"])
    by_label = {row["variant"]: row["baseline"] for row in compared["rows"]}
    assert by_label["tpt"]["difference"] is None
    assert by_label["apm steps=20"]["difference"] == pytest.approx(30.0)
    assert "to tpt" in ttt("compare", runs, "--against", "tpt")[1]


def test_the_first_screen_is_the_answer_and_names_the_rest(ttt, runs: Path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    _, out, _ = ttt("compare", runs)
    header = next(line for line in out.splitlines() if line.startswith("method"))
    assert "to clip-zero-shot  GFLOPs" in header
    assert "ms/sample" in header
    assert "+30.0* [" in out
    assert "top-1 % by corruption" not in out
    named = " ".join(out.split()).partition("Further tables by --tables NAME, or --tables all:")[2]
    assert all(f"{name} (" in named for name in ("groups", "pairs", "metrics", "costs"))
    _, out, _ = ttt("compare", runs, "--tables", "all")
    assert all(text in out for text in ("by corruption", "p (Holm)", "other metrics", "setup"))
    assert "Further tables" not in out


def test_metrics_are_chosen_by_name(ttt, runs: Path):
    _, out, _ = ttt("compare", runs, "--metric", "ece", "--metric", "gflops_per_sample")
    (header,) = [line for line in out.splitlines() if line.startswith("method")]
    assert header.split()[-2:] == ["ece", "GFLOPs"]
    assert "top-1 %" not in header


def test_csv_is_one_tidy_table_of_plain_numbers(ttt, runs: Path):
    code, out, err = ttt("compare", runs, "--format", "csv", "-o", "runs.csv")
    assert code == 0, err
    assert out.strip() == "runs.csv"
    lines = list(csv.DictReader(io.StringIO(Path("runs.csv").read_text("utf-8"))))
    assert [line["variant"] for line in lines] == rows(ttt, runs)
    best = lines[1]
    assert float(best["top1_low"]) < float(best["top1"]) == 80.0 < float(best["top1_high"])
    assert (best["config.steps"], best["seed"], best["limit"]) == ("20", "0", "100")
    _, out, _ = ttt("compare", runs, "--format", "csv", "--table", "pairs")
    pairs = list(csv.DictReader(io.StringIO(out)))
    assert len(pairs) == 6
    assert float(pairs[0]["difference_low"]) < float(pairs[0]["difference"]) == -10.0
    _, out, _ = ttt("compare", runs, "--format", "csv", "--table", "groups", "--only", "tpt")
    groups = [line for line in csv.DictReader(io.StringIO(out)) if line["metric"] == "groups"]
    assert {line["group"]: line["value"] for line in groups} == {"fog": "0.0", "snow": "100.0"}


def test_latex_is_one_table_whose_best_is_bold_where_it_is_alone(ttt, runs: Path):
    words = ("--format", "latex", "--caption", "All of 5 %", "--label", "tab:all")
    code, out, err = ttt("compare", runs, *words)
    assert code == 0, err
    assert out.count("\\begin{table}") == 1
    assert "\\caption{All of 5 \\%}\n\\label{tab:all}\n" in out
    assert out.count("\\textbf{80.0 [") == 1
    # The two that are left are equal.
    alike = ttt("compare", runs, "--without", "apm", "--format", "latex")[1]
    assert "50.0 [" in alike
    assert "\\textbf" not in alike


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--where", "limit=7"), "--where limit=7: no run has it; limit is 100, 1"),
        (("--where", "limt=7"), "did you mean limit"),
        (("--where", "limit"), "write KEY=VALUE, such as --where"),
        (("--against", "amp"), "unknown method in --against 'amp'; did you mean apm"),
        (("--against", "apm"), "several rows on cifar10-c-mini: apm steps=5, apm steps=20"),
        (("--only", "apm:steps=6"), "unknown method in --only 'apm:steps=6'"),
        (("--only", "tpt", "--without", "tpt"), "leave no row"),
        (("--sort", "top"), "unknown metric or cost in --sort 'top'; did you mean top"),
        (("--metric", "groups"), "unknown metric or cost in --metric 'groups'"),
        (("--tables", "pair"), "unknown table 'pair'; did you mean pairs"),
        (("--format", "csv", "--table", "costs"), "csv has the tables results, pairs, groups"),
        (("--format", "latex", "--tables", "all"), "latex is one table; name one by --table"),
        (("--caption", "x"), "--caption and --label are for --format latex"),
        (("--format", "csv", "-o", "no/where.csv"), "cannot write no/where.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_shown_is_one_line(ttt, runs: Path, arguments, message: str):
    code, out, err = ttt("compare", runs, *arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench:")]
    assert message in line
