"""Tables of README.md and docs/results.md are made from runs, and follow from them."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.run_folders import ABOUT, METHOD, write_run
from tools import make_results
from tools.make_results import MARK, ROOT, SETS, ResultSet, write
from ttt_bench.api.errors import UserError
from ttt_bench.compare.statistics import bootstrap_intervals
from ttt_bench.registry import registry

COMMAND = "ttt-bench run --method apm --method tpt --dataset nowhere"
RESULT = ResultSet("small", COMMAND, "PAGE.md", ("results", "groups"))
PAGE = """before
<!-- results: small -->
replaced
<!-- end -->
after
<!-- results: other -->
kept
<!-- end -->
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A page with two marks, and runs of one of them."""
    machine = {"device": "cpu", "threads": 1}
    about = {**ABOUT, "environment": {**ABOUT["environment"], **machine}}
    for name, wrong in {"apm": 90, "tpt": 30}.items():
        method, folder = {**METHOD, "method": name}, tmp_path / "small" / name
        write_run(folder, method=method, about=about, group=["fog"] * 300, wrong=wrong)
    (tmp_path / "PAGE.md").write_text(PAGE, "utf-8")
    return tmp_path


def written(home: Path) -> str:
    (text,) = write([RESULT], home, home).values()
    (home / "PAGE.md").write_text(text, "utf-8")
    return text


def test_the_marked_part_has_tables_findings_and_the_command(home: Path):
    text = written(home)
    assert text.startswith(
        "before\n<!-- results: small -->\n\n**imagefolder:nowhere**\n\n| method |"
    )
    assert "| **90.0 [86.1, 92.9]** |" in text
    assert "top-1 % by corruption" in text
    assert "- tpt is better than apm by 20.0 points" in " ".join(text.split())
    assert "The methods computed for 2 s on a CPU with 1 thread. The command:\n" in text
    assert f"```sh\n{COMMAND}\n```\n\n<!-- end -->\nafter\n" in text
    assert "replaced" not in text
    assert text.endswith("<!-- results: other -->\nkept\n<!-- end -->\n")
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("|"))


def test_methods_are_compared_with_their_controls_instead_of_all_pairs(home: Path):
    result = replace(RESULT, tables=("results",), controls={"apm": "tpt", "tpt": "nothing"})
    (text,) = write([result], home, home).values()
    low, high = bootstrap_intervals(np.array([0]), np.array([60]), 300)[0]
    assert f"| apm | tpt | -20.0 | {low:.1f} to {high:.1f} | below 0.0001 |" in text
    assert "\n- Compared with tpt, worse: apm.\n" in text
    assert "is better than" not in text


def test_only_a_changed_page_is_written(home: Path):
    text = written(home)
    assert write([RESULT], home, home) == {}
    (home / "PAGE.md").write_text(text.replace("90.0", "91.0"), "utf-8")
    assert write([RESULT], home, home) == {home / "PAGE.md": text}


def test_check_writes_nothing(home: Path, monkeypatch, capsys):
    monkeypatch.setattr(make_results, "ROOT", home)
    monkeypatch.setattr(make_results, "RUNS", home)
    monkeypatch.setattr(make_results, "SETS", [RESULT])
    assert make_results.main(["write", "--check"]) == 1
    assert capsys.readouterr().out == "PAGE.md would change\n"
    assert (home / "PAGE.md").read_text("utf-8") == PAGE
    assert make_results.main(["write"]) == 0
    assert make_results.main(["write", "--check"]) == 0


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (replace(RESULT, name="none"), "no runs there; make them with `python tools"),
        (replace(RESULT, command="ttt-bench run --method apm"), "not those of the command: tpt"),
        (replace(RESULT, file="other.md"), "no single place for the results small"),
    ],
)
def test_what_cannot_be_written_is_one_message(home: Path, result: ResultSet, message: str):
    (home / "other.md").write_text("nothing is marked here\n", "utf-8")
    with pytest.raises(UserError, match=message):
        write([result], home, home)


def test_run_types_the_command_into_the_folder_of_the_set(home: Path, monkeypatch):
    typed = []
    monkeypatch.setattr(make_results.subprocess, "run", lambda words, check: typed.append(words))
    make_results.run(RESULT, home)
    ((_, *words),) = typed
    assert words == ["-m", "ttt_bench", *shlex.split(COMMAND)[1:], "--output", str(home / "small")]


def test_runs_are_exported_where_the_tables_are_made_from_a_file(home: Path, monkeypatch):
    monkeypatch.setattr(make_results, "ROOT", home)
    monkeypatch.setattr(make_results.subprocess, "run", lambda words, check: None)
    result = replace(RESULT, exported=True)
    with pytest.raises(UserError, match=r"small\.zip: no runs there; make them with"):
        write([result], home, home)
    (home / "audit" / "results").mkdir(parents=True)
    make_results.run(result, home)
    shutil.rmtree(home / "small")
    assert "| **90.0 [86.1, 92.9]** |" in "".join(write([result], home, home).values())


def test_the_results_of_the_repository_follow_from_its_exported_files():
    sets = [result for result in SETS if result.exported]
    assert write(sets, ROOT, ROOT) == {}, "type `python tools/make_results.py write`"


def test_every_set_has_its_place_and_a_command_that_exists():
    for result in SETS:
        names = [mark.group(2) for mark in MARK.finditer((ROOT / result.file).read_text("utf-8"))]
        assert names.count(result.name) == 1
        for method in result.methods:
            assert registry().adapters.find(method)
