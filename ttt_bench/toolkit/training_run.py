"""A training that can be stopped at any moment and ends as an undisturbed one does."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ttt_bench.api.errors import UserError
from ttt_bench.toolkit.training_folder import TrainingFolder


@runtime_checkable
class Schedule(Protocol):
    """The values of a recipe; the loop reads the number of epochs."""

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A part of a training that is saved: a module, an optimizer, a scheduler, a generator."""

    def state_dict(self) -> Any:
        """Return the state, as tensors and plain values."""
        ...

    def load_state_dict(self, state: Any, /) -> Any:
        """Take a state over."""
        ...


ScheduleT = TypeVar("ScheduleT", bound=Schedule)
Figure = float | Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True)
class TrainingRun(Generic[ScheduleT]):
    """One training: its schedule, where it is saved, and where and how it is computed.

    Attributes:
        schedule: the values of the recipe.
        folder: where state, log and model are saved.
        device: where to compute.
        workers: processes that load images; 0 loads them in this one.
        report: called with a line of text after every epoch.
    """

    schedule: ScheduleT
    folder: TrainingFolder
    device: torch.device
    workers: int
    report: Callable[[str], None]

    def epochs(self, parts: Mapping[str, Stateful]) -> Iterator["Epoch"]:
        """Yield the epochs that are left, the first one perhaps begun.

        A saved state is loaded into `parts` first. All draws of an epoch must follow from the seed
        and its number, or from a generator among the parts; a training that was stopped then ends
        as an undisturbed one does.

        Args:
            parts: the parts that the training changes, by name.

        Example:
            for epoch in run.epochs({"model": model, "optimizer": optimizer}):
                for batch in batches(epoch.number):
                    epoch.add({"loss": train_on(batch)})
                epoch.finish(epoch.line(epoch.means()))

        Raises:
            UserError: the saved state is damaged.
        """
        log: list[dict[str, Any]] = []
        steps, sums = 0, {}
        if (state := self.folder.load()) is not None:
            try:
                for name, part in parts.items():
                    part.load_state_dict(state["parts"][name])
                log, steps, sums = state["log"], state["steps"], state["sums"]
            # A state of another training can fail in any way there is.
            except Exception as error:
                raise UserError(
                    f"{self.folder.state}: not a state of this training; remove it to start anew"
                ) from error
            within = f" and {steps} steps" if steps else ""
            self.report(f"continuing after {len(log)} of {self.schedule.epochs} epochs{within}")
        for number in range(len(log), self.schedule.epochs):
            yield Epoch(self, parts, log, number, steps, sums)
            steps, sums = 0, {}


class Epoch:
    """One epoch of a training.

    Attributes:
        number: the number of the epoch, from 0.
        steps: how many of its steps are done.
        log: a line of figures for every epoch that is finished.
    """

    def __init__(
        self,
        run: TrainingRun[Any],
        parts: Mapping[str, Stateful],
        log: list[dict[str, Any]],
        number: int,
        steps: int,
        sums: Mapping[str, Figure],
    ) -> None:
        self.number = number
        self.steps = steps
        self.log = log
        self._run = run
        self._parts = parts
        self._sums = dict(sums)
        self._started = time.monotonic()

    def add(self, figures: Mapping[str, Figure]) -> None:
        """Count a step and add its figures to the epoch's.

        Numbers are checked at once. Tensors are not read before `means`, so that a step does not
        wait for its device.

        Raises:
            UserError: a number is not finite.
        """
        self.steps += 1
        for name, figure in figures.items():
            if not isinstance(figure, Tensor):
                self._require_finite(name, figure)
            self._sums[name] = self._sums.get(name, 0.0) + figure

    def means(self) -> dict[str, float]:
        """Return the mean of every figure over the steps so far.

        Raises:
            UserError: a mean is not finite.
        """
        means = {name: float(total / self.steps) for name, total in self._sums.items()}
        for name, mean in means.items():
            self._require_finite(name, mean)
        return means

    def line(self, figures: Mapping[str, float]) -> dict[str, int | float]:
        """Return the epoch's line of the log: its number from 1, figures, and seconds."""
        seconds = round(time.monotonic() - self._started, 1)
        return {"epoch": self.number + 1, **figures, "seconds": seconds}

    def save(self) -> None:
        """Save the state in the middle of the epoch."""
        self._save(self.steps, self._sums)

    def finish(self, line: Mapping[str, int | float], text: str = "") -> None:
        """Save the state after the epoch's last step, and report it.

        Args:
            line: the epoch's line of the log, from `line`.
            text: the figures as the report words them; by default all of them, by name.
        """
        self.log.append(dict(line))
        self._save(0, {})
        figures = [(name, line[name]) for name in line if name not in ("epoch", "seconds")]
        text = text or "  ".join(f"{name} {value:.4f}" for name, value in figures)
        epochs = self._run.schedule.epochs
        self._run.report(f"epoch {line['epoch']}/{epochs}  {text}  {line['seconds']:.0f} s")

    def _save(self, steps: int, sums: Mapping[str, Figure]) -> None:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        state = {"parts": parts, "log": self.log, "steps": steps, "sums": dict(sums)}
        self._run.folder.save(state)

    def _require_finite(self, name: str, value: float) -> None:
        if not math.isfinite(value):
            raise UserError(
                f"the figure {name!r} is {value} in epoch {self.number + 1}; take a lower learning "
                "rate"
            )
