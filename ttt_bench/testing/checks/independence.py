"""A prediction does not depend on what ran before, or on its neighbours."""

from ttt_bench.testing.attempt import same
from ttt_bench.testing.method import Subject
from ttt_bench.testing.suite import Finding

UNREPEATABLE = Finding("gives no result twice; see same-seed-same-result", skipped=True)


def a_b_a(subject: Subject) -> Finding:
    """A sample gets the same prediction again after others."""
    if subject.unrepeatable:
        return UNREPEATABLE
    others = f"samples 2 to {len(subject.samples)}"
    first, *_, again = subject.tour.outcomes
    same(again, first, f"sample 1 again after {others}")
    return Finding(f"sample 1 the same again after {others}")


def order_independence(subject: Subject) -> Finding:
    """A fresh adapter that gets the samples in reverse predicts each of them the same."""
    if subject.unrepeatable:
        return UNREPEATABLE
    for place in range(len(subject.samples)):
        what = f"sample {place + 1} when the samples come in reverse"
        same(subject.way_back.of(place), subject.tour.of(place), what)
    return Finding(f"{len(subject.samples)} samples forwards and in reverse: the same bits")


def batch_independence(subject: Subject) -> Finding:
    """Samples that come two at a time, or all at once, are predicted as if alone."""
    if subject.unrepeatable:
        return UNREPEATABLE
    count = len(subject.samples)
    for size in (2, count):
        trial = subject.trial()
        for at in range(0, count, size):
            together = trial.predict(subject.samples[at : at + size])
            for place, outcome in enumerate(together, start=at):
                what = f"sample {place + 1} in a batch of {size}, against alone"
                same(outcome, subject.tour.of(place), what)
    return Finding(f"batches of 1, 2 and {count}: the same bits")
