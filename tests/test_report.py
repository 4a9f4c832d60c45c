"""The report is one page that opens anywhere, and its figures are also files for a paper."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttt_bench.compare.pareto import front
from ttt_bench.compare.read import read_runs
from ttt_bench.report.html import command, page

METHODS = ("--method", "clip-zero-shot", "--method", "clip-ensemble", "--method", "apm")


@pytest.fixture
def report(ttt, run_json) -> str:
    run_json(*METHODS, "--limit", 64, "--set", "steps=3")
    code, out, err = ttt("report", "-o", "report.html")
    assert code == 0, err
    assert "report.html" in out
    return Path("report.html").read_text("utf-8")


def test_the_page_holds_everything_and_asks_for_nothing(report: str):
    assert len(report.encode()) < 5_000_000
    for text in ("clip-zero-shot", "clip-ensemble", "apm", "oracle", "p (Holm)", "gauss",
                 "ttt-bench run --method apm", "scoring_rule", "prefers-color-scheme"):  # fmt: skip
        assert text in report, text
    assert report.count("<svg") == 5
    assert "has the highest top-1" in report or "have the highest top-1" in report
    assert "It does not say that rows which cannot be told apart on these 64 samples" in report
    # Marks show their numbers under the pointer.
    assert report.count("<title>apm: top-1 ") == 3
    assert "<title>apm less clip-zero-shot: " in report
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", report)
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "@import" not in report
    # SVG names its formats by addresses that nobody opens; nothing else may look like one.
    bare = re.sub(r'xmlns(:\w+)?="[^"]+"|<metadata>.*?</metadata>', "", report, flags=re.S)
    assert not re.findall(r"https?://(?!www\.w3\.org)[^\s\"'<]+", bare)


def test_disagreements_are_what_the_records_say(report: str):
    data = json.loads(
        re.search(r'"application/json">(.*?)</script>', report, re.S).group(1)  # pyright: ignore
    )
    runs = read_runs([Path("ttt-bench-runs")])
    right = np.stack([run.records.correct for run in runs])
    differing = right.any(0) & ~right.all(0)
    assert len(data) == min(120, differing.sum())
    for item in data:
        said = [name == item["label"] for name in item["predictions"].values()]
        assert any(said)
        assert not all(said)
        assert item["image"].startswith("data:image/png;base64,")


def test_the_commands_of_the_page_make_the_same_runs(ttt, run_json):
    run_json(*METHODS, "--limit", 32, "--set", "apm.steps=2", "--seed", 1)
    for run in read_runs([Path("ttt-bench-runs")]):
        words = shlex.split(command(run))
        code, out, err = ttt(*words[1:], "--format", "json")
        assert code == 0, err
        # The same protocol card is the same folder: the run was found, not made again.
        assert json.loads(out)["runs"][0]["path"] == str(run.path)


def test_what_a_class_is_called_cannot_become_markup(ttt, run_json, tmp_path: Path):
    """Names of folders end up in the page as text."""
    evil = "x<img src=q onerror=alert(1)>"
    for name, shade in ((evil, 0), ("plain", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number).integers(shade, shade + 50, (32, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / "photos" / name / f"{number}.png"
            )
    methods = ("--method", "clip-zero-shot", "--method", "apm", "--set", "apm.steps=1")
    code, _, err = ttt("run", *methods, "--dataset", "imagefolder:photos", "-b", "tiny-clip")
    assert code == 0, err
    run_json(*METHODS, "--limit", 32, "--set", "apm.steps=1")
    text = page(read_runs([Path("ttt-bench-runs")]), "apm-paper")
    # Both datasets, each with its own samples, and the published tables.
    mini, photos = re.findall("<h3>(.*?)</h3>", text)
    assert mini == "cifar10-c-mini"
    assert re.fullmatch("imagefolder:[0-9a-f]{12}", photos)
    assert "published (apm-paper)" in text
    assert "<img src=q" not in text
    assert "x&lt;img src=q" in text or "x\\u003cimg src=q" in text


@pytest.mark.parametrize(
    ("style", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_plot_writes_each_figure(ttt, run_json, style: str, magic: bytes):
    run_json(*METHODS[2:], "--limit", 32, "--set", "steps=2")
    code, out, err = ttt("plot", "--format", style, "-o", "drawn")
    assert code == 0, err
    files = [Path(line) for line in out.split()]
    assert {f.stem for f in files} == {
        f"cifar10-c-mini-{name}" for name in ("pareto", "corruptions", "steps", "calibration")
    }
    assert all(file.read_bytes().startswith(magic) for file in files)


def test_plot_says_when_there_is_nothing_to_draw(ttt, run_json):
    run_json("--method", "clip-zero-shot", "--limit", 16)
    code, out, err = ttt("plot", "--figure", "steps")
    assert (code, out) == (2, "")
    assert "nothing to draw for steps" in err
    code, _, err = ttt("report", "-o", "missing/report.html")
    assert code == 2
    assert "cannot write missing/report.html" in err


def test_pareto_front_is_what_no_other_beats():
    def row(cost: float, top1: float) -> dict:
        return {"top1": top1, "cost": {"ms_per_sample": cost}}

    rows = [row(5, 50), row(1, 30), row(3, 50), row(2, 20), row(9, 80), row(3, 50)]
    assert front(rows, "ms_per_sample") == [1, 2, 5, 4]
    rng = np.random.default_rng(0)
    many = [row(float(a), float(b)) for a, b in rng.random((60, 2))]
    beaten = [
        any(
            o["top1"] >= r["top1"]
            and o["cost"]["ms_per_sample"] <= r["cost"]["ms_per_sample"]
            and o is not r
            for o in many
        )
        for r in many
    ]
    assert set(front(many, "ms_per_sample")) == {i for i, b in enumerate(beaten) if not b}
