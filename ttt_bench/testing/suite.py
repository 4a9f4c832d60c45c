"""The checks of a method as a list of small callables; making the list imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttt_bench.api.errors import UserError, unknown
from ttt_bench.api.specs import AdapterSpec, Kind
from ttt_bench.registry import registry
from ttt_bench.testing import checks as checks  # declares the checks
from ttt_bench.testing.declaration import DECLARATIONS, Declaration
from ttt_bench.testing.outcome import FEWEST_SAMPLES, CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest

# Every check by its id, in the order in which they run.
CATALOGUE: dict[str, Declaration] = dict(
    sorted(DECLARATIONS.items(), key=lambda item: item[1].order)
)


@dataclass(frozen=True)
class Check:
    """One check of one method, ready to be called; `str` of it is its id.

    Attributes:
        name: the id.
        shared: the loaded method, shared by the checks of one list.
        known_failure: the reason for which the method fails this check by design, "" for none.
    """

    name: str
    shared: "SharedMethod" = field(repr=False)
    known_failure: str = ""

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> Finding:
        """Run the check.

        Raises:
            CheckFailed: the method has the fault that this check looks for, or cannot be run.
            UserError: the method cannot be loaded as asked: a wrong name, a missing file.
        """
        try:
            finding = self._run()
        except CheckFailed as failure:
            if not self.known_failure:
                raise
            return Finding(f"{self.known_failure} ({failure})", "known failure")
        if self.known_failure and not finding.skipped:
            return Finding(
                f"{finding.text}; no longer fails: remove it from the method's known_failures"
            )
        return finding

    def _run(self) -> Finding:
        from ttt_bench.testing.snapshot.global_state import preserved

        with preserved():
            method = self.shared.loaded
            method.require_setup()
            try:
                return CATALOGUE[self.name].function(method)
            except UserError as refusal:
                raise CheckFailed(f"refuses ordinary input: {refusal}") from refusal


@dataclass(frozen=True)
class SharedMethod:
    """The arguments of a method under test, and, once a check needs it, the method itself."""

    arguments: Mapping[str, Any]

    @cached_property
    def loaded(self) -> "MethodUnderTest":
        """The method with its dataset and backbone.

        Raises:
            UserError: one of them cannot be loaded.
        """
        from ttt_bench.testing.method import MethodUnderTest

        return MethodUnderTest(**self.arguments)


def checks_of_kind(kind: Kind) -> list[str]:
    """Return the ids of the checks that methods of a kind are asked, in their order."""
    return [name for name, declared in CATALOGUE.items() if kind in declared.kinds]


def require_known_checks(spec: AdapterSpec) -> None:
    """Refuse a spec whose `known_failures` name what is no check of its kind.

    Raises:
        UserError: the first such name, with the nearest ids.
    """
    asked = checks_of_kind(spec.kind)
    for name in spec.known_failures:
        if name not in asked:
            raise unknown(
                f"check of a method of kind {spec.kind}",
                name,
                asked,
                hint=f"in the known_failures of {spec.name}",
            )


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
    """Return every check that a method of its kind is asked, for `pytest.mark.parametrize`.

    Nothing is loaded until the first check is called; the others share what it loaded.

    Args:
        method: its registered name.
        backbone: None for the default of the dataset and the method's family.
        dataset: where the samples are from.
        settings: fields of the method's configuration.
        samples: how many samples to take, spread over the dataset's groups; at least 3.
        data_root: the folder to look for datasets in.
        device: auto, cpu, cuda or mps.
        weights: a file of weights for the named backbone.

    Raises:
        UserError: there is no such method, dataset or backbone, there are too few samples, or the
            method declares a known failure of an unknown check.
    """
    plugins = registry()
    spec = plugins.adapters.find(method).spec
    plugins.datasets.find(dataset)
    if backbone is not None:
        plugins.backbones.find(backbone)
    if samples < FEWEST_SAMPLES:
        raise UserError(
            f"{samples} samples are too few to find a leak; take at least {FEWEST_SAMPLES}"
        )
    require_known_checks(spec)
    shared = SharedMethod(
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
    return [
        Check(name, shared, spec.known_failures.get(name, "")) for name in checks_of_kind(spec.kind)
    ]
