"""The conformance kit finds every planted fault with the check made for it, and nothing else."""

import copy
import functools

import pytest

from tests.planted.faults import CLEAN, FAULTS, STOPS, Fault, plant
from ttt_bench import Backbone, load_backbone
from ttt_bench.testing import subject
from ttt_bench.testing.sequence import differences
from ttt_bench.testing.suite import CATALOGUE, CheckFailed, adapter_checks

# These look at what two tours saw, and at one more trial: all of them together are quick.
OF_THE_TOURS = {
    "configuration-round-trip",
    "trajectory",
    "last-step-reported",
    "predictions-kept",
    "a-b-a",
    "order-independence",
    "same-seed-same-result",
    *(name for name in CATALOGUE if name.endswith(("-restored", "-reset", "-cleared"))),
    "backbone-untouched",
}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods with faults, each on a backbone of its own: a copy of one loaded once."""

    def copied(name: str, device: str) -> Backbone:
        original = pristine(name, device)
        # The tokenizer is large and never changes.
        tokenizer = vars(original).get("tokenizer")
        return copy.deepcopy(original, {id(tokenizer): tokenizer})

    plant(monkeypatch)
    monkeypatch.setattr(subject, "load_backbone", copied)


@functools.cache
def pristine(name: str, device: str) -> Backbone:
    return load_backbone(name, device)


def failures(method: str, wanted: set[str]) -> dict[str, str]:
    """The checks among the wanted ones that fail, with what they found."""
    found = {}
    for check in adapter_checks(method, samples=3, device="cpu"):
        if check.name in wanted:
            try:
                check()
            except CheckFailed as failure:
                found[check.name] = str(failure)
    return found


def test_the_clean_method_passes_every_check():
    findings = {str(c): c() for c in adapter_checks(CLEAN.name, samples=4, device="cpu")}
    assert list(findings) == list(CATALOGUE)
    assert not [name for name, finding in findings.items() if finding.skipped]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_by_the_check_made_for_it(fault: Fault):
    found = failures(fault.name, OF_THE_TOURS | {fault.check})
    assert set(found) == {fault.check} | fault.also, found
    assert fault.finds in found[fault.check]
    assert "\n" not in found[fault.check]


def test_every_check_finds_a_fault():
    assert {fault.check for fault in FAULTS} == set(CATALOGUE)


def test_a_check_leaves_the_process_as_it_was():
    before = global_state.look()
    failures("drawn-switches", {"global-state-untouched"})
    failures("drawn-torchseeded", {"same-seed-same-result"})
    # The type checks of these tests draw from python's generator.
    assert set(differences(before, global_state.look())) <= {global_state.PYTHON}


def test_a_setup_that_raises_is_a_finding():
    found = failures(STOPS.name, {"a-b-a", "trajectory"})
    assert found == dict.fromkeys(
        ("a-b-a", "trajectory"), "setup raises ZeroDivisionError: no views"
    )
