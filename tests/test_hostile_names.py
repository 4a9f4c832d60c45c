"""Classes, groups, files and cards can be called anything: nothing of it acts where it is shown."""

import csv
import io
import json
import re
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_bad_input import one_line
from ttt_bench.api.text import plain
from ttt_bench.report.grid import Grid
from ttt_bench.report.render import latex, markdown
from ttt_bench.report.tidy import separated
from ttt_bench.runs.card import Card
from ttt_bench.runs.folder import RunFolder

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload='alert(1)'>",
    "{{ 7 * 7 }}{% raw %}",
    "[red]alarm[/red]",
    "[/]",
    "[link=https://example.org]x[/link]",
    ":warning:",
    "\x1b]0;owned\x07\x1b[2J\x1b[1A",
    "two\nlines\r\n",
    "\u202egnp.exe\u2066",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "+1+cmd|' /C calc'!A0",
    "\t=1+1",
    "\\input{/etc/passwd}%&#_^~$x$",
    "$\\frac{1}{$",
    "a | b ` c",
    "[x](javascript:alert(1))",
    "![x](https://example.org/pixel.png)",
    "../../../etc/passwd",
    "trailing\\",
    "名前 é",
]
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def acts_on_a_terminal(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in HIDDEN and c != "\n"]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Two real runs, made once, on images whose classes have hostile names."""
    from ttt_bench.engine.loading import load_backbone  # noqa: F401  (imported before the clock)
    from ttt_bench.runner.config import RunConfig
    from ttt_bench.runner.loading import Loaded
    from ttt_bench.runner.opening import open_run
    from ttt_bench.runner.run import execute

    home = tmp_path_factory.mktemp("origin")
    lines = []
    for number, name in enumerate(HOSTILE):
        folder = home / "photos" / f"c{number:02d}"
        folder.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "<script>alert(1)<script>.png")
        lines.append(f"c{number:02d} " + " ".join(name.split()))
    (home / "photos" / "classnames.txt").write_text("\n".join(lines), "utf-8")
    runs, loaded = [], Loaded()
    for method in ("clip-zero-shot", "clip-ensemble"):
        config = RunConfig(
            method=method, dataset=f"imagefolder:{home / 'photos'}", backbone="tiny-clip",
            device="cpu", output=home / "runs", feature_cache=False,
        )  # fmt: skip
        runs.append(Path(execute(open_run(config, loaded))["path"]))
    return home, runs


@pytest.fixture
def hostile_runs(origin: tuple[Path, list[Path]], tmp_path: Path) -> Path:
    """The same runs as somebody could send them: groups, methods and backbones called anything."""
    for number, source in enumerate(origin[1]):
        old, new = RunFolder(source), RunFolder(tmp_path / "sent" / str(number))
        card, manifest = old.card(), old.manifest()
        method = {**card.method, "method": "".join(HOSTILE), "labelled_data": HOSTILE[number] + "x"}
        method["backbone"] = "$" + HOSTILE[number]
        protocol = {**card.protocol, "dataset": "imagefolder:" + "".join(HOSTILE)}
        kept = ("card", "digests", "fingerprint", "key")
        sent = Card(protocol, method)
        new.begin(sent, {k: v for k, v in manifest.items() if k not in kept})
        for chunk in range(card.method["chunks"]):
            records = old.read_chunk(chunk, card.key)
            groups = (HOSTILE * len(records))[: len(records)]
            new.write_chunk(chunk, replace(records, group=groups), sent.key)
        new.write_json("cost.json", old.read_json("cost.json", card.key), sent.key)
    return tmp_path / "sent"


@pytest.mark.parametrize("style", ["text", "markdown", "latex", "csv", "html", "json"])
def test_compare_prints_every_format(ttt, hostile_runs: Path, style: str):
    code, out, err = ttt("compare", hostile_runs, "--format", style)
    assert code == 0, err
    if style == "json":
        assert json.loads(out)["rows"][0]["groups"].keys() == set(HOSTILE)
        return
    assert acts_on_a_terminal(out) == []
    assert "名前 é" in out
    if style in ("markdown", "html"):
        assert not re.search(r"<(script|img|svg)", out)
    if style == "text":
        assert "[red]alarm[/red]" in out
        assert ":warning:" in out


def test_show_and_errors_are_plain(ttt, hostile_runs: Path):
    code, out, err = ttt("show", hostile_runs / "0")
    assert code == 0, err
    assert acts_on_a_terminal(out) == []
    (hostile_runs / "\x1b[2J").mkdir()
    (hostile_runs / "\x1b[2J" / "manifest.json").write_text("{}")
    code, out, err = result = ttt("compare", hostile_runs)
    one_line(result, "manifest.json")
    assert acts_on_a_terminal(err) == []
    assert err.count("\n") == 1


class Page(HTMLParser):
    """Counts the elements of a page and keeps what its scripts hold."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.mark.filterwarnings("ignore:Glyph")
def test_the_report_shows_names_as_text(ttt, hostile_runs: Path, origin):
    # The pictures are the real dataset's, whose classes the sent card does not change.
    code, _, err = ttt("report", hostile_runs, *origin[1], "-o", "report.html")
    assert code == 0, err
    page = Page()
    page.feed(Path("report.html").read_text("utf-8"))
    assert not {"img", "iframe", "object", "embed", "link", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for _, value in page.attributes if value and "javascript:" in value[:20]]
    # The page's own ones: samples as JSON, and the code that shows them.
    assert all("alert(1)" not in script for script in page.scripts if '"use strict"' in script)
    assert sum('"use strict"' in script for script in page.scripts) == 1
    own = [script for script in page.scripts if script.strip().startswith(("[", "{"))]
    assert len(own) + 1 == len(page.scripts)
    for script in own:
        json.loads(script)
    assert "49" not in re.findall(r"<caption>([^<]*)", Path("report.html").read_text("utf-8"))
    assert "innerHTML" not in Path("report.html").read_text("utf-8")


@pytest.mark.parametrize("style", ["svg", "pdf"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_figures_are_drawn_and_stay_in_their_folder(ttt, hostile_runs: Path, style: str):
    code, _, err = ttt("plot", hostile_runs, "--format", style, "-o", "drawn")
    assert code == 0, err
    files = [path for path in Path().rglob("*") if path.is_file() and path.suffix == f".{style}"]
    assert files
    assert all(path.parent == Path("drawn") and path.name.isprintable() for path in files)
    if style == "svg":
        assert not any(re.search(r"<(script|img)", path.read_text("utf-8")) for path in files)


@pytest.mark.parametrize("name", ["..", "../up/photos", "a/../../photos", "./photos/.", "x\ny"])
def test_run_folders_stay_in_their_place(ttt, tmp_path: Path, monkeypatch, name: str):
    """What is typed behind the colon is a path of images; it never is one of records."""
    home = tmp_path / "x" / "home"
    (home / "a").mkdir(parents=True)
    monkeypatch.chdir(home)
    (Path(name) / "cat").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32)).save(Path(name) / "cat" / "1.png")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    words = ("-d", f"imagefolder:{name}", "-b", "tiny-clip", "-o", "r", "--device", "cpu")
    code, _, err = ttt("run", "-m", "clip-zero-shot", *words)
    assert code == 0, err
    added = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert added
    assert all((home / "r") in path.resolve().parents for path in added)


GRID = Grid("\\title$ | [x](y)", ["=head", "b"], [[name, "1.0"] for name in HOSTILE])


def test_latex_runs_nothing():
    lines = latex(plain_grid()).split("\\midrule\n")[1].split("\n\\bottomrule")[0].split("\n")
    assert len(lines) == len(HOSTILE)
    for line in lines:
        assert line.endswith(r"& 1.0 \\")
        known = r"\\textbackslash\{\}|\\text\w+\{\}|\\[&%$#_{}]|\\textasciicircum\{\}|\{\}"
        rest = re.sub(known, "", line.removesuffix(r" & 1.0 \\"))
        assert not set(rest) & set("\\{}$&#^_~%"), line
        # These would be taken for an argument of the line end before.
        assert line[0] not in "[*"


def test_markdown_keeps_its_cells():
    text = markdown(plain_grid())
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == len(HOSTILE) + 2
    for row in rows:
        unescaped = re.sub(r"\\.", "", row)
        assert unescaped.count("|") == 3, row
        assert "](" not in unescaped
        assert "<" not in unescaped
        assert "`" not in unescaped


def test_a_spreadsheet_computes_nothing():
    lines: list[dict] = [{"name": name, "=head": -1.5} for name in HOSTILE]
    lines += [{"name": "-1.5", "=head": "+0.3"}, {"name": "-", "=head": "1,000"}]
    cells = [cell for line in csv.reader(io.StringIO(separated(lines))) for cell in line]
    formulas = [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    assert set(formulas) == {"-1.5", "+0.3", "-"}
    assert "'=cmd|' /C calc'!A0" in cells


def plain_grid() -> Grid:
    """The grid as `show` hands it to a format."""
    return Grid(
        plain(GRID.title), GRID.header, [[plain(cell) for cell in line] for line in GRID.rows]
    )


def test_names_that_are_no_text(ttt, tmp_path: Path):
    """File systems take any bytes; prompts and cards do not."""
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(folder / "x.png")
    (folder / "x.png").rename(folder / "cat" / b"caf\xe9.png".decode("utf-8", "surrogateescape"))
    words = ("run", "-m", "clip-zero-shot", "-d", "imagefolder:photos", "-b", "tiny-clip")
    assert ttt(*words, "--device", "cpu", "-o", "r")[0] == 0
    (folder / "cat").rename(folder / b"caf\xe9".decode("utf-8", "surrogateescape"))
    one_line(ttt(*words, "--device", "cpu", "-o", "q"), "photos", "not UTF-8")
    (folder / b"caf\xe9".decode("utf-8", "surrogateescape")).rename(folder / "cat")
    (folder / "classnames.txt").write_bytes(b"cat caf\xe9")
    one_line(ttt(*words, "--device", "cpu", "-o", "q"), "classnames.txt", "UTF-8")
