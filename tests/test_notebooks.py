"""The notebooks of examples/ run, show what is stored in them, and are pages of the site."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tools.site_notebooks import EXAMPLES, outputs, page

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
LARGEST = 200_000


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def kinds(notebook: dict[str, Any]) -> list[list[str]]:
    """Return the types of the outputs of each cell."""
    return [[kind for kind, _ in outputs(cell)] for cell in code_cells(notebook)]


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["first_table", "own_method", "somebodys_results"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored(path: Path, tmp_path: Path):
    command = [sys.executable, ROOT / "tools" / "run_notebooks.py", path.stem, "-o", tmp_path]
    # The kernel's files go into the test's folder.
    environment = {**os.environ, "JUPYTER_DATA_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    now, stored = read(tmp_path / path.name), read(path)
    assert kinds(now) == kinds(stored)
    assert [cell["source"] for cell in now["cells"]] == [c["source"] for c in stored["cells"]]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_small_and_names_no_folder_of_a_machine(path: Path):
    text = path.read_text("utf-8")
    assert len(text) < LARGEST
    for folder in (ROOT, Path.home(), Path(tempfile.gettempdir()), "site-packages"):
        assert f"{folder}/" not in text
    assert all(cell["execution_count"] for cell in code_cells(read(path)))
    shown = [output for cell in code_cells(read(path)) for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in shown}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_of_the_site_has_every_cell_and_picture(path: Path):
    notebook = read(path)
    text, pictures = page(notebook, "notebook")
    assert text.startswith("# ")
    for cell in notebook["cells"]:
        assert "".join(cell["source"]) in text
    assert re.findall(r"!\[[^]]+\]\(([^)]+)\)", text) == list(pictures)
    assert len(pictures) == sum(kind == "image/png" for cell in kinds(notebook) for kind in cell)
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
    assert "<style" not in text
