"""A run folder that somebody sends or has edited: compared and shown, or refused in one line."""

import copy
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.values import strange_values
from ttt_bench.api.records import Records
from ttt_bench.cli import main
from ttt_bench.runs.card import Card, samples_digest
from ttt_bench.runs.folder import RunFolder

N = 6
IDS = [f"{number:016x}" for number in range(N)]
PROTOCOL: dict[str, Any] = {
    "dataset": "imagefolder:nowhere", "revision": "0", "corruption_source": None,
    "samples": samples_digest(IDS), "n": N, "class_names": ["cat", "dog", "eel"], "limit": None,
    "seed": 0, "scoring_rule": "top-1",
}  # fmt: skip
METHOD: dict[str, Any] = {
    "method": "apm", "plugin": {"distribution": "d", "version": "1"}, "config": {"steps": 2},
    "backbone": "tiny-clip", "weights": "0", "dtype": "float32", "transform": {"size": 32},
    "prompt": "a photo of a {}.", "templates": ["{}"], "labelled_data": None, "kind": "sample",
    "known_failures": {},
}  # fmt: skip
ABOUT: dict[str, Any] = {
    "chunks": 1, "samples": N, "started": "2027-01-01T00:00:00+00:00",
    "worker": {"method": "apm", "config": {"steps": 2}, "dataset": "imagefolder:nowhere",
               "backbone": "tiny-clip", "data_root": None, "seed": 0},
    "environment": {"python": "3.11", "packages": {"torch": "2"}},
}  # fmt: skip
FLOPS = {"forward": 1.0, "backward": 0.0}
COST: dict[str, Any] = {
    "probed_samples": 2, "setup_flops": FLOPS, "peak_memory_bytes": 10,
    "flops_per_sample": {"frozen": FLOPS, "adapted": FLOPS}, "backbone_parameters": 5,
    "parameters_updated": 3,
}  # fmt: skip


def write_run(path: Path, protocol: Any, method: Any, about: Any, cost: Any) -> None:
    folder = RunFolder(path)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, 3)).astype(np.float32)
    steps = np.stack([logits.argmax(1)] * 2, axis=1)
    records = Records(
        IDS, ["fog"] * 3 + ["snow"] * 3, rng.integers(0, 3, N), logits.argmax(1),
        rng.random(N).astype(np.float32), logits.argmin(1), steps, logits, 1.0,
    )  # fmt: skip
    (path / "manifest.json").unlink(missing_ok=True)
    folder.begin(Card(protocol, method), about)
    folder.write_chunk(0, records)
    folder.write_json("cost.json", cost)


def run(*words: str) -> int:
    """Exit code of a command; 2 is said in one line, and nothing but an exit comes out of it."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(SystemExit) as left, redirect_stdout(out), redirect_stderr(err):
        main(words)
    code = int(left.value.code or 0)
    if code:
        assert code == 2
        assert err.getvalue().splitlines()[-1].startswith("ttt-bench: ")
    return code


COMMANDS = [["compare", "--format", "json"], ["compare"], ["show"]]


def test_the_sound_run_is_compared_and_shown(tmp_path: Path):
    write_run(tmp_path / "a", PROTOCOL, METHOD, ABOUT, COST)
    write_run(tmp_path / "b", PROTOCOL, {**METHOD, "method": "tpt"}, ABOUT, COST)
    for words in COMMANDS:
        assert run(*words, str(tmp_path / "a")) == 0
    assert run("compare", str(tmp_path)) == 0


@settings(max_examples=60)
@given(st.sampled_from(["protocol", "method", "about", "cost"]), st.data(), strange_values)
@example("method", None, "\ud800")
def test_any_value_anywhere(tmp_path: Path, part: str, data: Any, value: Any):
    """Signed anew, so that nothing but the values themselves can give it away."""
    parts = copy.deepcopy({"protocol": PROTOCOL, "method": METHOD, "about": ABOUT, "cost": COST})
    place: Any = parts[part]
    if data is None:
        place["backbone"] = value
    else:
        key = data.draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and data.draw(st.booleans()):
            place = place[key]
            key = data.draw(st.sampled_from(sorted(place)))
        if data.draw(st.booleans()):
            place[key] = value
        else:
            del place[key]
    try:
        write_run(tmp_path / "a", **parts)
    except (UnicodeEncodeError, TypeError):
        return
    for words in COMMANDS:
        run(*words, str(tmp_path / "a"))
