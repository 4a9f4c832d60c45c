"""The checks of a method as a list of small callables; making the list imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttt_bench.errors import UserError
from ttt_bench.plugins import registry

if TYPE_CHECKING:
    from ttt_bench.testing.subject import Subject

# Every check by its name, in the order they run: the function under ttt_bench.testing that does it.
CATALOGUE = {
    "configuration-round-trip": "configuration:round_trip",
    "needs-declared": "needs:needs_declared",
    "trajectory": "trajectory:trajectory",
    "last-step-reported": "trajectory:last_step_reported",
    "predictions-kept": "trajectory:predictions_kept",
    "labels-unreachable": "labels:labels_unreachable",
    "class-order": "labels:class_order",
    "a-b-a": "independence:a_b_a",
    "order-independence": "independence:order_independence",
    "batch-independence": "independence:batch_independence",
    "same-seed-same-result": "randomness:same_seed",
    "another-seed-another-draw": "randomness:another_seed",
    "parameters-restored": "restored:parameters",
    "buffers-restored": "restored:buffers",
    "gradients-cleared": "restored:gradients",
    "optimizers-reset": "restored:optimizers",
    "schedulers-reset": "restored:schedulers",
    "scalers-reset": "restored:scalers",
    "attributes-restored": "restored:attributes",
    "backbone-untouched": "restored:backbone",
    "global-state-untouched": "restored:global_state",
    "memory-bounded": "memory:memory_bounded",
    "black-image": "extremes:black_image",
    "one-pixel-image": "extremes:one_pixel_image",
    "single-class": "extremes:single_class",
    "nan-feature": "extremes:nan_feature",
}


# What a method need not pass that carries state from sample to sample on purpose.
EPISODIC = frozenset(
    {"a-b-a", "order-independence", "batch-independence", "memory-bounded"}
    | {name for name, where in CATALOGUE.items() if where.startswith(("restored:", "extremes:"))}
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
        from ttt_bench.testing.surroundings import kept

        spec = registry().adapters.find(self.subject.arguments["method"]).spec
        if spec.online and self.name in EPISODIC:
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
        from ttt_bench.testing.subject import Subject

        return Subject(**self.arguments)


def adapter_checks(
    method: str,
    *,
    backbone: str | None = None,
    dataset: str = "cifar10-c-mini",
    overrides: Mapping[str, Any] | None = None,
    samples: int = 5,
    data_root: Path | None = None,
    device: str = "auto",
) -> list[Check]:
    """Every check of a method, for `pytest.mark.parametrize`.

    Nothing is loaded until the first of them is called; the others share what it loaded.

    Args:
        method: its registered name.
        backbone: None for the dataset's default for the method's family.
        overrides: fields of the method's configuration.
        samples: how many of the dataset are taken, spread over its conditions; at least 3.
        data_root: where datasets are looked for.
        device: auto, cpu, cuda or mps.

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
            "overrides": dict(overrides or {}),
            "samples": samples,
            "data_root": data_root,
            "device": device,
        }
    )
    return [Check(name, subject) for name in CATALOGUE]
