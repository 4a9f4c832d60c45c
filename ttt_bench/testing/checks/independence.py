"""A prediction depends neither on earlier samples nor on the other samples of a batch."""

from typing import TYPE_CHECKING

from ttt_bench.testing.declaration import FORGETTING, check
from ttt_bench.testing.outcome import Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest

NONDETERMINISTIC = Finding(
    "gives no result twice; see check_same_seed_same_result", status="skipped"
)


@check(order=8, kinds=FORGETTING)
def check_a_b_a(method: "MethodUnderTest") -> Finding:
    """Check that a batch gets the same predictions again after others."""
    from ttt_bench.testing.attempt import require_same
    from ttt_bench.testing.sequence import batch_name

    if method.nondeterminism:
        return NONDETERMINISTIC
    others = f"samples 2 to {len(method.samples)}"
    first, *_, again = method.forward_pass.predictions
    name = batch_name(method.batches[0])
    for prediction, expected in zip(again, first, strict=True):
        require_same(prediction, expected, f"{name} again after {others}")
    return Finding(f"{name} the same again after {others}")


@check(order=9, kinds=FORGETTING)
def check_order_independence(method: "MethodUnderTest") -> Finding:
    """Check that a fresh adapter predicts the same when the batches come in reverse."""
    from ttt_bench.testing.attempt import require_same
    from ttt_bench.testing.sequence import batch_name

    if method.nondeterminism:
        return NONDETERMINISTIC
    for positions in method.batches:
        what = f"{batch_name(positions)} in reverse order"
        pairs = zip(
            method.reverse_pass.of(positions), method.forward_pass.of(positions), strict=True
        )
        for prediction, expected in pairs:
            require_same(prediction, expected, what)
    return Finding(f"{len(method.samples)} samples forwards and in reverse: the same bits")


@check(order=10, kinds={"sample"})
def check_batch_independence(method: "MethodUnderTest") -> Finding:
    """Check that samples two at a time, or all at once, are predicted as if alone."""
    from ttt_bench.testing.attempt import require_same

    if method.nondeterminism:
        return NONDETERMINISTIC
    count = len(method.samples)
    for size in (2, count):
        fresh = method.fresh_adapter()
        for start in range(0, count, size):
            together = fresh.predict(method.samples[start : start + size])
            for position, prediction in enumerate(together, start=start):
                (expected,) = method.forward_pass.of((position,))
                what = f"sample {position + 1} in a batch of {size}, against alone"
                require_same(prediction, expected, what)
    return Finding(f"batches of 1, 2 and {count}: the same bits")
