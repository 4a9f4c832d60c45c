"""From Python: runs by names and by objects, and their results as frames, tables and figures."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

import ttt_bench
from tests.cells import run_cell
from tests.run_folders import METHOD as METHOD_PART
from tests.run_folders import PROTOCOL, N, write_run
from ttt_bench.api.errors import UserError
from ttt_bench.compare.read import read_runs
from ttt_bench.python.objects import registered_objects
from ttt_bench.python.options import checked_options
from ttt_bench.registry import registry

METHOD = '''
import torch
from ttt_bench import Adapter, AdapterConfig, Prediction

class SharpConfig(AdapterConfig):
    factor: float = 2.0

class Sharp(Adapter):
    """Sharper scores in two steps."""
    Config = SharpConfig

    def adapt(self, samples, rngs):
        logits = self.task.logits(self.task.encode_image(samples))
        steps = [torch.stack([one, self.config.factor * one]) for one in logits]
        return [Prediction(one[-1], one) for one in steps]

class Broken(Sharp):
    def adapt(self, samples, rngs):
        raise ValueError("not today")
'''
SQUARES = """
from PIL import Image
from ttt_bench import ClassSet, Dataset, Entry

class Squares(Dataset):
    def __init__(self, number, shade=255):
        self.name = "squares"
        self.classes = ClassSet(("red square", "green square"))
        self.entries = [Entry(str(i), "day" if i < number / 2 else "night", i % 2)
                        for i in range(number)]
        self.shade = shade

    def open(self, index):
        colour = (self.shade, 0, 0) if index % 2 == 0 else (0, self.shade, 0)
        return Image.new("RGB", (32, 32), colour)

    def card(self):
        return {"revision": "1", "corruption_source": None}
"""
CELL, DATA = run_cell(METHOD), run_cell(SQUARES)
LIMIT = 16
SAMPLES = {"cifar10-c-mini": LIMIT, "squares": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def results(folder: Path) -> ttt_bench.Results:
    """A named method and a class with two settings, on a named dataset and on an object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TTT_BENCH_CACHE", str(folder / "cache"))
        return ttt_bench.run(
            ["clip-zero-shot", CELL.Sharp],
            ["cifar10-c-mini", DATA.Squares(6)],
            backbones="tiny-clip",
            limit=LIMIT,
            sweep={"sharp.factor": [1.0, 3.0]},
            device="cpu",
            output=folder / "runs",
        )


@pytest.fixture
def figures() -> Iterator[None]:
    matplotlib.use("agg")
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def test_the_command_line_gives_the_same_runs(ttt, results, folder: Path):
    assert len(results) == 6
    words = ("-m", "clip-zero-shot", "-d", "cifar10-c-mini", "-b", "tiny-clip", "--limit", LIMIT)
    code, out, err = ttt("run", *words, "--device", "cpu", "-o", "typed", "--format", "json")
    assert code == 0, err
    (typed,) = json.loads(out)["runs"]
    (run,) = [
        one for one in results.runs
        if one.card.protocol["dataset"] == "cifar10-c-mini" and one.name == "clip-zero-shot"
    ]  # fmt: skip
    assert typed["path"] == "typed/cifar10-c-mini/clip-zero-shot"
    (again,) = ttt_bench.load("typed").runs
    assert again.card == run.card
    assert again.records.in_order_of(run.records.sample_id).confidence.tolist() == (
        run.records.confidence.tolist()
    )
    costs = {"cost", "path", "variant"}
    assert {k: v for k, v in typed.items() if k not in costs} == {
        k: v for k, v in run.summary.items() if k not in costs
    }


def test_the_same_call_computes_nothing(results, folder: Path, capfd):
    again = ttt_bench.run(
        [CELL.Sharp], DATA.Squares(6), backbones="tiny-clip", limit=LIMIT, device="cpu",
        sweep={"sharp.factor": [1.0, 3.0]}, output=folder / "runs",
    )  # fmt: skip
    assert [run.path for run in again.runs] == [run.path for run in results.runs[4:]]
    assert "6 of 6 samples there" in capfd.readouterr().err


def test_the_frame_is_the_tidy_table_of_compare(ttt, results, folder: Path):
    code, out, err = ttt("compare", folder / "runs", "--format", "csv")
    assert code == 0, err
    printed = pd.read_csv(io.StringIO(out)).set_index("path")
    frame = results.frame().set_index("path")
    assert list(frame.columns) == list(printed.columns)
    assert set(frame.variant) == {"clip-zero-shot", "sharp factor=1", "sharp factor=3"}
    numbers = ["n", "seed", "limit", "top1", "top1_low", "top1_high", "ece", "ms_per_sample",
               "gflops_per_sample"]  # fmt: skip
    assert np.allclose(frame[numbers], printed.loc[frame.index, numbers])
    assert frame[numbers].dtypes.map(lambda kind: kind.kind).isin(["i", "f"]).all()


def test_records_have_a_row_for_each_sample(results):
    records = results.records()
    assert len(records) == 3 * sum(SAMPLES.values())
    assert records.groupby("dataset").id.nunique().to_dict() == SAMPLES
    assert (records.correct == (records.label == records.prediction)).all()
    squares = results.records("clip-zero-shot").query("dataset == 'squares'")
    assert squares.class_name.tolist() == ["red square", "green square"] * 3
    assert squares.group.tolist() == ["day"] * 3 + ["night"] * 3
    sharp = results.records("sharp factor=3")
    assert set(sharp.run) == {"sharp factor=3"}
    assert sharp.steps.tolist() == [[one, one] for one in sharp.prediction]
    assert "position" not in records
    means = 100 * records.groupby(["run", "dataset"]).correct.mean()
    table = results.frame().set_index(["variant", "dataset"]).top1
    assert np.allclose(means, table.loc[means.index])
    with pytest.raises(UserError, match="unknown method in records"):
        results.records("tpt")


def test_a_run_without_streams_or_steps_has_no_value_there(tmp_path: Path):
    for name in ("apm", "tent"):
        write_run(tmp_path / name, method={**METHOD_PART, "method": name})
    episodic, online = read_runs([tmp_path])
    along = {"stream": ["fog"] * N, "position": np.arange(N, dtype=np.int32)}
    records = replace(online.records, **along, step_predictions=None, unadapted_prediction=None)
    frame = ttt_bench.Results([episodic, replace(online, records=records)]).records()
    apm, tent = (frame[frame.run == name] for name in ("apm", "tent"))
    assert tent.position.tolist() == [*range(N)]
    assert apm.position.isna().all()
    assert apm.stream.isna().all()
    assert tent.unadapted.isna().all()
    assert tent.steps.isna().all()
    assert apm.unadapted.tolist() == episodic.records.unadapted_prediction.tolist()


def test_a_run_that_fits_no_table_is_named_once(tmp_path: Path, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    groups = ["fog"] * 3
    for name in ("apm", "tent", "stray"):
        protocol = {**PROTOCOL, "limit": 3 if name == "stray" else None}
        method = {**METHOD_PART, "method": name}
        write_run(tmp_path / name, protocol, method, group=groups if name == "stray" else None)
    loaded = ttt_bench.load(tmp_path)
    line = f"left out: stray ({tmp_path / 'stray'}): its limit is 3, and none in the table of 2 "
    assert line in repr(loaded)
    assert capfd.readouterr().err == ""
    assert set(loaded.frame().variant) == set(loaded.records().run) == {"apm", "tent"}
    assert capfd.readouterr().err.count(line) == 1


def test_the_image_of_a_sample_is_that_of_the_dataset(results):
    records = results.records("clip-zero-shot")
    sample = records[records.dataset == "squares"].iloc[1]
    assert results.image(sample.id).getpixel((3, 3)) == (0, 255, 0)
    sample = records[records.dataset == "cifar10-c-mini"].iloc[0]
    dataset = ttt_bench.load_dataset("cifar10-c-mini")
    index = [dataset.sample_id(i) for i in range(len(dataset.entries))].index(sample.id)
    assert results.image(sample.id).tobytes() == dataset.open(index).tobytes()
    with pytest.raises(UserError, match="no run has a sample 'nothing'"):
        results.image("nothing")
    darker = ttt_bench.Results(results.runs, datasets={"squares": DATA.Squares(6, shade=100)})
    sample = records[records.dataset == "squares"].iloc[0]
    with pytest.raises(UserError, match="has other pixels"):
        darker.image(sample.id)


def test_runs_are_compared_with_one_row(results):
    compared = results.compare(against="sharp:factor=3.0", only=["sharp", "clip-zero-shot"])
    assert len(compared.rows) == 6
    rows = compared.rows.query("dataset == 'squares'").set_index("variant")
    assert rows.baseline.unique().tolist() == ["sharp factor=3"]
    assert rows.loc["sharp factor=1", ["difference", "difference_low"]].tolist() == [0, 0]
    assert pd.isna(rows.loc["sharp factor=3", "difference"])
    assert set(compared.pairs.b) == {"sharp factor=3"}
    assert len(compared.pairs) == 4
    assert compared.pairs.p_holm.between(0, 1).all()
    assert "clean" in set(compared.groups.group)
    sharp = results.compare(only="sharp", where={"dataset": "squares"}, sort="name")
    assert sharp.rows.variant.tolist() == ["sharp factor=1", "sharp factor=3"]
    with pytest.raises(UserError, match="--against"):
        results.compare(against="tpt")


def test_a_notebook_and_a_terminal_show_the_table(results, monkeypatch):
    html = results._repr_html_()
    assert html.count("<table>") == 3
    assert '<th scope="row">sharp factor=1</th>' in html
    monkeypatch.setenv("COLUMNS", "90")
    text = repr(results)
    assert "sharp factor=1" in text
    assert max(map(len, text.splitlines())) <= 90
    failed = ttt_bench.Results(results.runs, ["sharp on squares: <broken>"])
    assert "sharp on squares: <broken>" in repr(failed)
    assert "sharp on squares: &lt;broken&gt;" in failed._repr_html_()


def test_figures_are_drawn_as_axes_of_pyplot(results, figures):
    from matplotlib import pyplot

    axis = results.plot("steps", table="squares")
    assert pyplot.gcf() is axis.figure
    assert axis.get_ylabel() == "top-1 %"
    assert len(results.plot()) == 3
    assert results.plot("corruptions").get_images()
    assert results.compare(against="clip-zero-shot").plot("differences").get_xlabel()
    with pytest.raises(UserError, match="unknown figure 'step'; did you mean steps"):
        results.plot("step")
    with pytest.raises(UserError, match="unknown table 'circles'"):
        results.plot(table="circles")
    with pytest.raises(UserError, match="nothing to draw for seeds"):
        results.plot("seeds")


def test_folders_and_exported_files_are_loaded(ttt, results, folder: Path):
    code, _, err = ttt("export", folder / "runs", "-o", folder / "results.zip")
    assert code == 0, err
    expected = results.frame().sort_values("path").drop(columns="path").reset_index(drop=True)
    # An exported file has no logits, which some metrics need.
    of_logits = ["top5", "nll", "brier"]
    for path in (folder / "runs", str(folder / "results.zip"), [folder / "results.zip"]):
        loaded = ttt_bench.load(path)
        assert len(loaded) == 6
        frame = loaded.frame()
        keys = ["dataset", "variant"]
        columns = [name for name in expected.columns if name not in of_logits]
        pd.testing.assert_frame_equal(
            frame.sort_values(keys).reset_index(drop=True)[columns],
            expected.sort_values(keys).reset_index(drop=True)[columns],
        )
    with pytest.raises(UserError, match="paths is empty"):
        ttt_bench.load([])
    with pytest.raises(UserError, match="no such folder"):
        ttt_bench.load(folder / "nowhere")


def test_without_pandas_the_message_says_what_to_type(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for call in (results.frame, results.records, lambda: results.compare().rows):
        with pytest.raises(UserError) as refused:
            call()
        assert str(refused.value) == "this needs pandas: pip install 'ttt-bench[notebook]'"
    assert results._repr_html_()


def test_a_method_that_fails_stops_no_other(folder: Path, capfd):
    options: dict[str, Any] = {"backbones": "tiny-clip", "device": "cpu", "output": folder / "b"}
    some = ttt_bench.run([CELL.Broken, "clip-zero-shot"], DATA.Squares(2), **options)
    (failure,) = some.failures
    assert failure.startswith("broken on squares: broken failed on samples ")
    assert "ValueError: not today" in failure
    assert failure in capfd.readouterr().err
    assert [run.name for run in some.runs] == ["clip-zero-shot"]
    with pytest.raises(UserError, match="not today"):
        ttt_bench.run(CELL.Broken, DATA.Squares(2), **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": []}, "methods is empty; give at least one"),
        ({"datasets": []}, "datasets is empty; give at least one"),
        ({"methods": "clip-zeroshot"}, "unknown method 'clip-zeroshot'; did you mean"),
        ({"methods": "apm:steps"}, "methods apm:steps: write apm:KEY=VALUE"),
        ({"datasets": "cifar"}, "unknown dataset 'cifar'"),
        ({"batchsize": 3}, "unknown option of ttt_bench.run 'batchsize'; did you mean batch_size"),
        ({"limit": 0}, "limit=0 is refused: Input should be greater than or equal to 1"),
        ({"seeds": [0, -1]}, "seed=-1 is refused: Input should be greater than or equal to 0"),
        ({"sweep": {"steps": 5}}, "sweep: steps needs a list of values, such as {'steps': [1, 2]}"),
        ({"settings": {"step": 5}}, "unknown configuration key of clip-zero-shot 'step'"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments: dict[str, Any], message: str):
    asked = {"methods": "clip-zero-shot", "datasets": "cifar10-c-mini", **arguments}
    with pytest.raises(UserError) as refused:
        ttt_bench.run(**asked)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


class Halfway(ttt_bench.Adapter):
    """Lacks its function."""


Apm = type("Apm", (CELL.Sharp,), {})


@pytest.mark.parametrize(
    ("methods", "datasets", "message"),
    [
        ([3], [], "methods: 3 is neither a name, an Adapter subclass nor an AdapterSpec"),
        ([Halfway], [], "methods: the class Halfway needs a function adapt"),
        (
            [CELL.Sharp(CELL.SharpConfig())],
            [],
            "methods: give the class Sharp, and not an object of it",
        ),
        ([Apm], [], "the method name 'apm' is taken by plugin apm; give yours another one by"),
        ([Apm, ttt_bench.AdapterSpec.of(CELL.Sharp, name="apm")], [], "two methods are called apm"),
        ([], [3], "datasets: 3 is neither a name nor a Dataset; a folder of images is"),
        ([], [DATA.Squares], "datasets: Squares cannot be made of no argument (TypeError: "),
        ([], [DATA.Squares(2), DATA.Squares(3)], "datasets: two datasets are called squares"),
        ([], [DATA.Squares.__new__(DATA.Squares)], "datasets: Squares has no `name`; set it in"),
    ],
    ids=lambda value: "" if isinstance(value, list) else value[:40],
)
def test_objects_that_cannot_be_used_are_refused(methods: Any, datasets: Any, message: str):
    with (
        pytest.raises(UserError) as refused,
        registered_objects(methods, datasets, None),
    ):
        pass
    assert message in str(refused.value)


def test_a_dataset_with_the_name_of_a_plugins_is_refused():
    squares = DATA.Squares(2)
    squares.name = "imagenet-a"
    with (
        pytest.raises(UserError, match=r"'imagenet-a' is taken by plugin datasets; .*`name`"),
        registered_objects([], [squares], None),
    ):
        pass


def test_a_class_or_dataset_of_a_plugin_is_the_plugins():
    mini = ttt_bench.load_dataset("cifar10-c-mini")
    zero_shot = registry().adapters["clip-zero-shot"].spec
    methods = [zero_shot.load(), zero_shot]
    with registered_objects(methods, [mini], None) as asked:
        assert [variant.method for variant in asked.variants] == ["clip-zero-shot"] * 2
        assert asked.objects == {"cifar10-c-mini": mini}
    assert asked.given == ["the dataset cifar10-c-mini"]


@pytest.mark.parametrize("option", [{"workers": 2}, {"executor": "ray"}])
def test_objects_are_refused_where_other_processes_compute(option: dict[str, Any]):
    with pytest.raises(UserError) as refused:
        ttt_bench.run(CELL.Sharp, "cifar10-c-mini", **option)
    ((name, value),) = option.items()
    assert str(refused.value) == (
        f"{name}={value!r}: other processes do not know the method sharp, which is given as an "
        "object; leave the option out, or make a plugin of it (`ttt-bench new-method`)"
    )


def test_options_are_those_of_the_command_line(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TTT_BENCH_DATA", str(tmp_path))
    asked = {"seed": [0, 1], "backbone": [], "correlation": 1, "fresh": True, "track": "wandb"}
    given = checked_options(asked)
    assert checked_options({"track": ["wandb", "mlflow"]})["track"] == ("wandb", "mlflow")
    assert given == {
        "track": ("wandb",),
        "data_root": tmp_path, "seed": [0, 1], "backbone": [], "correlation": 1.0, "fresh": True,
    }  # fmt: skip


def test_an_error_is_one_line_in_a_notebook_unless_a_traceback_is_wanted(monkeypatch):
    error = UserError("limit=0 is refused")
    monkeypatch.delenv("TTT_BENCH_TRACEBACK", raising=False)
    assert error._render_traceback_() == ["UserError: limit=0 is refused"]
    monkeypatch.setenv("TTT_BENCH_TRACEBACK", "1")
    with pytest.raises(UserError) as raised:
        raise error
    assert "Traceback" in raised.value._render_traceback_()[0]
