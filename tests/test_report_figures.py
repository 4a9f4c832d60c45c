"""The figures of differences, sweeps and seeds, and the sentences that begin the report."""

from pathlib import Path

import pytest

from tests.run_folders import METHOD, PROTOCOL, write_run
from ttt_bench.compare.pairs import Table, tabulate
from ttt_bench.compare.read import read_runs
from ttt_bench.report.comparison import comparison
from ttt_bench.report.differences import differences, seeds, sweeps
from ttt_bench.report.palette import MARKERS, colours, markers
from ttt_bench.report.sentences import sentences

N = 100


def table(folder: Path) -> Table:
    (one,) = comparison(tabulate(read_runs([folder]))[0]).tables
    return one


def write(path: Path, method: str, wrong: int, seed: int = 0, **config) -> None:
    part = {**METHOD, "method": method, "config": config}
    write_run(path, {**PROTOCOL, "seed": seed}, part, group=["fog"] * N, wrong=wrong)


@pytest.fixture
def swept(tmp_path: Path) -> Table:
    """Three values of one field, each with two seeds, and a baseline."""
    for steps in (1, 10, 100):
        for seed in (0, 1):
            write(tmp_path / f"{steps}-{seed}", "apm", 20 + seed, seed, steps=steps, lr=0.1)
    write(tmp_path / "zero", "clip-zero-shot", 60)
    return table(tmp_path)


def test_differences_are_drawn_with_their_intervals(swept: Table):
    figure = differences(swept.rows)
    assert figure is not None
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        "apm steps=1", "apm steps=10", "apm steps=100",
    ]  # fmt: skip
    _, interval, mark, *_ = axis.lines
    baseline = swept.rows[0].summary["baseline"]
    assert list(interval.get_xdata()) == baseline["ci95"]
    assert list(mark.get_xdata()) == [baseline["difference"]]
    assert mark.get_gid().startswith("title:apm steps=1 less clip-zero-shot: +39.5 [")


def test_a_sweep_is_a_curve_of_accuracy_and_one_of_time(swept: Table):
    figure = sweeps(swept.rows)
    assert figure is not None
    accuracy, cost = figure.axes
    (line,) = accuracy.lines
    assert list(line.get_xdata()) == [1, 10, 100]
    assert list(line.get_ydata()) == [row.summary["top1"] for row in swept.rows[:3]]
    assert accuracy.get_xscale() == "log"
    assert [text.get_text() for text in cost.get_xticklabels()] == ["1", "10", "100"]


def test_seeds_are_points(swept: Table):
    figure = seeds(swept.rows)
    assert figure is not None
    points = [line for line in figure.axes[0].lines if "seed" in str(line.get_gid())]
    assert len(points) == 6
    assert points[1].get_gid() == "title:apm steps=1, seed 1: 79.0"


def test_figures_without_anything_to_draw_are_left_out(tmp_path: Path):
    write(tmp_path / "a", "apm", 20, steps=1, lr=0.1)
    write(tmp_path / "b", "apm", 20, steps=2, lr=0.2)
    rows = table(tmp_path).rows
    # Two fields that change together are no sweep of either.
    assert [draw(rows) for draw in (differences, sweeps, seeds)] == [None, None, None]


def test_two_sentences_say_what_a_table_says_and_what_not(swept: Table, tmp_path: Path):
    assert sentences(swept) == (
        "On imagefolder:nowhere apm steps=1, apm steps=10 and apm steps=100 have the highest "
        "top-1, 79.5 %; of 3 rows 3 are better than clip-zero-shot by more than noise, 0 worse, "
        "and 0 cannot be told from it. It does not say that rows which cannot be told apart on "
        "these 100 samples are equal, nor how they come out on other data, or with other seeds "
        "where a row has one."
    )
    write(tmp_path / "alone" / "a", "apm", 20)
    assert sentences(table(tmp_path / "alone")).startswith(
        "On imagefolder:nowhere apm has the highest top-1, 80.0 % (95 % interval 71.1 to 86.7)."
    )


def test_rows_of_one_colour_have_different_markers():
    many = list(zip(colours(21), markers(21), strict=True))
    assert len({*many}) == 21
    assert {*markers(21)} == {*MARKERS}
