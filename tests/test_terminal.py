"""Text of `run` and `compare` in a terminal: no line too long, no word broken, nothing lost."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.run_folders import METHOD, PROTOCOL, write_run
from ttt_bench.compare.pairs import tabulate
from ttt_bench.compare.read import FinishedRun, read_runs
from ttt_bench.datasets.corruptions import SHORT_NAMES
from ttt_bench.report.comparison import ALL, Comparison, comparison
from ttt_bench.report.findings import findings
from ttt_bench.report.grid import Grid, Part, three_digits
from ttt_bench.report.layout import Layout, lay_out
from ttt_bench.report.render import show
from ttt_bench.runner.progress import ProgressBar
from ttt_bench.runs.card import Card

PROMPTS, HEADS = "the prompt was learned on labelled images", "its head was trained on labels"
METHODS = {
    "apm": None, "clip-ensemble": None, "clip-zero-shot": None, "cocoop": PROMPTS,
    "coop": PROMPTS, "fine-tune": HEADS, "joint-train": HEADS, "source": None, "tpt": None,
    "tpt-cocoop": PROMPTS, "tpt-coop": PROMPTS, "ttt-mae": HEADS, "vit-probe": HEADS,
}  # fmt: skip
BACKBONES = {
    "short": ("tiny-clip", "tiny-mae"),
    "long": ("open_clip:ViT-B-16/openai", "timm:vit_large_patch16_224.mae"),
}
GROUPS = {
    "embedded": ["clean", *(f"{name}@5" for name in SHORT_NAMES)],
    "domains": [f"hospital number {number}" for number in range(75)],
}
# What the layout itself adds to the words of a table.
ADDED = {"Same", "for", "all:", "(continued)", "Columns", "left", "out", "the", "width:"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[FinishedRun]]:
    """Thirteen runs for each choice of groups."""
    read = {}
    for groups, names in GROUPS.items():
        folder = tmp_path_factory.mktemp("runs")
        samples = [name for name in names for _ in range(4)]
        for number, (name, learned) in enumerate(METHODS.items()):
            templates = ["{}", "a {}"] if name == "clip-ensemble" else ["{}"]
            write_run(
                folder / name,
                {**PROTOCOL, "dataset": "cifar10-c-mini"},
                {**METHOD, "method": name, "labelled_data": learned, "templates": templates},
                group=samples,
                wrong=len(samples) // 3 + 5 * (number % 6),
            )
        read[groups] = read_runs([folder])
    return read


def on_backbones(runs: list[FinishedRun], names: tuple[str, str]) -> list[FinishedRun]:
    """Return runs as if they were made with a dual encoder and a masked autoencoder."""
    changed = []
    for run in runs:
        backbone = {"backbone": names[METHODS[run.summary["method"]] == HEADS]}
        card = Card(run.card.protocol, {**run.card.method, **backbone})
        changed.append(replace(run, card=card, summary={**run.summary, **backbone}))
    return changed


def cells(grid: Grid, turned: bool) -> dict[tuple[str, str], tuple[str, bool]]:
    """Return each cell by the names of its row and its column, and whether it is a best one."""
    found = {}
    for row, line in enumerate(grid.rows):
        for column, cell in enumerate(line[1:], 1):
            names = line[0], grid.header[column]
            found[names[::-1] if turned else names] = cell, (row, column) in grid.best
    return found


def require_the_same_cells(grid: Grid, layout: Layout) -> None:
    if any(re.fullmatch(r"\[\d+\] .*", line) for line in layout.below):
        return
    shown: dict[tuple[str, str], tuple[str, bool]] = {}
    for block in layout.blocks:
        turned = grid.turns is not None and block.header[0] == grid.turns
        for (row, column), cell in cells(block, turned).items():
            # A turned table has the other labels beside the name.
            shown[row.split()[0] if turned else row, column] = cell
    for (row, column), cell in cells(grid, turned=False).items():
        if (row, column) in shown:
            assert shown[row, column] == cell
        else:
            repeated = grid.header.index(column) < grid.labels
            hidden = [layout.above, *layout.below]
            assert repeated or any(column in line for line in hidden), (row, column)


def words(compared: Comparison, sentences: list[str]) -> set[str]:
    texts = [*compared.notes, *sentences]
    for grid in compared.chosen([ALL]):
        texts += [grid.title, *grid.header, *(cell for line in grid.rows for cell in line)]
        texts += [part.name for part in grid.parts] + [grid.turns or ""]
    return {word for text in texts for word in text.split()}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    width=st.one_of(st.sampled_from([80, 100, 140]), st.integers(80, 220)),
    methods=st.sets(st.sampled_from(list(METHODS)), min_size=2),
    groups=st.sampled_from(list(GROUPS)),
    backbones=st.sampled_from(list(BACKBONES)),
)
def test_every_table_fits_and_breaks_no_word(
    runs, capsys, monkeypatch, width: int, methods: set[str], groups: str, backbones: str
):
    monkeypatch.setenv("COLUMNS", str(width))
    chosen = [run for run in runs[groups] if run.summary["method"] in methods]
    compared = comparison(tabulate(on_backbones(chosen, BACKBONES[backbones]))[0])
    grids = compared.chosen([ALL])
    sentences = findings(compared.compared)
    capsys.readouterr()
    show(grids, "text", compared.notes, sentences)
    out = capsys.readouterr().out
    assert max(map(cell_len, out.splitlines())) <= width
    allowed = words(compared, sentences) | ADDED
    separators = {word.rstrip(",.:") for word in allowed}
    broken = {
        word
        for word in out.split()
        if word not in allowed
        and word.rstrip(",.:") not in separators
        and not re.fullmatch(r"─+|\[\d+\]", word)
    }
    assert not broken
    for grid in grids:
        require_the_same_cells(grid, lay_out(grid, width))


@pytest.mark.parametrize("backbones", list(BACKBONES))
@pytest.mark.parametrize("groups", list(GROUPS))
def test_all_thirteen_methods_are_named_in_every_table(runs, backbones: str, groups: str):
    tables, _ = tabulate(on_backbones(runs[groups], BACKBONES[backbones]))
    for grid in comparison(tables).chosen([ALL]):
        for width in (80, 100, 140):
            blocks = lay_out(grid, width).blocks
            lines = [line for block in blocks for line in (block.header, *block.rows)]
            named = {word.rstrip("†") for line in lines for cell in line for word in cell.split()}
            assert named >= set(METHODS), (grid.title, width)


def test_a_table_that_fits_stays_whole(runs):
    for grid in comparison(tabulate(runs["embedded"])[0]).chosen([ALL]):
        layout = lay_out(grid, 250)
        assert layout.blocks == [grid]
        assert (layout.above, layout.below) == ("", ())


def table(columns: int, labels: int = 1, **layout) -> Grid:
    header = ["method", *(f"column-{number}" for number in range(1, columns))]
    rows = [[f"row-{row}", *(f"{row}.{column}" for column in range(1, columns))] for row in "ab"]
    return Grid("title", header, rows, frozenset({(1, columns - 1)}), labels, **layout)


def test_blocks_repeat_the_labels_and_share_the_width_evenly():
    layout = lay_out(table(13), 80)
    assert [block.header[0] for block in layout.blocks] == ["method", "method"]
    assert [len(block.header) for block in layout.blocks] == [7, 7]
    assert [block.title for block in layout.blocks] == ["title", "title (continued)"]
    assert [block.best for block in layout.blocks] == [frozenset(), frozenset({(1, 6)})]


def test_parts_stay_together():
    layout = lay_out(table(9, parts=(Part("cost", 3),)), 80)
    assert [block.title for block in layout.blocks] == ["title", "title, cost"]
    assert [len(block.header) for block in layout.blocks] == [3, 7]


def test_a_long_table_goes_without_optional_columns_and_says_so():
    grid = table(9, parts=(Part("more", 6, optional=True),))
    assert len(lay_out(grid, 60).blocks) == 2
    long = Grid("title", grid.header, grid.rows * 20, parts=grid.parts)
    layout = lay_out(long, 60)
    (block,) = layout.blocks
    assert block.header == grid.header[:6]
    assert layout.below == ("Columns left out for the width: column-6, column-7, column-8.",)
    (block,) = lay_out(long, 80).blocks
    assert block.header == grid.header[:8]


def test_a_turned_table_has_a_row_for_each_column():
    layout = lay_out(table(30, turns="group"), 80)
    (block,) = layout.blocks
    assert block.header == ["group", "row-a", "row-b"]
    assert block.rows[0] == ["column-1", "a.1", "b.1"]
    assert block.best == frozenset({(28, 2)})


def test_labels_too_long_for_the_terminal_are_numbered():
    rows = [["apm", "x" * 70, "1"], ["tpt", "y" * 70, "2"], ["source", "x" * 70, "3"]]
    layout = lay_out(Grid("title", ["method", "backbone", "top-1"], rows, labels=2), 80)
    (block,) = layout.blocks
    assert [line[1] for line in block.rows] == ["[1]", "[2]", "[1]"]
    assert layout.below == (f"[1] {'x' * 70}", f"[2] {'y' * 70}")


def compared_in_words(tmp_path: Path, **wrong: int) -> list[str]:
    """Return the findings about 300 samples, of which each method has the first few wrong."""
    for name, count in wrong.items():
        backbone = "tiny-mae" if name == "mae" else "tiny-clip"
        method = {**METHOD, "method": name, "backbone": backbone}
        write_run(tmp_path / name, method=method, group=["fog"] * 300, wrong=count)
    return findings(comparison(tabulate(read_runs([tmp_path]))[0]).compared)


def test_findings_of_two_methods(tmp_path: Path):
    assert compared_in_words(tmp_path / "a", apm=30, tpt=33) == [
        "No difference between methods is more than noise: apm less tpt is +1.0 points (95 % "
        "interval +0.0 to +2.3, p 0.25)."
    ]
    assert compared_in_words(tmp_path / "b", apm=63, tpt=33) == [
        "Differences between methods that are more than noise (p below 0.05):",
        "tpt is better than apm by 10.0 points (95 % interval 6.7 to 13.7, p below 0.0001).",
    ]


def test_findings_of_several_methods_are_told_winner_by_winner(tmp_path: Path):
    assert compared_in_words(tmp_path / "a", apm=30, coop=32, tpt=33) == [
        "No difference between methods is more than noise: the smallest p after Holm's correction "
        "for 3 pairs is 0.75."
    ]
    assert compared_in_words(tmp_path / "b", apm=30, coop=60, tpt=61) == [
        "Differences between methods that are more than noise (p below 0.05 after Holm's "
        "correction for 3 pairs):",
        "apm is better than coop and tpt by 10.0 to 10.3 points (p below 0.0001).",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.08391, "0.0839"), (6.8, "6.8"), (999.4, "999"), (999.6, "1,000"), (1333.6, "1,334")],
)
def test_numbers_have_three_digits_or_are_whole(value: float, text: str):
    assert three_digits(value) == text


def test_methods_that_are_better_than_the_same_ones_share_a_sentence(tmp_path: Path):
    assert compared_in_words(tmp_path / "a", apm=30, coop=31, tda=60, tpt=61)[1:] == [
        "apm and coop are each better than tda and tpt by 9.7 to 10.3 points (p below 0.0001).",
    ]
    assert compared_in_words(tmp_path / "b", apm=30, coop=30, tpt=60)[1:] == [
        "apm is better than tpt by 10.0 points (95 % interval 6.7 to 13.7, p below 0.0001).",
        "coop is better than tpt by 10.0 points (95 % interval 6.7 to 13.7, p below 0.0001).",
    ]


def test_findings_count_the_pairs_of_different_backbones(tmp_path: Path):
    assert compared_in_words(tmp_path / "a", apm=30, mae=90, tpt=41) == [
        "Differences between methods of one backbone that are more than noise (p below 0.05 after "
        "Holm's correction for 3 pairs):",
        "tiny-clip: apm is better than tpt by 3.7 points (95 % interval 1.7 to 6.0, p 0.00098).",
        "Between methods of different backbones, 2 of 2 differences are more than noise.",
    ]
    assert compared_in_words(tmp_path / "alike", apm=30, mae=90, tpt=31) == [
        "No difference between methods of one backbone is more than noise: apm less tpt is +0.3 "
        "points (95 % interval +0.0 to +1.0, p 1 after Holm's correction for 3 pairs). "
        "Between methods of different backbones, 2 of 2 differences are more than noise.",
    ]


def test_run_prints_findings_and_fits(ttt, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    methods = ("--method", "clip-zero-shot", "--method", "clip-ensemble")
    code, out, err = ttt("run", *methods, "--dataset", "cifar10-c-mini", "--limit", 32)
    assert code == 0, err
    assert max(map(cell_len, out.splitlines())) <= 80
    assert "is more than noise" in " ".join(out.split())
    # The intervals of `compare`.
    assert re.search(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", out)
    assert max(map(cell_len, err.splitlines())) <= 80


@pytest.mark.parametrize("dataset", ["cifar10-c-mini", "imagefolder:0123456789ab"])
def test_a_bar_fits(capfd, monkeypatch, dataset: str):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    with ProgressBar(
        f"clip-zero-shot on {dataset}", lambda _: "3200/3200, 1234.5/s, 100 s left"
    ) as bar:
        bar.update(3200, 3200)
    err = capfd.readouterr().err
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err).replace("\r", "\n").splitlines()
    assert any(f"clip-zero-shot on {dataset}" in line and "100 s left" in line for line in lines)
    assert max(map(cell_len, lines)) <= 80
    assert "…" not in err
