"""The embedded rows run for real, and a prediction depends on its own sample alone."""

import json
from pathlib import Path

import pytest
import torch
from ttt_bench_ttt_mae.files import EMBEDDED

from tests.records_equal import records_equal
from ttt_bench import Sample, SampleRNG, load_backbone

ROWS = ("vit-probe", "fine-tune", "joint-train", "ttt-mae")
METHODS = [part for row in ROWS for part in ("--method", row)]
QUICK = ("--set", "steps=3", "--set", "copies=4")


def test_the_embedded_models_are_small():
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 10_000_000
    tiny = load_backbone("tiny-mae", "cpu")
    assert not any(p.requires_grad for p in tiny.model.parameters())
    assert tiny.card()["transform"]["resize"] == 32


def test_rows_know_clean_photographs(run_json):
    """The model card has each row's figure on all of CIFAR-10's test images: 70 to 75 %."""
    runs = run_json(*METHODS[:6], "--limit", 800)
    assert [run["method"] for run in runs] == list(ROWS[:3])
    for run in runs:
        assert run["groups"]["clean"] >= 60
        assert run["cost"]["parameters_updated"] == 0
        assert run["oracle_top1"] == run["top1"]


def test_predictions_do_not_depend_on_batch_size(run_json, records_of, tmp_path: Path):
    runs = {
        size: run_json(
            *METHODS, *QUICK, "--limit", 20, "--batch-size", size, "--output", tmp_path / str(size)
        )
        for size in (1, 3, 16)
    }
    for alone, few, many in zip(*runs.values(), strict=True):
        assert records_equal(records_of(alone), records_of(few))
        assert records_equal(records_of(alone), records_of(many))


def test_ttt_mae_costs_and_records_its_steps(run_json, records_of):
    (run,) = run_json("--method", "ttt-mae", *QUICK, "--limit", 6)
    records = records_of(run)
    assert records.step_predictions.shape == (6, 3)
    assert (records.step_predictions[:, -1] == records.prediction).all()
    encoder = load_backbone("tiny-mae", "cpu").model
    learned = sum(
        p.numel()
        for name, p in encoder.named_parameters()
        if not name.startswith("decoder") and name != "pos_embed"
    )
    assert run["cost"]["parameters_updated"] == learned
    counted = json.loads((Path(run["path"]) / "cost.json").read_text())
    per_sample = counted["flops_per_sample"]["adapted"]
    # Frozen decoder: the way back costs less than twice the way forward, and more than once.
    assert per_sample["forward"] < per_sample["backward"] + per_sample["forward"] / 2
    assert per_sample["backward"] < 2 * per_sample["forward"]


def test_a_sample_is_adapted_the_same_before_and_after_another():
    from ttt_bench_ttt_mae.methods.ttt_mae import TTTMAE, TTTMAEConfig

    from ttt_bench import Task, load_dataset

    dataset, backbone = load_dataset("cifar10-c-mini"), load_backbone("tiny-mae", "cpu")
    adapter = TTTMAE(TTTMAEConfig(steps=3, copies=4, checkpoint="tiny-mae-vit-probe.pth"))
    adapter.setup(Task(backbone, dataset.classes))
    before = backbone.weights_hash()
    first, other = (Sample(f"s{i}", dataset.open(i)) for i in range(2))
    steps = [
        adapter.adapt([sample], [SampleRNG(0, sample.id)])[0].step_logits
        for sample in (first, other, first)
    ]
    assert torch.equal(steps[0], steps[2])
    assert not torch.equal(steps[0], steps[1])
    assert backbone.weights_hash() == before
    elsewhere = adapter.adapt([first], [SampleRNG(1, first.id)])[0].step_logits
    assert not torch.equal(steps[0], elsewhere)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--method", "ttt-mae", "--backbone", "tiny-clip"), ["MaskedAutoencoder", "tiny-clip"]),
        (("--method", "apm", "--backbone", "tiny-mae"), ["tiny-mae"]),
        (("--method", "ttt-mae", "--set", "checkpoint=''"), ["needs a trained head"]),
        (("--method", "ttt-mae", "--set", "checkpoint=no.pth"), ["no.pth"]),
        (("--method", "ttt-mae", "--set", "mask_ratio=1"), ["mask_ratio=1"]),
        (("--method", "ttt-mae", "--set", "optimizer=adam"), ["optimizer='adam'", "adamw"]),
        (
            ("--method", "vit-probe", "--set", "checkpoint=tiny-mae-fine-tune.pth"),
            ["made by fine-tune", "needs one of vit-probe"],
        ),
        (("--method", "vit-probe", "--backbone", "mae:no.pth"), ["no.pth"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refused_in_one_line_before_anything_runs(ttt, arguments, wanted):
    command = ("run", "--dataset", "cifar10-c-mini", "--limit", 4, "--output", "r")
    code, out, err = ttt(*command, *arguments, "--device", "cpu")
    assert code == 2, (out, err)
    (line,) = [line for line in err.splitlines() if line.startswith("ttt-bench: ")]
    assert "Traceback" not in err
    assert all(word in line for word in wanted), line
    assert not list(Path("r").rglob("*.parquet"))
