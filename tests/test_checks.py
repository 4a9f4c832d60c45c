"""The conformance kit finds every planted fault by the check made for it, and no other fault."""

import copy
import functools
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.planted.clean import BoundedMemory, is_bright
from tests.planted.faults import (
    CLEAN,
    FAULTS,
    Fault,
    method_name,
    planted_methods,
    planted_spec,
)
from ttt_bench import Backbone, UserError, load_backbone, registered
from ttt_bench.testing import CATALOGUE, CheckFailed, adapter_checks, method
from ttt_bench.testing.snapshot import global_state
from ttt_bench.testing.suite import checks_of_kind

# These compare what two passes recorded, and one more adapter: all of them together are quick.
CHECKS_ON_FORWARD_AND_REVERSE = {
    "check_configuration_round_trip",
    "check_prediction_scores",
    "check_last_step_reported",
    "check_predictions_kept",
    "check_a_b_a",
    "check_order_independence",
    "check_same_seed_same_result",
    *(name for name in CATALOGUE if name.endswith(("_restored", "_reset", "_cleared"))),
    "check_backbone_untouched",
}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the planted methods; each gets a copy of one loaded backbone."""

    def load_copy(name: str, device: str, weights: None) -> Backbone:
        original = load_once(name, device)
        # The tokenizer is large and never changes.
        tokenizer = vars(original).get("tokenizer")
        return copy.deepcopy(original, {id(tokenizer): tokenizer})

    monkeypatch.setattr(method, "load_backbone", load_copy)
    with planted_methods():
        yield


@functools.cache
def load_once(name: str, device: str) -> Backbone:
    return load_backbone(name, device)


def failures(name: str, chosen: set[str]) -> dict[str, str]:
    """Run some checks, and return the messages of those that fail."""
    messages = {}
    for check in adapter_checks(name, samples=3, device="cpu"):
        if check.name in chosen:
            try:
                check()
            except CheckFailed as failure:
                messages[check.name] = str(failure)
    return messages


@pytest.mark.parametrize("code", CLEAN)
def test_a_clean_method_passes_every_check(code: str):
    checks = adapter_checks(method_name(code), samples=3, device="cpu")
    findings = {check.name: check() for check in checks}
    assert list(findings) == checks_of_kind(CLEAN[code])
    skipped = {name for name, finding in findings.items() if finding.skipped}
    # The first method iterates and draws; the others do neither.
    may_skip = {"check_last_step_reported", "check_another_seed_another_draw"}
    assert skipped == (set() if code == "clean.Fitted" else may_skip)


def test_the_size_asked_for_late_is_asked_for_late():
    checks = adapter_checks("clean-asksforanothersizelate", samples=3, device="cpu")
    samples = checks[0].shared.loaded.samples
    assert [is_bright(sample.image) for sample in samples[:2]] == [False, True]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found_by_the_check_made_for_it(fault: Fault):
    messages = failures(fault.name, CHECKS_ON_FORWARD_AND_REVERSE | {fault.check})
    assert set(messages) == {fault.check} | fault.also, messages
    assert fault.finds in messages[fault.check]
    assert "\n" not in messages[fault.check]


def test_every_check_finds_a_fault():
    assert {fault.check for fault in FAULTS} == set(CATALOGUE)


def test_a_check_has_a_place_of_its_own_and_a_kind():
    orders = [declared.order for declared in CATALOGUE.values()]
    assert orders == sorted(set(orders))
    assert all(declared.kinds for declared in CATALOGUE.values())
    assert all(name == declared.function.__name__ for name, declared in CATALOGUE.items())


def test_a_method_is_asked_the_checks_of_its_kind():
    names = {kind: set(checks_of_kind(kind)) for kind in ("sample", "batch", "stream")}
    assert "check_batch_independence" not in names["batch"]
    assert names["batch"] - names["stream"] >= {"check_a_b_a", "check_parameters_restored"}
    assert "check_backbone_untouched" in set.intersection(*names.values())
    assert set.union(*names.values()) == set(CATALOGUE)
    online = [check.name for check in adapter_checks("clean-runningcentre")]
    assert online == checks_of_kind("stream")


def test_a_memory_too_large_to_fill_is_skipped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BoundedMemory, "capacity", 100_000)
    checks = adapter_checks("clean-boundedmemory", samples=3, device="cpu")
    (check,) = (check for check in checks if check.name == "check_samples_kept")
    finding = check()
    assert finding.skipped
    assert "keeps up to 100,000 samples" in finding.text


def test_batches_have_the_configurations_size():
    checks = adapter_checks("clean-batchcentred", samples=3, device="cpu")
    assert checks[0].shared.loaded.config["batch_size"] == 2
    assert checks[0].shared.loaded.batches == [(0, 1), (2, 0)]
    settings = {"batch_size": 1}
    checks = adapter_checks("clean-batchcentred", samples=3, device="cpu", settings=settings)
    assert checks[0].shared.loaded.batches == [(0,), (1,), (2,)]
    ragged = next(check for check in checks if check.name == "check_ragged_batch")
    assert ragged().skipped


def test_a_check_leaves_the_process_as_it_was():
    before = global_state.read()
    failures("randomness-switches", {"check_global_state_untouched"})
    failures("randomness-torchseeded", {"check_same_seed_same_result"})
    # The type checks of these tests draw from python's generator.
    assert set(global_state.differences(before, global_state.read())) <= {global_state.PYTHON}


def test_a_setup_that_raises_fails_every_check():
    messages = failures("outputs-stops", {"check_a_b_a", "check_prediction_scores"})
    assert messages == dict.fromkeys(
        ("check_a_b_a", "check_prediction_scores"), "setup raises ZeroDivisionError: no views"
    )


def test_a_known_failure_fails_no_test_and_shows_its_reason():
    reason = "as in the paper"
    spec = replace(
        planted_spec("state_leaks.WeightsKept"),
        name="declared",
        known_failures={"check_parameters_restored": reason, "check_buffers_restored": reason},
    )
    with registered(adapters=[spec]):
        checks = {c.name: c for c in adapter_checks("declared", samples=3, device="cpu")}
        failed = checks["check_parameters_restored"]()
        passed = checks["check_buffers_restored"]()
        with pytest.raises(CheckFailed):
            checks["check_a_b_a"]()
    assert failed.status == "known failure"
    assert failed.text.startswith("as in the paper (after sample 1, adapter.net.0.weight has")
    assert passed.status == "passed"
    assert "remove it from the method's known_failures" in passed.text


def test_a_known_failure_of_no_check_is_refused():
    spec = replace(planted_spec("clean.Fitted"), name="typo", known_failures={"check_aba": "why"})
    with registered(adapters=[spec]), pytest.raises(UserError, match="did you mean check_a_b_a"):
        adapter_checks("typo")
