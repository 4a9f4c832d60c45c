"""After a sample everything is as before it: one check for each kind of state."""

from ttt_bench.testing.method import Subject
from ttt_bench.testing.sequence import differences
from ttt_bench.testing.snapshot import global_state
from ttt_bench.testing.snapshot.children import Kind
from ttt_bench.testing.snapshot.tree import changes, held
from ttt_bench.testing.suite import CheckFailed, Finding


def parameters(subject: Subject) -> Finding:
    """Weights that were trained on a sample are drawn or loaded anew."""
    return _restored(subject, "parameter")


def buffers(subject: Subject) -> Finding:
    """BatchNorm's running statistics, and other buffers, are put back."""
    return _restored(subject, "buffer")


def gradients(subject: Subject) -> Finding:
    """No gradient is left for the next sample's to be added to."""
    return _restored(subject, "gradient")


def optimizers(subject: Subject) -> Finding:
    """Moments, step counts and rates start anew."""
    return _restored(subject, "optimizer")


def schedulers(subject: Subject) -> Finding:
    """Schedules start anew."""
    return _restored(subject, "scheduler")


def scalers(subject: Subject) -> Finding:
    """A GradScaler's scale and counters start anew."""
    return _restored(subject, "scaler")


def attributes(subject: Subject) -> Finding:
    """What else the adapter, its class and its module hold."""
    return _restored(subject, "attribute")


def backbone(subject: Subject) -> Finding:
    """The backbone is shared by the methods of a command."""
    return _restored(subject, "backbone")


def global_state_untouched(subject: Subject) -> Finding:
    """Generators and switches that belong to the whole process."""
    tour = subject.tour
    names = ["setup", *(f"sample {place + 1}" for place in tour.order)]
    for name, (before, after) in zip(names, tour.around, strict=True):
        found = differences(before, after)
        if global_state.PYTHON in found and not _draws_from_python(subject):
            found.remove(global_state.PYTHON)
        if found:
            raise CheckFailed(f"{' and '.join(found)} changed during {name}")
    return Finding(f"generators and switches as before around {len(tour.order)} samples")


def _draws_from_python(subject: Subject) -> bool:
    trial = subject.trial()
    with global_state.decoy() as generator:
        before = generator.getstate()
        for sample in subject.samples:
            trial.predict([sample])
        return generator.getstate() != before


def _restored(subject: Subject, kind: Kind) -> Finding:
    found = list(subject.tour.found(kind))
    if found:
        rest = len({change.path for change in found}) - 1
        raise CheckFailed(found[0].text + (f" (and {rest} more)" if rest else ""))
    # A cache may be filled by the first sample, but must not tell which one that was.
    for change in changes(subject.way_back.states[1], subject.tour.states[1]):
        if change.kind == kind:
            raise CheckFailed(f"{change.path} depends on which sample came first")
    kept = held(subject.tour.states[-1], kind)
    samples = f"around {len(subject.tour.order)} samples"
    return Finding(f"{kept:,} values the same {samples}" if kept else f"none is kept {samples}")
