"""A dataset with downloads, written with the public names alone."""

import ast
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.http_server import serve
from ttt_bench import registered

BIRDS = """
from ttt_bench import ClassSet, Entry, OnDisk, UserError, find_folder
from birds_facts import SPEC


class Birds(OnDisk):
    spec = SPEC
    classes = ClassSet(("robin", "wren"), prompt="a photo of a {}, a bird.")

    def __init__(self, argument, data_root):
        self.name = SPEC.name
        self.root = find_folder(SPEC.name, SPEC.folders, data_root)
        files = sorted((self.root / "photos").glob("*.png"))
        if not files:
            raise UserError(f"{self.root}: no photos; download them again")
        self.entries = [
            Entry(file.name, None, self.classes.names.index(file.name.split("-")[0]))
            for file in files
        ]

    def path(self, index):
        return self.root / "photos" / self.entries[index].key

    def expected_counts(self):
        return {"all classes": 4}

    def actual_counts(self):
        return {"all classes": len(self.entries)}
"""
FACTS = """
from ttt_bench import Archive, DatasetSpec, HowToGet

SPEC = DatasetSpec(
    name="birds", summary="four birds", code="birds:Birds", source="my lab", licence="CC0",
    folders=("birds",),
    how_to_get=HowToGet(
        archives=(Archive(url="{url}", hash="sha256:{hash}", size=1000, folder="photos"),),
        gigabytes=0.001,
    ),
)
"""


@pytest.fixture
def packed() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("robin-1", "robin-2", "wren-1", "wren-2"):
            image = io.BytesIO()
            Image.new("RGB", (32, 32), (90, len(name), 0)).save(image, "PNG")
            member = tarfile.TarInfo(f"{name}.png")
            member.size = len(image.getvalue())
            archive.addfile(member, io.BytesIO(image.getvalue()))
    return buffer.getvalue()


def test_a_dataset_of_a_plugin_is_downloaded_verified_and_run(
    ttt, packed: bytes, tmp_path: Path, monkeypatch
):
    modules = tmp_path / "modules"
    modules.mkdir()
    monkeypatch.syspath_prepend(modules)
    (modules / "birds.py").write_text(BIRDS)
    with serve() as site:
        site.files["/birds.tar.gz"] = packed
        facts = FACTS.format(
            url=f"{site.url}/birds.tar.gz", hash=hashlib.sha256(packed).hexdigest()
        )
        (modules / "birds_facts.py").write_text(facts)
        import birds_facts  # pyright: ignore[reportMissingImports]

        with registered(datasets=[birds_facts.SPEC]):
            code, out, err = ttt("data", "download", "birds", "--data-root", "data")
            assert code == 0, err
            assert "birds: complete" in out
            code, out, err = ttt("data", "verify", "birds", "--data-root", "data")
            assert code == 0, err
            assert "1 counts compared with the published ones, 4 images decoded: 0" in out
            words = ("-m", "clip-zero-shot", "-d", "birds", "-b", "tiny-clip", "--device", "cpu")
            code, _, err = ttt("run", *words, "--data-root", "data")
            assert code == 0, err
    for name in ("birds", "birds_facts"):
        sys.modules.pop(name, None)


def test_it_imports_public_names_alone():
    imports = [
        node
        for source in (BIRDS, FACTS)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("ttt_bench")
    ]
    assert {node.module for node in imports} == {"ttt_bench"}
