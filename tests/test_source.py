"""A class of a notebook counts by its source and by everything of the notebook that it uses."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.cells import run_cell
from ttt_bench.api.errors import UserError
from ttt_bench.api.specs import AdapterSpec
from ttt_bench.runs.code import code_files
from ttt_bench.runs.source import source_digests

METHOD = '''
from ttt_bench import Adapter, AdapterConfig, Prediction

class Base(Adapter):
    def sharpen(self, logits):
        return scale(logits) * self.config.factor

class Config(AdapterConfig):
    factor: float = 2.0

class Mine(Base):
    """Mine."""
    Config = Config

    def adapt(self, samples, rngs):
        features = self.task.encode_image(samples)
        return [Prediction(one) for one in self.sharpen(self.task.logits(features))]
'''
HELPER = "def scale(logits):\n    return SCALE * logits\n"


def digests(method: str = METHOD, helper: str = HELPER, **variables: Any) -> dict[str, str]:
    """Return the digests of a method whose helper is in another cell."""
    variables = {"SCALE": 2.0, **variables}
    scale = vars(run_cell(helper, **variables))["scale"]
    return source_digests(run_cell(method, scale=scale).Mine)


def test_a_class_counts_with_what_it_uses():
    assert sorted(digests()) == ["Base", "Config", "Mine", "SCALE", "scale"]


def test_comments_docstrings_and_formatting_do_not_count():
    edited = METHOD.replace('"""Mine."""', '"""Somebody\'s."""').replace("):\n", "):  # so\n\n")
    assert edited != METHOD
    assert digests(edited) == digests()


@pytest.mark.parametrize(
    ("changed", "arguments"),
    [
        ("Mine", {"method": METHOD.replace("in self.sharpen(", "in 2 * self.sharpen(")}),
        ("Base", {"method": METHOD.replace("* self.config.factor", "+ self.config.factor")}),
        ("Config", {"method": METHOD.replace("= 2.0", "= 3.0")}),
        ("scale", {"helper": HELPER.replace("*", "+")}),
        ("SCALE", {"SCALE": 4.0}),
    ],
)
def test_an_edit_changes_the_digest_of_what_was_edited(changed: str, arguments: dict[str, Any]):
    before, now = digests(), digests(**arguments)
    assert [name for name in before if before[name] != now[name]] == [changed]


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (np.zeros(3), np.zeros(4)),
        (torch.zeros(3), torch.ones(3)),
        (torch.tensor(1.0), torch.tensor(2.0)),
        ({"a": [1, (2, 3)]}, {"a": [1, (2, 4)]}),
        ({1, 2}, {1, 3}),
        (SimpleNamespace(a=1), SimpleNamespace(a=2)),
        (torch.float16, torch.float32),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_variable_counts_by_its_value(value: Any, other: Any):
    assert digests(SCALE=value) == digests(SCALE=value)
    assert digests(SCALE=value)["SCALE"] != digests(SCALE=other)["SCALE"]


def test_a_variable_without_a_value_for_the_card_is_refused_in_one_line():
    with pytest.raises(UserError) as refused:
        digests(SCALE=object())
    assert str(refused.value) == (
        "Mine uses the variable SCALE, whose value has no digest for the card (it is of type "
        "object); make it inside the class, such as in setup, or give it as a field of the "
        "configuration"
    )


def test_a_variable_of_a_class_of_the_notebook_counts_by_the_class_too():
    cell = """
from dataclasses import dataclass
@dataclass(frozen=True)
class Scale:
    value: float
    def __mul__(self, other):
        return self.value * other
SCALE = Scale(2.0)
"""
    first, second = (run_cell(text).SCALE for text in (cell, cell.replace("* other", "/ other")))
    assert digests(SCALE=first)["SCALE"] == digests(SCALE=second)["SCALE"]
    assert digests(SCALE=first)["Scale"] != digests(SCALE=second)["Scale"]


def test_what_a_function_encloses_counts():
    source = """
def make(factor):
    class Mine:
        def adapt(self, samples, rngs):
            return factor
    return Mine
"""
    make = run_cell(source).make
    assert source_digests(make(1.0)) == source_digests(make(1.0))
    assert source_digests(make(1.0)) != source_digests(make(2.0))


def test_the_configuration_of_another_cell_is_found_among_the_cells():
    config = "from ttt_bench import AdapterConfig\nclass Config(AdapterConfig):\n    rate: int = 1"
    with_check = f"{config}\n    @property\n    def double(self):\n        return 2 * self.rate"
    variables = {"Config": run_cell(config).Config, "scale": len}
    method = METHOD.replace("Config(AdapterConfig)", "Other(AdapterConfig)")
    in_cells = run_cell(method, In=["", config, with_check, "%time 1"], **variables)
    alone = run_cell(method, **variables)
    kinds = [source_digests(kind.Mine)["Config"] for kind in (in_cells, alone)]
    assert len({*kinds}) == 2, "without the cells the fields stand for the class"


def test_a_class_without_source_is_refused_in_one_line():
    known = {"__name__": "__main__", "scale": len}
    exec(METHOD, known)
    with pytest.raises(UserError) as refused:
        source_digests(known["Mine"])
    assert str(refused.value) == (
        "Mine: its source cannot be found, and the card needs a digest of it; define it in a cell "
        "of a notebook or in a file"
    )


def test_a_class_of_an_importable_module_counts_by_its_file(tmp_path: Path, monkeypatch):
    (tmp_path / "my_methods.py").write_text(f"{HELPER}\nSCALE = 2.0\n{METHOD}")
    monkeypatch.syspath_prepend(tmp_path)
    import my_methods  # pyright: ignore[reportMissingImports]

    spec = AdapterSpec.of(my_methods.Mine)
    assert (spec.name, spec.summary, spec.code) == ("mine", "Mine.", "my_methods:Mine")
    assert spec.load() is my_methods.Mine
    assert list(code_files(spec)) == ["my_methods.py"]
    sys.modules.pop("my_methods")


@pytest.mark.parametrize(
    ("kind", "name"), [("MyMethod", "my-method"), ("APMOnline", "apm-online"), ("T3A", "t3-a")]
)
def test_a_class_is_called_in_lower_case_with_hyphens(kind: str, name: str):
    assert AdapterSpec.of(type(kind, (), {})).name == name
