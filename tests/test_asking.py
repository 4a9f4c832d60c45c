"""One command asks for variants, sweeps, seeds and backbones; a file of options does so too."""

import json
from pathlib import Path

import pytest

from tests.test_bad_input import one_line
from ttt_bench.runner.asking import Request, Variant, read_sweeps, read_variants
from ttt_bench.runner.config_file import entries, json_schema, read_file
from ttt_bench.runner.values import read_variant, split_commas

MINI = ("--dataset", "cifar10-c-mini")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("apm", ("apm", {})),
        ("apm:steps=5,lr=1e-3", ("apm", {"steps": 5, "lr": 0.001})),
        ("apm:layers=[4, 2],steps=1", ("apm", {"layers": [4, 2], "steps": 1})),
        ("apm:prompt='a, b',k={x: 1, y: 2}", ("apm", {"prompt": "a, b", "k": {"x": 1, "y": 2}})),
        ("apm:file=a:b=c", ("apm", {"file": "a:b=c"})),
    ],
)
def test_a_method_is_read_with_its_settings(text: str, wanted: tuple[str, dict]):
    assert read_variant(text) == wanted


def test_commas_within_brackets_and_quotes_do_not_split():
    assert split_commas("1,[2,3],'4,5',(6,7)") == ["1", "[2,3]", "'4,5'", "(6,7)"]


def asked(request: Request) -> list[tuple]:
    """Return method, settings, backbone, seed and folder of each run."""
    return [
        (run.method, dict(run.settings), run.backbone, run.seed, run.folder)
        for run in request.runs({})
    ]


def test_every_combination_is_a_run_with_a_folder_of_its_own():
    request = Request(
        variants=read_variants(["clip-zero-shot", "apm", "apm:pooling=mean"]),
        datasets=["cifar10-c-mini"],
        seeds=(0, 1),
        sweeps=read_sweeps(["apm.steps=1,2"]),
    )
    runs = asked(request)
    assert len(runs) == 2 + 4 + 4
    assert runs[0] == ("clip-zero-shot", {}, None, 0, "clip-zero-shot-seed=0")
    assert ("apm", {"steps": 2}, None, 1, "apm-steps=2-seed=1") in runs
    assert ("apm", {"pooling": "mean", "steps": 1}, None, 0, "apm-pooling=mean-steps=1-seed=0") in (
        runs
    )
    assert len({folder for *_, folder in runs}) == len(runs)


def test_a_command_for_one_run_keeps_the_folder_of_the_method():
    request = Request(read_variants(["apm"]), ["cifar10-c-mini"], ["tiny-clip"], (3,))
    assert asked(request) == [("apm", {}, "tiny-clip", 3, "apm")]


def test_entries_have_names_datasets_and_backbones_of_their_own():
    entry = Variant("apm", {"steps": 2}, "few steps", ("other",), ("b", "c"))
    request = Request([Variant("source"), entry], ["one"])
    runs = request.runs({})
    assert [(run.dataset, run.title, run.folder) for run in runs] == [
        ("one", "source", "source"),
        ("other", "few steps b", "few-steps-b"),
        ("other", "few steps c", "few-steps-c"),
    ]
    assert [run.name for run in runs] == ["", "few steps", "few steps"]


def test_entries_have_seeds_and_options_of_their_own():
    entry = Variant("norm", seeds=(3, 4), options={"stream": "mixed", "limit": 8})
    runs = Request([Variant("norm"), entry], ["one"]).runs({"limit": 16})
    assert [(run.seed, run.stream, run.limit, run.folder) for run in runs] == [
        (0, "grouped", 16, "norm"),
        (3, "mixed", 8, "norm-stream=mixed-limit=8-seed=3"),
        (4, "mixed", 8, "norm-stream=mixed-limit=8-seed=4"),
    ]


def test_folders_stay_short_plain_and_apart():
    hostile = [Variant("apm", {"steps": 1}, name) for name in ("../..", "a/b", "a:b", "x" * 300)]
    folders = [run.folder for run in Request(hostile, ["d"]).runs({})]
    assert len({*folders}) == 4
    assert all("/" not in one and not one.startswith(".") and len(one) < 120 for one in folders)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("-m", "apm:steps"), ["write apm:KEY=VALUE"]),
        (("-m", "apm:steps=1,steps=2"), ["steps comes twice"]),
        (("-m", "apm:step=1"), ["configuration key of apm 'step'", "steps"]),
        (("-m", "apm", "--sweep", "apm.steps"), ["write METHOD.KEY=VALUE,VALUE"]),
        (("-m", "apm", "--sweep", "apm.steps="), ["write METHOD.KEY=VALUE,VALUE"]),
        (("-m", "apm", "--sweep", "tpt.steps=1,2"), ["method in --sweep tpt.steps 'tpt'", "apm"]),
        (("-m", "apm", "--sweep", "steps=1", "--sweep", "steps=2"), ["--sweep steps comes twice"]),
        (("-m", "apm:steps=1", "--sweep", "steps=1,2"), ["steps has one value", "--sweep too"]),
        (("-m", "apm", "--set", "steps=1", "--sweep", "apm.steps=1,2"), ["steps has one value"]),
        (("-m", "apm", "--sweep", "steps=1,0"), ["steps=0", "greater than or equal to 1"]),
        (("-m", "apm", "-b", "tiny-clip", "-b", "tiny-clp"), ["backbone 'tiny-clp'", "tiny-clip"]),
        (
            ("-m", "apm", "-b", "tiny-clip", "-b", "tiny-resnet", "--weights", "x.pth"),
            ["--weights is for one backbone"],
        ),
        (("--sweep", "steps=1,2"), ["Missing option '--method'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_run_is_one_line(ttt, arguments, wanted: list[str]):
    one_line(ttt("run", *MINI, *arguments, "-o", "r"), *wanted)
    assert not Path("r").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limmit: 3", "unknown option in run.yaml 'limmit'; did you mean limit"),
        ("limit: many", "run.yaml: limit='many' is refused: Input should be a valid integer"),
        ("limit: 0", "run.yaml: limit=0 is refused: Input should be greater than or equal to 1"),
        ("precision: fp8", "run.yaml: precision='fp8' is refused: Input should be 'fp32'"),
        ("set: 3", "run.yaml: set=3 is refused: Input should be a valid dictionary"),
        ("sweep: {steps: 3}", "`sweep` needs a list of values"),
        ("runs: []", "run.yaml: runs=[] is refused"),
        ("runs: [{method: apm}, {set: {}}]", "run.yaml, entry 2 of runs: method is missing"),
        (
            "runs: [{method: apm, sett: {}}]",
            "unknown option in run.yaml, entry 1 of runs 'sett'; did you mean set",
        ),
        ("runs: [{method: apm, stream: mixt}]", "entry 1 of runs: stream='mixt' is refused"),
        ("runs: [{method: apm, limit: 0}]", "entry 1 of runs: limit=0 is refused"),
        ("runs: [{method: 'apm:steps'}]", "entry 1 of runs: method apm:steps: write apm:KEY=VALUE"),
        ("- apm", "run.yaml: needs lines `option: value`"),
        ("seed: [0, x]", "run.yaml: seed="),
    ],
)
def test_every_key_of_a_file_is_checked(ttt, tmp_path: Path, text: str, message: str):
    (tmp_path / "run.yaml").write_text(text, "utf-8")
    one_line(ttt("run", *MINI, "-m", "apm", "--config", "run.yaml"), message)


def test_the_schema_has_every_option_of_run(ttt):
    code, out, err = ttt("config", "schema")
    assert code == 0, err
    schema = json.loads(out)
    assert schema == json_schema()
    options = {*schema["properties"]}
    assert {"method", "data-root", "batch-size", "feature-cache", "set", "sweep", "runs"} <= options
    assert "no-feature-cache" not in options
    assert not schema["additionalProperties"]
    assert schema["properties"]["limit"]["anyOf"][0]["minimum"] == 1
    assert all("description" in one for one in schema["properties"].values())


FILE = """
dataset: cifar10-c-mini
limit: 16
seed: [0, 1]
runs:
  - method: clip-zero-shot
  - method: apm:lr=0.01
    name: few steps
    set: {steps: 1}
"""


def test_a_file_of_runs_is_one_command(ttt, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(FILE, "utf-8")
    content = read_file(tmp_path / "run.yaml")
    assert [one.name for one in entries(tmp_path / "run.yaml", content)] == ["", "few steps"]
    words = ("run", "--config", "run.yaml", "--device", "cpu", "-o", "r", "--format", "json")
    code, out, err = ttt(*words)
    assert code == 0, err
    runs = json.loads(out)["runs"]
    assert [(run["variant"], run["method"], run["seed"]) for run in runs] == [
        ("clip-zero-shot", "clip-zero-shot", 0),
        ("clip-zero-shot", "clip-zero-shot", 1),
        ("few steps", "apm", 0),
        ("few steps", "apm", 1),
    ]
    assert [Path(run["path"]).name for run in runs] == [
        "clip-zero-shot-seed=0", "clip-zero-shot-seed=1", "few-steps-seed=0", "few-steps-seed=1",
    ]  # fmt: skip
    assert "few steps seed=1 on cifar10-c-mini: done" in err
    # Another name for the same runs is told by the same records.
    (tmp_path / "run.yaml").write_text(FILE.replace("few steps", "few-steps"), "utf-8")
    code, out, err = ttt(*words)
    assert code == 0, err
    assert {run["variant"] for run in json.loads(out)["runs"]} == {"clip-zero-shot", "few-steps"}
    assert "continues with 16 of 16" in err
    code, out, err = ttt("run", "--config", "run.yaml", "-o", "r", "--dry-run")
    assert code == 0, err
    assert "few-steps seed=1 on cifar10-c-mini, seed 1: r/cifar10-c-mini/few-steps-seed=1" in out
    assert out.count("16 of 16 samples are there") == 4
