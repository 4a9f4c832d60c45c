"""Each tracker follows one run through a stop and two further commands, and is read back."""

import json
import struct
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ttt_bench import Records, Run, hookimpl, registered
from ttt_bench.cli import main
from ttt_bench.runs.folder import RunFolder

NAMES = [name for name in ("tensorboard", "mlflow", "wandb") if find_spec(name)]
TRACK = [word for name in NAMES for word in ("--track", name)]
RUN = ["run", "-m", "source", "-d", "cifar10-c-mini", "--limit", "128", "--device", "cpu"]
FOLDER = Path("runs/cifar10-c-mini/source")
ENVIRONMENT = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# What a user has set, which would lead elsewhere.
FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT", "WANDB_DIR")


class Interrupting:
    """Stands in for the user, who presses Ctrl-C when the third chunk is saved."""

    chunks = 0

    @hookimpl
    def ttt_bench_chunk_finished(self, run: Run, records: Records) -> None:
        self.chunks += 1
        if self.chunks == 3:
            raise KeyboardInterrupt


def type_command(*arguments: str) -> int:
    """Run a command in this process, and return its exit code.

    MLflow's own code uses what its database library will drop.
    """
    with warnings.catch_warnings(action="ignore"), pytest.raises(SystemExit) as left:
        main([*RUN, "-o", "runs", *arguments])
    return int(left.value.code or 0)


@contextmanager
def own_folder(place: Path) -> Iterator[pytest.MonkeyPatch]:
    """Let trackers write to a folder alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "TTT_BENCH_CACHE"):
            patched.setenv(name, str(place / name))
        for name in FOREIGN:
            patched.delenv(name, raising=False)
        yield patched


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder in which a run was stopped, continued, and asked for once more."""
    place = tmp_path_factory.mktemp("tracked")
    with own_folder(place):
        with registered(plugins=[Interrupting()]):
            assert type_command(*TRACK) == 130
        # The third chunk is saved, and no tracker was told of it.
        assert type_command(*TRACK) == 0
        before = files_of(place)
        assert type_command(*TRACK) == 0
        assert files_of(place) == before, "a finished run is logged once"
        yield place


def files_of(place: Path) -> dict[str, int]:
    """Return the sizes of the files that hold logged runs, by path."""
    roots = [place / FOLDER / "trackers", place / "mlruns", place / "wandb"]
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {str(path): path.stat().st_size for path in files if path.suffix != ".log"}


@pytest.fixture
def points(folder: Path) -> dict[int, float]:
    """The running accuracy by number of samples, computed from the records."""
    correct = RunFolder(folder / FOLDER).read_records().correct
    return {n: 100 * float(correct[:n].mean()) for n in (32, 64, 128)}


@pytest.fixture
def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / FOLDER / "summary.json").read_text())


def require_export(file: Path) -> None:
    """Check that a file is the exported run."""
    with zipfile.ZipFile(file) as zipped:
        names = {name.partition("/")[2] for name in zipped.namelist()}
    assert {"manifest.json", "cost.json", "summary.json"} < names


def test_tensorboard_continues_its_event_files(
    folder: Path, points: dict[int, float], summary: dict[str, Any]
):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(folder / FOLDER / "trackers/tensorboard"))
    events.Reload()
    scalars = {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }
    assert scalars["running_accuracy"] == pytest.approx(points)
    assert scalars["top1"] == pytest.approx({128: summary["top1"]})
    assert scalars["cost/gflops_per_sample"] == pytest.approx(
        {128: summary["cost"]["gflops_per_sample"]}
    )
    content = {}
    for tag, data in events.PluginTagToContent("hparams").items():
        content[tag] = HParamsPluginData.FromString(data)
    started = content["_hparams_/session_start_info"].session_start_info
    assert started.hparams["method.method"].string_value == "source"
    assert started.hparams["protocol.limit"].string_value == "128"
    assert "_hparams_/session_end_info" in content
    require_export(folder / FOLDER / "trackers/tensorboard/results.zip")


def test_mlflow_continues_its_run(folder: Path, points: dict[int, float], summary: dict[str, Any]):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient
    from ttt_bench_trackers.logged_once import flattened, numbers

    client = MlflowClient()
    experiment = client.get_experiment_by_name("ttt-bench")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "source on cifar10-c-mini")
    history = client.get_metric_history(run.info.run_id, "running_accuracy")
    assert {point.step: point.value for point in history} == pytest.approx(points)
    assert len(history) == len(points)
    logged = {name.replace("@", "_"): value for name, value in numbers(summary).items()}
    assert {name: run.data.metrics[name] for name in logged} == pytest.approx(logged)
    card = json.loads((folder / FOLDER / "manifest.json").read_text())["card"]
    assert set(run.data.params) == set(flattened(card, "."))
    assert run.data.params["method.backbone"] == "tiny-resnet"
    assert json.loads(run.data.params["protocol.class_names"])[0] == "airplane"
    (artifact,) = client.list_artifacts(run.info.run_id)
    require_export(Path(client.download_artifacts(run.info.run_id, artifact.path)))


def test_a_service_that_is_not_there_is_said_once_and_the_results_are_logged_later(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    with own_folder(tmp_path) as patched:
        # Nothing listens at this port.
        patched.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        patched.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert type_command("--track", "mlflow") == 0
        (line,) = [one for one in capfd.readouterr().err.splitlines() if "failed" in one]
        assert line.startswith("tracker mlflow failed (MlflowException: API request to ")
        assert line.endswith("; the run goes on")
        patched.delenv("MLFLOW_TRACKING_URI")
        patched.setenv("MLFLOW_EXPERIMENT_NAME", "later")
        assert type_command("--track", "mlflow") == 0
        client = MlflowClient()
        (run,) = client.search_runs([client.get_experiment_by_name("later").experiment_id])
        history = client.get_metric_history(run.info.run_id, "running_accuracy")
        top1 = json.loads((FOLDER / "summary.json").read_text())["top1"]
        assert [(point.step, point.value) for point in history] == [(128, pytest.approx(top1))]
        assert run.data.metrics["top1"] == pytest.approx(top1)


def test_wandb_continues_its_run_offline(
    folder: Path, points: dict[int, float], summary: dict[str, Any]
):
    pytest.importorskip("wandb")
    stopped, finished = (
        list(wandb_records(file)) for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    )
    begun = [next(one.run for one in part if one.HasField("run")) for part in (stopped, finished)]
    assert begun[0].run_id == begun[1].run_id
    assert {one.project for one in begun} == {"ttt-bench"}
    config = {one.key: json.loads(one.value_json) for one in begun[0].config.update}
    card = json.loads((folder / FOLDER / "manifest.json").read_text())["card"]
    assert {"protocol": config["protocol"], "method": config["method"]} == card
    history = {
        one.history.step.num: json.loads(item.value_json)
        for one in [*stopped, *finished]
        for item in one.history.item
        if [*item.nested_key] == ["running_accuracy"] or item.key == "running_accuracy"
    }
    assert history == pytest.approx(points)
    logged = {
        item.key: json.loads(item.value_json) for one in finished for item in one.summary.update
    }
    assert logged["top1"] == summary["top1"]
    assert logged["cost/gflops_per_sample"] == summary["cost"]["gflops_per_sample"]
    ends = [next(one.exit for one in part if one.HasField("exit")) for part in (stopped, finished)]
    assert [end.exit_code for end in ends] == [1, 0]
    (artifact,) = [one.artifact for one in finished if one.HasField("artifact")]
    (entry,) = artifact.manifest.contents
    assert (artifact.type, entry.path) == ("results", "results.zip")
    require_export(Path(entry.local_path))


def wandb_records(file: Path) -> Iterator[Any]:
    """Yield the records of an offline run, which are in the log format of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, begun = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + 7])
        begun += data[place + 7 : place + 7 + size]
        place += 7 + size
        # A record in one piece, or the last piece of one.
        if kind in (1, 4):
            yield Record.FromString(begun)
            begun = b""


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_without_its_package_a_tracker_says_what_to_install(
    name: str, ttt, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, name, None)
    code, _, err = ttt(*RUN, "--track", name)
    assert code == 2
    assert err == (
        f"ttt-bench: --track {name} needs the package {name}: pip install "
        f"'ttt-bench-trackers[{name}]'\n"
    )
    assert not Path("ttt-bench-runs").exists()
