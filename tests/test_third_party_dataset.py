"""A dataset with downloads, written with the public names alone."""

import hashlib
import io
import re
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.http_server import serve
from ttt_bench import registered

THIRD_PARTY = Path(__file__).parent / "third_party"


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
    shutil.copy(THIRD_PARTY / "birds.py", modules)
    with serve() as site:
        site.files["/birds.tar.gz"] = packed
        facts = (THIRD_PARTY / "birds_facts.py").read_text()
        facts = facts.replace("https://lab.example", site.url)
        facts = re.sub("[0-9a-f]{64}", hashlib.sha256(packed).hexdigest(), facts)
        (modules / "birds_facts.py").write_text(facts)
        import birds_facts  # pyright: ignore[reportMissingImports]

        with registered(plugins=[birds_facts]):
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
