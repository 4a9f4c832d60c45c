"""A run folder that somebody sends or has edited: compared and shown, or refused in one line."""

import copy
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.values import strange_values
from tests.run_folders import ABOUT, COST, METHOD, PROTOCOL, write_run
from ttt_bench.cli import main


def run(*words: str) -> int:
    """Run a command and return its exit code; a failure is exit code 2 and one line."""
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
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", method={**METHOD, "method": "tpt"})
    for words in COMMANDS:
        assert run(*words, str(tmp_path / "a")) == 0
    assert run("compare", str(tmp_path)) == 0


@settings(max_examples=60)
@given(st.sampled_from(["protocol", "method", "about", "cost"]), st.data(), strange_values)
@example("method", None, "\ud800")
def test_any_value_anywhere(tmp_path: Path, part: str, data: Any, value: Any):
    """Signed anew, so that nothing but the values themselves can give it away."""
    parts = copy.deepcopy({"protocol": PROTOCOL, "method": METHOD, "about": ABOUT, "cost": COST})
    fields: Any = parts[part]
    if data is None:
        fields["backbone"] = value
    else:
        key = data.draw(st.sampled_from(sorted(fields)))
        if isinstance(fields[key], dict) and fields[key] and data.draw(st.booleans()):
            fields = fields[key]
            key = data.draw(st.sampled_from(sorted(fields)))
        if data.draw(st.booleans()):
            fields[key] = value
        else:
            del fields[key]
    try:
        write_run(tmp_path / "a", **parts)
    except (UnicodeEncodeError, TypeError):
        return
    for words in COMMANDS:
        run(*words, str(tmp_path / "a"))
