"""What is typed behind `--set` and written into a run's file: values, or one line that refuses."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Field

from tests.fuzz.values import json_values, outcome
from ttt_bench import AdapterConfig
from ttt_bench.api.errors import UserError
from ttt_bench.api.specs import AdapterSpec
from ttt_bench.cli import cli
from ttt_bench.cli.run import command
from ttt_bench.runner.settings import resolve_config, split_settings
from ttt_bench.runner.values import read_settings

# Where YAML's own types and its reader fail, each in a way of its own.
YAML = [
    "2001-99-99", "!!int ''", "!!float x", "!!timestamp x", "!!binary a", "!!bool x", "&a [*a]",
    "*a", "[" * 3000, "{" * 3000, "!!python/object/apply:os.system [id]", "!!python/name:os.system",
    "? [a]: b", "? {a: b}\n: c", "{a: &x [*x]}", "\x00", "\x1b", "\ufeff", "%YAML 9.9\n--- a",
    "--- a\n--- b", "<<: 3", "<<: [3]", "!!set {a}", "!!omap [a: 1]", "!!pairs [a]", "0b", "1:_",
    "0o9", ".inf", ".nan", "1e999", "'", '"\\ud800"', '"\\x"', "@", "`", "\t", "a: b: c", "- - -",
]  # fmt: skip
words = st.text(max_size=30) | st.sampled_from(YAML) | json_values.map(json.dumps)


@given(words)
@example("")
@example("=")
@example("=1")
@example(" = ")
def test_any_setting(text: str):
    for pair in (text, f"steps={text}"):
        settings = outcome(lambda: read_settings([pair]))  # noqa: B023
        if isinstance(settings, UserError):
            assert str(settings).startswith("--set ")
        else:
            assert len(settings) == 1


printable = st.characters(
    exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"], exclude_characters="\ufeff"
)
plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(printable, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(printable), inner),
    max_leaves=6,
)


@given(plain_values)
@example("a photo of a \U0001f600")
def test_a_value_in_a_file_is_that_value(tmp_path: Path, value: Any):
    """From `set:` of a run's file through the option to the configuration."""
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"set": {"apm": {"x": value}}}, allow_unicode=True), "utf-8")
    words = ["--config", str(file), "--method", "apm", "--dataset", "cifar10-c-mini"]
    context = command.make_context("run", words, parent=click.Context(cli))
    assert read_settings(context.params["set_"]) == {"apm.x": value}


OPTIONS = [p.opts[0].lstrip("-") for p in command.params]
entries = st.dictionaries(
    st.sampled_from(OPTIONS) | st.text(max_size=6),
    json_values | st.sampled_from(["apm", 3, True, {"steps": 1}, {"apm": {"steps": 1}}, ["a"]]),
    max_size=3,
)


@given(
    entries.map(lambda found: yaml.safe_dump(found))
    | st.sampled_from(YAML)
    | st.tuples(st.sampled_from(OPTIONS), words).map(lambda pair: f"{pair[0]}: {pair[1]}")
    | st.text(max_size=40)
    | st.binary(max_size=20)
)
@example("limit: [1]")
@example("seed: {}")
@example("output: [1]")
@example("feature-cache: 7")
@example("set: {steps: 2001-01-01}")
@example("set: {1: {2: 3}}")
@example("method: [{a: b}, null]")
@example("null: null")
def test_any_file_of_a_run(tmp_path: Path, content: str | bytes):
    """Read as `run --config FILE` reads it, up to where the run would begin."""
    file = tmp_path / "run.yaml"
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    file.write_bytes(raw)
    words = ["--config", str(file), "--method", "apm", "--dataset", "cifar10-c-mini"]
    try:
        command.make_context("run", words, parent=click.Context(cli))
    except (UserError, click.ClickException):
        return


class Settings(AdapterConfig):
    """A configuration with a field of every usual kind."""

    steps: int = Field(1, ge=1)
    lr: float = 0.1
    pooling: str = "mean"
    widths: tuple[int, ...] = (1, 2)
    checkpoint: str | None = None


SPECS = {
    name: AdapterSpec(name=name, summary="", code=f"{__name__}:Method") for name in ("a", "b-c")
}


class Method:
    Config = Settings


fields = st.sampled_from([*Settings.model_fields, "a.steps", "b-c.lr", "x.steps", "step", ""])


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdapterSpec, "load", lambda self: Method)


@given(st.dictionaries(fields | st.text(max_size=8), json_values, max_size=3))
def test_any_configuration(settings: dict[str, Any]):
    """Shared out among the methods and checked: plain JSON that says the same again, or refused."""

    def resolve() -> dict[str, dict[str, Any]]:
        shares = split_settings(settings, SPECS)
        return {name: resolve_config(SPECS[name], "tiny-clip", "", shares[name]) for name in SPECS}

    found = outcome(resolve)
    if isinstance(found, UserError):
        return
    for name, config in found.items():
        assert json.loads(json.dumps(config)) == config
        assert resolve_config(SPECS[name], "tiny-clip", "", config) == config
        assert set(config) == set(Settings.model_fields)
