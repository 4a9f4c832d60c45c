"""`ttt-bench cache`: what is kept, by dataset, backbone and view set, and clearing it."""

import json
from pathlib import Path

import pytest

from ttt_bench.cache.store import cache_folder

RUN = ("-d", "cifar10-c-mini", "--device", "cpu", "--limit", 6)


@pytest.fixture
def filled(run_json) -> None:
    run_json(*RUN, "-m", "clip-zero-shot", "-m", "tpt", "--set", "views=10")
    run_json(*RUN, "-m", "clip-zero-shot", "--precision", "bf16", "-o", "bf16")


def test_an_empty_cache_is_shown(ttt):
    code, out, _ = ttt("cache")
    assert code == 0
    assert "0.0 MB of at most" in out


def test_it_shows_dataset_backbone_and_view_set(ttt, filled):
    code, out, _ = ttt("cache")
    assert code == 0
    for text in ("cifar10-c-mini", "tiny-clip bf16", "CropViews(count=10", "image features"):
        assert text in out
    code, out, _ = ttt("cache", "--format", "json")
    shown = json.loads(out)
    assert shown["folder"] == str(cache_folder())
    assert {file["content"].partition("(")[0]: file["entries"] for file in shown["files"]} == {
        # Six samples, and the cost of one.
        "CropViews": 7,
        "image features": 7,
    }
    assert shown["limit_bytes"] > sum(file["bytes"] for file in shown["files"]) > 0


def test_it_clears_what_is_named(ttt, filled):
    assert len(list(cache_folder().glob("*.sqlite"))) == 3
    assert ttt("cache", "--clear", "--backbone", "no-such")[1].startswith("0 files")
    assert ttt("cache", "--clear", "--dataset", "cifar10-c-mini", "--backbone", "tiny-clip")[0] == 0
    assert list(cache_folder().glob("*.sqlite")) == []


def test_a_file_that_is_none_of_the_caches_is_shown_and_cleared(ttt, filled):
    (cache_folder() / "odd.sqlite").write_bytes(b"no database")
    code, out, _ = ttt("cache")
    assert code == 0
    assert "unreadable" in out
    assert ttt("cache", "--clear")[0] == 0
    assert list(cache_folder().glob("*.sqlite")) == []


def test_the_dry_run_says_how_much_it_will_grow(ttt, tmp_path: Path):
    code, out, _ = ttt(
        "run", *RUN, "-m", "clip-zero-shot", "-m", "tpt", "--dry-run", "--format", "json"
    )
    assert code == 0
    plain, views = (plan["cache_mb"] for plan in json.loads(out)["plans"])
    assert plain == pytest.approx(6 * 128 * 4 / 1e6)
    assert views == pytest.approx(64 * plain)
    assert not cache_folder().exists()
