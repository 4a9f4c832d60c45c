"""The tables of docs/online.md follow from the finished runs of several settings and seeds."""

from pathlib import Path

import pytest

from tests.run_folders import ABOUT, METHOD, PROTOCOL, write_run
from tools import online_results
from tools.make_results import write
from tools.online_results import Claim, OnlineResults, Setting
from ttt_bench.api.errors import UserError

METHODS = ("source", "norm")
SETTINGS = (
    Setting("grouped", "--stream grouped", METHODS),
    Setting("memo", "--limit 9", ("source",), shown=False),
)
CLAIMS = (
    Claim("it helps", "grouped", "norm", "source"),
    Claim("it harms", "grouped", "source", "norm"),
    Claim("nothing", "memo", "source", "source"),
)
IMAGES = 300


def add_run(folder: Path, setting: str, seed: int, method: str, wrong: int) -> None:
    about = {**ABOUT, "environment": {**ABOUT["environment"], "device": "cpu", "threads": 1}}
    write_run(
        folder / "online" / setting / f"seed-{seed}" / method,
        protocol={**PROTOCOL, "seed": seed},
        method={**METHOD, "method": method},
        about=about,
        group=["fog"] * IMAGES,
        wrong=wrong,
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds of both methods, and a third one of which a method is not there."""
    monkeypatch.setattr(online_results, "METHODS", METHODS)
    monkeypatch.setattr(online_results, "SETTINGS", SETTINGS)
    monkeypatch.setattr(online_results, "CLAIMS", CLAIMS)
    for seed, (source, norm) in enumerate([(90, 30), (96, 36)]):
        add_run(tmp_path, "grouped", seed, "source", source)
        add_run(tmp_path, "grouped", seed, "norm", norm)
    add_run(tmp_path, "grouped", 2, "source", 0)
    add_run(tmp_path, "memo", 0, "source", 30)
    (tmp_path / "docs").mkdir()
    page = "before\n<!-- results: online -->\n<!-- end -->\nafter\n"
    (tmp_path / "docs" / "online.md").write_text(page, "utf-8")
    return tmp_path


def test_the_page_has_means_spreads_and_what_is_seen_of_each_finding(home: Path):
    (text,) = write([OnlineResults()], home, home).values()
    lines = text.splitlines()
    assert "| method | grouped |" in lines
    assert f"| images | {IMAGES} |" in lines
    # The third seed lacks a run.
    assert "| seeds | 2 |" in lines
    assert "| source | 69.0 ± 1.4 |" in lines
    assert "| norm | 89.0 ± 1.4 |" in lines
    (helps,) = (line for line in lines if line.startswith("| it helps |"))
    assert "| norm less source | +20.0 |" in helps
    assert helps.endswith("| yes |")
    assert sum(line.endswith("| no, the opposite |") for line in lines) == 1
    assert (
        "| nothing | memo | source less source | +0.0 | +0.0 to +0.0 | no, within noise |" in lines
    )
    assert lines[0] == "before"
    assert lines[-1] == "after"


def test_a_setting_without_a_whole_seed_is_left_out(home: Path):
    (home / "online" / "memo").rename(home / "elsewhere")
    (text,) = write([OnlineResults()], home, home).values()
    assert "| nothing |" not in text
    assert "| it helps |" in text
    (home / "online" / "grouped").rename(home / "elsewhere too")
    with pytest.raises(UserError, match="no finished runs there"):
        write([OnlineResults()], home, home)


def test_every_command_is_of_one_seed_and_has_a_folder_of_its_own():
    commands = OnlineResults().commands
    assert len({folder for folder, _ in commands}) == len(commands)
    for folder, command in commands:
        assert command.endswith(f"--seed {folder[-1]}")
    names = {setting.name for setting in online_results.SETTINGS}
    assert {claim.setting for claim in online_results.CLAIMS} <= names
