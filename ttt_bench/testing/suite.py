"""The checks of a method as a list of small callables; making the list imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttt_bench.api.errors import UserError
from ttt_bench.registry import registry

if TYPE_CHECKING:
    from ttt_bench.testing.method import Subject

# Every check by its name, in the order they run: the function under ttt_bench.testing that does it.
CATALOGUE = {
    "configuration-round-trip": "checks.configuration:round_trip",
    "needs-declared": "checks.capabilities:needs_declared",
    "trajectory": "checks.predictions:trajectory",
    "last-step-reported": "checks.predictions:last_step_reported",
    "predictions-kept": "checks.predictions:predictions_kept",
    "labels-unreachable": "checks.labels:labels_unreachable",
    "class-order": "checks.labels:class_order",
    "a-b-a": "checks.independence:a_b_a",
    "order-independence": "checks.independence:order_independence",
    "batch-independence": "checks.independence:batch_independence",
    "same-seed-same-result": "checks.randomness:same_seed",
    "another-seed-another-draw": "checks.randomness:another_seed",
    "parameters-restored": "checks.reset:parameters",
    "buffers-restored": "checks.reset:buffers",
    "gradients-cleared": "checks.reset:gradients",
    "optimizers-reset": "checks.reset:optimizers",
    "schedulers-reset": "checks.reset:schedulers",
    "scalers-reset": "checks.reset:scalers",
    "attributes-restored": "checks.reset:attributes",
    "backbone-untouched": "checks.reset:backbone",
    "global-state-untouched": "checks.reset:global_state_untouched",
    "memory-bounded": "checks.memory:memory_bounded",
    "black-image": "checks.degenerate_inputs:black_image",
    "one-pixel-image": "checks.degenerate_inputs:one_pixel_image",
    "single-class": "checks.degenerate_inputs:single_class",
    "nan-feature": "checks.degenerate_inputs:nan_feature",
}


# What a method need not pass that carries state from sample to sample on purpose.
EPISODIC = frozenset(
    {"a-b-a", "order-independence", "batch-independence", "memory-bounded"}
    | {
        name
        for name, where in CATALOGUE.items()
        if where.startswith(("checks.reset:", "checks.degenerate_inputs:"))
    }
    - {"backbone-untouched", "global-state-untouched"}
)


class CheckFailed(AssertionError):  # noqa: N818
    """A check found something; the message is one line that says what, and where."""


@dataclass(frozen=True)
class Finding:
    """What a check that did not fail has to say.

    Attributes:
        text: one line.
        skipped: whether the check does not apply to the method; the text says why.
    """

    text: str
    skipped: bool = False


@dataclass(frozen=True)
class Check:
    """One check of one method, ready to be called; `str` of it is its name.

    Attributes:
        subject: the loaded method, shared by the checks of one list.
    """

    name: str
    subject: "SharedSubject" = field(repr=False)

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> Finding:
        """Run it.

        Raises:
            CheckFailed: the method has the fault that this check is made for, or cannot be run.
            UserError: the method cannot be loaded as asked: a wrong name, a missing file.
        """
        from ttt_bench.testing.snapshot.global_state import kept

        spec = registry().adapters.find(self.subject.arguments["method"]).spec
        if spec.kind == "stream" and self.name in EPISODIC:
            return Finding("online: it carries state on purpose", skipped=True)
        module, _, function = CATALOGUE[self.name].partition(":")
        with kept():
            subject = self.subject.loaded
            _ = subject.fits
            try:
                return getattr(import_module(f"ttt_bench.testing.{module}"), function)(subject)
            except UserError as refusal:
                raise CheckFailed(f"refuses what every method is given: {refusal}") from refusal


@dataclass(frozen=True)
class SharedSubject:
    """What to load, and once a check has asked for it, the subject itself."""

    arguments: Mapping[str, Any]

    @cached_property
    def loaded(self) -> "Subject":
        """The method with its dataset and backbone.

        Raises:
            UserError: one of them cannot be had.
        """
        from ttt_bench.testing.method import Subject

        return Subject(**self.arguments)


def adapter_checks(
    method: str,
    *,
    backbone: str | None = None,
    dataset: str = "cifar10-c-mini",
    settings: Mapping[str, Any] | None = None,
    samples: int = 5,
    data_root: Path | None = None,
    device: str = "auto",
    weights: Path | None = None,
) -> list[Check]:
    """Every check of a method, for `pytest.mark.parametrize`.

    Nothing is loaded until the first of them is called; the others share what it loaded.

    Args:
        method: its registered name.
        backbone: None for the dataset's default for the method's family.
        settings: fields of the method's configuration.
        samples: how many of the dataset are taken, spread over its conditions; at least 3.
        data_root: where datasets are looked for.
        device: auto, cpu, cuda or mps.
        weights: a file of weights for the named backbone.

    Raises:
        UserError: there is no such method, dataset or backbone, or too few samples.
    """
    plugins = registry()
    plugins.adapters.find(method)
    plugins.datasets.find(dataset)
    if backbone is not None:
        plugins.backbones.find(backbone)
    if samples < 3:
        raise UserError(f"{samples} samples cannot show what a method keeps; take at least 3")
    subject = SharedSubject(
        {
            "method": method,
            "backbone": backbone,
            "dataset": dataset,
            "settings": dict(settings or {}),
            "weights": weights,
            "samples": samples,
            "data_root": data_root,
            "device": device,
        }
    )
    return [Check(name, subject) for name in CATALOGUE]
