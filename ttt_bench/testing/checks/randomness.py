"""All randomness comes from the generators of the sample."""

from typing import TYPE_CHECKING

from ttt_bench.testing.declaration import check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest


@check(order=14)
def check_same_seed_same_result(method: "MethodUnderTest") -> Finding:
    """Check that a fresh adapter predicts the same under other global seeds."""
    if method.nondeterminism:
        raise CheckFailed(
            f"a fresh adapter, the same seed, other global generators: {method.nondeterminism}"
        )
    return Finding("a fresh adapter, other global generators: the same bits")


@check(order=15)
def check_another_seed_another_draw(method: "MethodUnderTest") -> Finding:
    """Check that a method that draws predicts something else under another seed.

    A draw of an online method may also show in its state, long before it changes a prediction.
    """
    from ttt_bench.testing.attempt import SEED
    from ttt_bench.testing.sequence import batch_name, state_of
    from ttt_bench.testing.snapshot.tree import diff, roots_of

    purposes = ", ".join(sorted(method.forward_pass.purposes))
    if not purposes:
        return Finding("draws nothing", "skipped")
    fresh = method.fresh_adapter()
    for positions in method.batches:
        predictions = fresh.predict(method.batch(positions), seed=SEED + 1)
        for prediction, forward in zip(predictions, method.forward_pass.of(positions), strict=True):
            if difference := prediction.difference(forward):
                return Finding(
                    f"draws for {purposes}; another seed changes {batch_name(positions)} in "
                    f"{difference.partition(' (')[0]}"
                )
    if method.spec.kind == "stream":
        expected, state = method.forward_pass.states[len(method.batches)], state_of(fresh)
        for change in diff(roots_of(expected, ["adapter"]), roots_of(state, ["adapter"])):
            return Finding(f"draws for {purposes}; another seed changes {change.path}")
    raise CheckFailed(
        f"asks its rngs for {purposes}, but another seed changes no prediction: either the "
        "draws are not used, or they come from a generator of its own"
    )
