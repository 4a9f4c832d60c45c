"""The public names load, stand once in one list, and suffice for a plugin of each kind.

The plugin is tests/third_party/lab.py, with the files that docs/ shows. The dataset with downloads
is in test_third_party_dataset.py.
"""

import ast
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

import ttt_bench
from tests import golden_check
from ttt_bench.cli import Commands
from ttt_bench.registry import registry

STUB = Path(ttt_bench.__file__).with_suffix(".pyi")
THIRD_PARTY = Path(__file__).parent / "third_party"
PLUGIN_FILES = sorted(THIRD_PARTY.rglob("*.py"))


def listed() -> list[ast.ImportFrom]:
    """Return the imports of the list of public names."""
    return [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Register everything of the plugin in this process."""
    monkeypatch.syspath_prepend(THIRD_PARTY)
    import lab  # pyright: ignore[reportMissingImports]

    with ttt_bench.registered(**lab.BROUGHT):
        yield lab
    for path in PLUGIN_FILES:
        sys.modules.pop(path.stem, None)


def test_every_public_name_is_listed_once_and_loads():
    names = Counter(alias.asname for node in listed() for alias in node.names)
    assert max(names.values()) == 1
    assert set(names) == set(ttt_bench.__all__)
    for node in listed():
        for alias in node.names:
            assert alias.name == alias.asname, "a public name is the name in its module"
            module = __import__(f"ttt_bench.{node.module}", fromlist=[alias.name])
            assert getattr(ttt_bench, alias.name) is getattr(module, alias.name)


def test_every_public_class_and_function_says_what_it_is():
    values = {name: getattr(ttt_bench, name) for name in ttt_bench.__all__}
    named = {n: v for n, v in values.items() if inspect.isclass(v) or inspect.isfunction(v)}
    assert len(named) > 40
    assert [name for name, value in named.items() if not value.__doc__] == []


@pytest.mark.parametrize("file", PLUGIN_FILES, ids=lambda path: path.name)
def test_the_plugin_imports_public_names_alone(file: Path):
    tree = ast.parse(file.read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert "ttt_bench" in modules
    assert not [module for module in modules if str(module).startswith("ttt_bench.")]


def test_a_method_for_each_capability_runs_on_a_backbone_of_it(lab: ModuleType, ttt):
    for method, backbone in lab.PAIRS:
        words = ("-m", method, "-b", backbone, "-d", "lab-squares", "--format", "json")
        code, out, err = ttt("run", *words, "--device", "cpu")
        assert code == 0, err
        (run,) = json.loads(out)["runs"]
        assert (run["method"], run["backbone"], run["n"], run["top1"]) == (
            method,
            backbone,
            12,
            100,
        )
        # The metrics, too.
        assert run["mistakes"] == {"day": 0, "night": 0}
        assert run["worst_group"] == 100
        assert 0 <= run["entropy"] <= np.log(3)


def test_a_method_refuses_a_backbone_without_its_capability(lab: ModuleType, ttt):
    code, _, err = ttt("run", "-m", "lab-sharpen", "-b", "lab-head", "-d", "lab-squares")
    assert code == 2
    assert "lab-sharpen needs DualEncoder, which lab-head does not give" in err


def test_a_datasets_own_backbone_is_the_default_of_methods_that_it_fits(lab: ModuleType):
    spec = ttt_bench.DatasetSpec(
        name="lab-circles", summary="circles", code="squares:Squares", source="drawn",
        licence="CC0", backbones={"lab": "lab-head"},
    )  # fmt: skip
    with ttt_bench.registered(datasets=[spec]):
        by_needs = {
            needs: ttt_bench.default_backbone("lab-circles", lab.FAMILY, frozenset({needs}))
            for needs in ("Classifier", "DualEncoder")
        }
        assert by_needs == {"Classifier": "lab-head", "DualEncoder": "lab-clip"}
        assert ttt_bench.default_backbone("lab-circles", lab.FAMILY) == "lab-head"
        assert ttt_bench.default_backbone("lab-circles") == ttt_bench.CLIP_FAMILY.default


def test_a_dataset_takes_an_argument_and_refuses_a_bad_one(lab: ModuleType, ttt):
    code, out, err = ttt("run", "-m", "lab-sharpen", "-d", "lab-squares:2", "--format", "json")
    assert code == 0, err
    assert json.loads(out)["runs"][0]["n"] == 6
    for bad in ("0", "many"):
        code, _, err = ttt("run", "-m", "lab-sharpen", "-d", f"lab-squares:{bad}")
        assert code == 2
        assert f"lab-squares:{bad} is not between 1 and 99" in err


def test_a_published_table_stands_beside_a_measured_row(lab: ModuleType, ttt):
    words = ("-m", "lab-sharpen", "-d", "lab-squares:4", "--device", "cpu", "--output", "runs")
    code, _, err = ttt("run", *words)
    assert code == 0, err
    code, out, err = ttt("compare", "runs", "--reference", "lab-paper", "--format", "json")
    assert code == 0, err
    published = json.loads(out)["rows"][0]["reference"]
    assert (published["published"], published["measured"]) == (90, 100)
    assert published["same_protocol"]


def test_a_golden_of_a_plugin_is_recognised_and_compared(lab: ModuleType, tmp_path: Path):
    scores = np.ones(3, np.float32)
    np.savez(tmp_path / "scores.npz", lab_scores=scores, sharpened=2 * scores)
    printed = golden_check.compare(tmp_path / "scores.npz")
    assert (printed["kind"], printed["max_abs_diff"]) == ("lab-numbers", {"scores": 0})
    assert registry().goldens["lab-numbers"].spec.path == THIRD_PARTY / "lab.npz"


def test_an_executor_and_a_tracker_of_a_plugin(lab: ModuleType, ttt, tmp_path: Path):
    words = ("-m", "lab-sharpen", "-d", "lab-squares:40", "--device", "cpu")
    code, _, err = ttt("run", *words, "--executor", "lab-backwards:order.txt", "--track", "lines")
    assert code == 0, err
    order = [int(word) for word in (tmp_path / "order.txt").read_text().split()]
    assert order == list(reversed(range(len(order))))
    assert len(order) > 1
    lines = (tmp_path / "tracker.jsonl").read_text().splitlines()
    started, *chunks, finished = (json.loads(line) for line in lines)
    assert (started["event"], started["method"]) == ("started", "lab-sharpen")
    assert (started["finished"], started["card"]["protocol"]["n"]) == (0, 120)
    assert (finished["event"], finished["n"], finished["summary"]["top1"]) == ("finished", 120, 100)
    sizes = [chunk["samples"] for chunk in chunks]
    assert (len(sizes), sizes[-1]) == (len(order), 120)
    assert {chunk["accuracy"] for chunk in chunks} == {100}


def test_a_command_of_a_plugin(lab: ModuleType):
    result = CliRunner().invoke(Commands("ttt-bench"), ["laboratory"])
    assert (result.exit_code, result.output) == (0, "second floor\n")


def test_what_is_registered_in_process_is_gone_afterwards(ttt):
    code, _, err = ttt("run", "-m", "lab-sharpen", "-d", "cifar10-c-mini")
    assert code == 2
    assert "unknown method 'lab-sharpen'" in err


def test_a_taken_name_is_refused_and_nothing_stays():
    spec = ttt_bench.AdapterSpec(name="apm", summary="another", code="lab:Sharpen")
    with pytest.raises(ValueError, match="'apm' is taken"), ttt_bench.registered(adapters=[spec]):
        pass
    bad_hook = type("Bad", (), {"ttt_bench_adaptors": ttt_bench.hookimpl(lambda self: [])})()
    metric = ttt_bench.MetricSpec(name="mine", summary="mine", code="my_metrics:mistakes")
    with (
        pytest.raises(ValueError, match="unknown hook 'ttt_bench_adaptors'"),
        ttt_bench.registered(metrics=[metric], plugins=[bad_hook]),
    ):
        pass
    with ttt_bench.registered(metrics=[metric]):
        pass


def test_registering_blocks_may_be_nested():
    names = ("outer", "inner")
    specs = [ttt_bench.AdapterSpec(name=name, summary="", code="any:Any") for name in names]
    with ttt_bench.registered(adapters=specs[:1]), ttt_bench.registered(adapters=specs[1:]):
        assert {"outer", "inner"} <= set(registry().adapters)
    assert not {"outer", "inner"} & set(registry().adapters)
