"""Randomness comes from the sample's stream: all of it, and really from there."""

from ttt_bench.testing.attempt import SEED
from ttt_bench.testing.method import Subject
from ttt_bench.testing.suite import CheckFailed, Finding


def same_seed(subject: Subject) -> Finding:
    """A fresh adapter predicts the same, wherever the global generators stand."""
    if subject.unrepeatable:
        raise CheckFailed(
            f"a fresh adapter, the same seed, other global generators: {subject.unrepeatable}"
        )
    return Finding("a fresh adapter, other global generators: the same bits")


def another_seed(subject: Subject) -> Finding:
    """A method that draws draws otherwise under another seed, and says something else."""
    purposes = ", ".join(sorted(subject.tour.asked))
    if not purposes:
        return Finding("asks its rngs for nothing", skipped=True)
    trial = subject.trial()
    for place, sample in enumerate(subject.samples):
        (outcome,) = trial.predict([sample], seed=SEED + 1)
        if gap := outcome.difference(subject.tour.of(place)):
            return Finding(f"draws for {purposes}; another seed changes sample {place + 1}'s {gap}")
    raise CheckFailed(
        f"asks its rngs for {purposes}, but another seed changes no prediction: either the "
        "draws are not used, or they do not come from what was asked for"
    )
