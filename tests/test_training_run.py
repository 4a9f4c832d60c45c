"""A training that was stopped at any moment ends as an undisturbed one does."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from ttt_bench import GlobalGenerator, TrainingFolder, TrainingRun, UserError, seeded

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Values:
    epochs: int = 3
    lr: float = 0.1


class StopError(Exception):
    pass


def run_of(path: Path, lines: list[str] | None = None, values: Values | None = None):
    values = values or Values()
    folder = TrainingFolder(path, {"lr": values.lr})
    report = (lines if lines is not None else []).append
    return TrainingRun(schedule=values, folder=folder, device=CPU, workers=0, report=report)


def train(run: TrainingRun[Values], stop_at: int = -1) -> nn.Linear:
    """Four steps an epoch, drawn from the global generator and saved after the second.

    Args:
        stop_at: the step, counted from 0 over this call, before which it stops.
    """
    taken = 0
    with seeded(0):
        model = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), run.schedule.lr, momentum=0.9)
        parts = {"model": model, "optimizer": optimizer, "draws": GlobalGenerator()}
        for epoch in run.epochs(parts):
            for step in range(epoch.steps, 4):
                if taken == stop_at:
                    raise StopError
                loss = (model(torch.randn(5, 3)) - 1).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                epoch.add({"loss": loss.item(), "squared": loss.detach().square()})
                taken += 1
                if step == 1:
                    epoch.save()
            epoch.finish(epoch.line(epoch.means()))
    return model


def log(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3, 4, 7, 11])
def test_a_stopped_training_ends_as_an_undisturbed_one(tmp_path: Path, stop_at: int):
    whole, lines = train(run_of(tmp_path / "whole")), []
    before = torch.get_rng_state()
    with pytest.raises(StopError):
        train(run_of(tmp_path / "parts"), stop_at)
    continued = train(run_of(tmp_path / "parts", lines))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(whole.weight, continued.weight)
    assert torch.equal(whole.bias, continued.bias)
    assert log(tmp_path / "whole") == log(tmp_path / "parts")
    assert lines[0].startswith("continuing after") == (stop_at > 1)
    # A finished training has nothing left to do.
    lines.clear()
    again = train(run_of(tmp_path / "parts", lines))
    assert torch.equal(whole.weight, again.weight)
    assert lines == ["continuing after 3 of 3 epochs"]


def test_equal_trainings_give_equal_files(tmp_path: Path):
    for name in ("one", "other"):
        run = run_of(tmp_path / name, values=Values(epochs=1))
        for epoch in run.epochs({"model": nn.Identity()}):
            epoch.add({"loss": 1.0})
            epoch.finish({"epoch": 1, "loss": 1.0, "seconds": 0.0})
    one, other = ((tmp_path / name / "state.pt").read_bytes() for name in ("one", "other"))
    assert one == other
    assert {file.name for file in (tmp_path / "one").iterdir()} == {
        "options.json",
        "state.pt",
        "log.jsonl",
    }


@pytest.mark.parametrize("figure", [float("nan"), torch.tensor(float("inf"))])
def test_a_figure_that_is_not_finite_ends_the_training(tmp_path: Path, figure):
    (epoch, *_) = run_of(tmp_path / "t").epochs({})

    def one_step() -> None:
        epoch.add({"loss": figure})
        epoch.means()

    with pytest.raises(UserError, match=r"'loss' is (nan|inf) in epoch 1; take a lower"):
        one_step()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no state",
        {"parts": {}, "log": [], "steps": 0, "sums": {}},
        {"parts": {"model": {"weight": torch.zeros(2, 2)}}, "log": [], "steps": 0, "sums": {}},
        [1, 2],
    ],
)
def test_a_state_that_is_damaged_or_of_another_training_is_refused(tmp_path: Path, content):
    run = run_of(tmp_path / "t")
    if isinstance(content, bytes):
        run.folder.state.write_bytes(content)
    else:
        torch.save(content, run.folder.state)
    with pytest.raises(UserError, match=r"state\.pt: .*remove it to start"):
        next(iter(run.epochs({"model": nn.Linear(3, 1)})))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\0"])
def test_options_that_cannot_be_read_are_refused(tmp_path: Path, text: str):
    (tmp_path / "options.json").write_text(text)
    with pytest.raises(UserError, match=r"options\.json: not readable") as refused:
        TrainingFolder(tmp_path, {"seed": 0})
    assert "\n" not in str(refused.value)


def test_a_folder_continues_with_the_same_options_alone(tmp_path: Path):
    TrainingFolder(tmp_path / "t", {"seed": 0})
    with pytest.raises(UserError, match="seed=0, not 1; give another --output"):
        TrainingFolder(tmp_path / "t", {"seed": 1})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give another --output"):
        TrainingFolder(tmp_path / "file" / "t", {"seed": 0})
