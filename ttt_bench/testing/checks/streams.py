"""Methods of the kinds `batch` and `stream` begin anew with a setup, and take any batch."""

from typing import TYPE_CHECKING, Any

from ttt_bench.api.errors import UserError
from ttt_bench.testing.checks.independence import NONDETERMINISTIC
from ttt_bench.testing.declaration import BATCHED, check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.api.sample import Sample
    from ttt_bench.testing.attempt import FreshAdapter, PredictionCopy
    from ttt_bench.testing.method import MethodUnderTest
    from ttt_bench.testing.snapshot.children import Kind


@check(order=11, kinds=BATCHED)
def check_fresh_setup(method: "MethodUnderTest") -> Finding:
    """Check that a stream is predicted alike alone, and after another one with a new setup."""
    from ttt_bench.testing.attempt import require_same
    from ttt_bench.testing.sequence import batch_name

    if method.nondeterminism:
        return NONDETERMINISTIC
    first, second = method.batches, method.batches[::-1]
    alone = method.fresh_adapter()
    expected = [alone.predict(method.batch(positions)) for positions in second]
    # A worker gives every stream a new adapter on the same task.
    task = method.task()
    before = method.fresh_adapter(task)
    for positions in first:
        before.predict(method.batch(positions))
    after = method.fresh_adapter(task)
    for positions, alike in zip(second, expected, strict=True):
        for prediction, other in zip(after.predict(method.batch(positions)), alike, strict=True):
            what = f"{batch_name(positions)} after another stream and a new setup, against alone"
            require_same(prediction, other, what)
    return Finding(f"{len(second)} batches alone and after another stream: the same bits")


@check(order=12, kinds=BATCHED)
def check_nothing_outside_setup(method: "MethodUnderTest") -> Finding:
    """Check that a stream changes neither the task nor the method's classes and modules."""
    from ttt_bench.testing.snapshot.tree import diff, roots_of

    states = method.forward_pass.states
    classes = method.pristine_classes.parts
    changes = diff(method.pristine_classes, roots_of(states[-1], classes))
    changes += diff(roots_of(states[0], ["task"]), roots_of(states[-1], ["task"]))
    for change in changes:
        # The backbone, a part of the task, has a check of its own.
        if change.kind != "backbone":
            raise CheckFailed(
                f"after a stream, {change.text}; keep it on the adapter, which a new setup replaces"
            )
    return Finding("the task, the classes and the modules of the method as before")


@check(order=13, kinds={"stream"})
def check_state_saved(method: "MethodUnderTest") -> Finding:
    """Check that a stream goes on bit for bit from a state saved at any border of its batches."""
    from ttt_bench.engine.state.packed import EncodedState, unpack
    from ttt_bench.testing.attempt import require_same
    from ttt_bench.testing.sequence import batch_name

    if method.nondeterminism:
        return NONDETERMINISTIC
    batches = method.forward_pass.batches
    saved, size = method.fresh_adapter(), 0
    for border, positions in enumerate(batches):
        when = f"before {batch_name(positions)}" if border else "after setup"
        other = method.fresh_adapter()
        try:
            content = EncodedState(saved.adapter).pack()
            unpack(other.adapter, other.task, content)
        except UserError as error:
            raise CheckFailed(f"{when}, {error}") from error
        size = max(size, len(content))
        for later in range(border, len(batches)):
            what = f"{batch_name(batches[later])} from the state saved {when}"
            predictions = other.predict(method.batch(batches[later]))
            expected = method.forward_pass.predictions[later]
            for prediction, one in zip(predictions, expected, strict=True):
                require_same(prediction, one, what)
        saved.predict(method.batch(positions))
    return Finding(f"{len(batches)} borders, up to {size:,} bytes: the same bits from each")


@check(order=24, kinds=BATCHED)
def check_batch_statistics_restored(method: "MethodUnderTest") -> Finding:
    """Check that batch normalization in the shared backbone is put back after every batch."""
    from ttt_bench.testing.fakes.batch_norm_backbone import batch_norm_in_front
    from ttt_bench.testing.sequence import batch_name
    from ttt_bench.testing.snapshot.tree import diff, take_snapshot

    backbone = method.fresh_backbone()
    with batch_norm_in_front(backbone) as normalization:
        if normalization is None:
            return Finding("the backbone has no layer that takes pixels", "skipped")
        roots: dict[str, tuple[Any, Kind]] = {"backbone.batch_norm": (normalization, "backbone")}
        pristine = take_snapshot(roots)
        try:
            fresh = method.fresh_adapter(method.task(backbone=backbone))
            for positions in method.batches:
                fresh.predict(method.batch(positions))
                for change in diff(pristine, take_snapshot(roots)):
                    raise CheckFailed(f"after {batch_name(positions)}, {change.text}")
        except UserError as refusal:
            return Finding(f"refuses batch normalization: {refusal}", "skipped")
    return Finding(f"statistics, mode and weights as before around {len(method.batches)} batches")


@check(order=28, kinds=BATCHED)
def check_ragged_batch(method: "MethodUnderTest") -> Finding:
    """Check that the last batch of a stream may be smaller than the others."""
    from ttt_bench.testing.attempt import require_same

    full = method.batch(method.batches[0])
    if len(full) == 1:
        return Finding("its batches are single samples", "skipped")
    last = method.batch(method.batches[1][:1])
    fresh = method.fresh_adapter()
    fresh.predict(full)
    (prediction,) = _require_finite(method, fresh, last, "a last batch of one sample")
    if method.spec.kind == "batch" and not method.nondeterminism:
        (alone,) = method.fresh_adapter().predict(last)
        require_same(prediction, alone, "a batch of one sample after a full one, against alone")
    return Finding(f"a batch of one sample after a batch of {len(full)}: finite scores")


@check(order=31, kinds=BATCHED)
def check_odd_inputs_in_a_batch(method: "MethodUnderTest") -> Finding:
    """Check that odd images leave finite scores for their batch and for the next one."""
    from PIL import Image

    from ttt_bench.api.sample import Sample

    ordinary = method.batch(method.batches[0])
    twin = Sample("twin", ordinary[0].image)
    odd = {
        "a black image": Sample("black", Image.new("RGB", twin.image.size)),
        "a 1x1 image": Sample("pixel", Image.new("RGB", (1, 1), "orange")),
        "two equal images": twin,
    }
    refused: list[str] = []
    for what, sample in odd.items():
        fresh = method.fresh_adapter()
        try:
            _require_finite(method, fresh, [*ordinary[:-1], sample], f"a batch with {what}")
        except UserError:
            refused.append(what)
        _require_finite(method, fresh, ordinary, f"the batch after {what}")
    text = f"finite scores with {', '.join(what for what in odd if what not in refused) or 'none'}"
    return Finding(text + (f"; refuses {', '.join(refused)}" if refused else ""))


def _require_finite(
    method: "MethodUnderTest", fresh: "FreshAdapter", samples: "list[Sample]", what: str
) -> "list[PredictionCopy]":
    """Return the predictions of a batch, each of which must keep the contract."""
    from ttt_bench.api.contract import violations

    predictions = fresh.predict(samples)
    for position, copy in enumerate(predictions, start=1):
        for violation in violations(copy.prediction, len(method.dataset.classes)):
            raise CheckFailed(f"{what}: its sample {position}: {violation.text}")
    return predictions
