"""After a batch everything is as it was before: one check for each kind of state."""

from typing import TYPE_CHECKING

from ttt_bench.testing.declaration import FORGETTING, check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.testing.method import MethodUnderTest
    from ttt_bench.testing.snapshot.children import Kind


@check(order=16, kinds=FORGETTING)
def check_parameters_restored(method: "MethodUnderTest") -> Finding:
    """Check that weights that were trained on a sample are drawn or loaded anew."""
    return _restored(method, "parameter")


@check(order=17, kinds=FORGETTING)
def check_buffers_restored(method: "MethodUnderTest") -> Finding:
    """Check that BatchNorm's running statistics, and other buffers, are put back."""
    return _restored(method, "buffer")


@check(order=18, kinds=FORGETTING)
def check_gradients_cleared(method: "MethodUnderTest") -> Finding:
    """Check that no gradient is left for the next sample's to be added to."""
    return _restored(method, "gradient")


@check(order=19, kinds=FORGETTING)
def check_optimizers_reset(method: "MethodUnderTest") -> Finding:
    """Check that optimizer moments, step counts and rates start anew."""
    return _restored(method, "optimizer")


@check(order=20, kinds=FORGETTING)
def check_schedulers_reset(method: "MethodUnderTest") -> Finding:
    """Check that learning rate schedules start anew."""
    return _restored(method, "scheduler")


@check(order=21, kinds=FORGETTING)
def check_scalers_reset(method: "MethodUnderTest") -> Finding:
    """Check that a GradScaler's scale and counters start anew."""
    return _restored(method, "scaler")


@check(order=22, kinds=FORGETTING)
def check_attributes_restored(method: "MethodUnderTest") -> Finding:
    """Check everything else that the adapter, its classes and its modules hold."""
    return _restored(method, "attribute")


@check(order=23)
def check_backbone_untouched(method: "MethodUnderTest") -> Finding:
    """Check that the backbone, which other methods share, is as before."""
    return _restored(method, "backbone")


@check(order=25)
def check_global_state_untouched(method: "MethodUnderTest") -> Finding:
    """Check the generators and switches of the whole process."""
    from ttt_bench.testing.sequence import batch_name
    from ttt_bench.testing.snapshot import global_state

    run = method.forward_pass
    names = ["setup", *map(batch_name, run.batches)]
    for name, (before, after) in zip(names, run.global_states, strict=True):
        changed = global_state.differences(before, after)
        if global_state.PYTHON in changed and not _draws_from_python(method):
            changed.remove(global_state.PYTHON)
        if changed:
            raise CheckFailed(f"{' and '.join(changed)} changed during {name}")
    return Finding(f"generators and switches as before around {_extent(method)}")


def _draws_from_python(method: "MethodUnderTest") -> bool:
    from ttt_bench.testing.snapshot import global_state

    fresh = method.fresh_adapter()
    with global_state.substitute_python_rng() as generator:
        before = generator.getstate()
        for positions in method.batches:
            fresh.predict(method.batch(positions))
        return generator.getstate() != before


def _restored(method: "MethodUnderTest", kind: "Kind") -> Finding:
    from ttt_bench.testing.snapshot.tree import count_leaves, diff

    run = method.forward_pass
    changes = list(run.leaks(kind))
    if changes:
        others = len({change.path for change in changes}) - 1
        raise CheckFailed(changes[0].text + (f" (and {others} more)" if others else ""))
    if method.spec.kind != "stream":
        # A cache may be filled by the first batch, but must not tell which one that was.
        for change in diff(method.reverse_pass.states[1], run.states[1]):
            if change.kind == kind:
                became = change.text.removeprefix(change.path)
                raise CheckFailed(f"{change.path} depends on which sample came first: it{became}")
    kept = count_leaves(run.states[-1], kind)
    around = f"around {_extent(method)}"
    return Finding(f"{kept:,} values the same {around}" if kept else f"none is kept {around}")


def _extent(method: "MethodUnderTest") -> str:
    what = "samples" if method.spec.kind == "sample" else "batches"
    return f"{len(method.forward_pass.batches)} {what}"
