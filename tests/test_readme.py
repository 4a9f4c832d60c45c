"""The commands and links of README.md and of the documentation lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [
    *(ROOT / "docs").rglob("*.md"),
    *ROOT.glob("*.md"),
    *(ROOT / "plugins").glob("*/README.md"),
    ROOT / "audit/README.md",
]


def test_every_command_of_a_page_is_known():
    from click.testing import CliRunner

    from ttt_bench.cli import cli

    texts = [page.read_text("utf-8") for page in PAGES]
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", "\n".join(texts), re.MULTILINE | re.DOTALL)
    in_a_block = re.compile(r"(?:^ *|&& )ttt-bench ([a-z][a-z-]*)", re.MULTILINE)
    commands = {name for block in blocks for name in in_a_block.findall(block)}
    commands |= {name for text in texts for name in re.findall(r"`ttt-bench ([a-z][a-z-]*)", text)}
    assert {"run", "list", "show", "compare", "apm", "tpt", "ttt-mae"} <= commands
    for name in commands:
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    files = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    missing = [link for link in files if not (page.parent / link).exists()]
    # The pages of the Python reference are made when the site is built.
    assert [link for link in missing if "reference/" not in link] == []


def test_the_first_command_of_the_readme_is_the_one_of_its_table():
    from tools.make_results import SETS

    (first,) = [result for result in SETS if result.file == "README.md"]
    lines = README.read_text("utf-8").splitlines()
    (line,) = [line for line in lines if re.match(r"pip install .* && ttt-bench run ", line)]
    assert line.endswith(f"&& {first.command}")
