"""The pixels decide a prediction: not a label, not a name, not the order of the classes."""

from typing import TYPE_CHECKING

from ttt_bench.testing.checks.independence import NONDETERMINISTIC
from ttt_bench.testing.declaration import check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from ttt_bench.testing.fakes.label_leaks import PlantedLabels, Where
    from ttt_bench.testing.method import MethodUnderTest

# Batches that are predicted with planted labels.
BATCHES = 2
# Rounding changes with the order of a sum.
TOLERANCE = 1e-3
DESCRIPTIONS: "dict[Where, str]" = {
    "sample": "on the sample (label, target, path, entry, ...)",
    "image": "on the image (filename, info, label, ...)",
    "task": "on the task (labels, dataset, entries, ...)",
    "id": "in the sample's id",
}


@check(order=6)
def check_labels_unreachable(method: "MethodUnderTest") -> Finding:
    """Check that planted labels, right ones and wrong ones, change no prediction.

    The engine gives a method no label. The check asks what the method would do with one.
    """
    from ttt_bench.testing.fakes.label_leaks import PlantedLabels

    classes = len(method.dataset.classes)
    if classes < 2:
        return Finding("the dataset has a single class", "skipped")
    if method.nondeterminism:
        return NONDETERMINISTIC
    together: tuple[Where, ...] = ("sample", "image", "task")
    alone: tuple[Where, ...] = ("id",)
    for shift in (0, 1):
        labels = PlantedLabels(method.dataset, method.indices, shift)
        for places in (together, alone):
            if not _difference(method, labels, places):
                continue
            for where in places:
                if difference := _difference(method, labels, (where,)):
                    raise CheckFailed(
                        f"the prediction follows a label {DESCRIPTIONS[where]}: it differs in "
                        f"{difference}"
                    )
            raise CheckFailed(f"the prediction follows labels on {' and '.join(places)} together")
    return Finding("right and wrong labels within reach: the same bits")


@check(order=7)
def check_class_order(method: "MethodUnderTest") -> Finding:
    """Check that every class keeps its scores when the classes come in reverse order."""
    import torch

    from ttt_bench.testing.sequence import batch_name

    order = list(range(len(method.dataset.classes)))[::-1]
    task, reversed_task = method.task(), method.task(classes=order)
    fresh = method.fresh_adapter(reversed_task)
    if not fresh.adapter.uses_backbone_classifier:
        return Finding("classifies with a head of its own, whose order is fixed", "skipped")
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(method.backbone.feature_dim, generator=generator).to(task.device)
    expected, scores = task.logits(features).cpu()[order], reversed_task.logits(features).cpu()
    if not torch.allclose(scores.float(), expected.float(), rtol=TOLERANCE, atol=TOLERANCE):
        return Finding("the backbone's classifier has its classes in a fixed order", "skipped")
    # A prediction may depend on its batch, and on the batches before: they are the same.
    for positions in method.batches[:BATCHES]:
        predictions = fresh.predict(method.batch(positions))
        for prediction, forward in zip(predictions, method.forward_pass.of(positions), strict=True):
            scores, expected = prediction.logits.float(), forward.logits[order].float()
            if list(scores.shape) != [len(order)]:
                raise CheckFailed(f"scores of shape {list(scores.shape)} for {len(order)} classes")
            if torch.allclose(scores, expected, rtol=TOLERANCE, atol=TOLERANCE):
                continue
            if method.forward_pass.purposes:
                return Finding("draws, perhaps for one class after another", "skipped")
            gap = float((scores - expected).abs().max())
            raise CheckFailed(
                f"{batch_name(positions)}: with the classes in reverse order a class's score "
                f"differs by {gap:.2g} (tolerance {TOLERANCE:g}, and {TOLERANCE:g} of the score)"
            )
    return Finding(f"{len(order)} classes in reverse order: the same score for each")


def _difference(
    method: "MethodUnderTest", labels: "PlantedLabels", places: "tuple[Where, ...]"
) -> str:
    """Return the first difference that planted labels make, "" if none."""
    task = method.task()
    if "task" in places:
        labels.plant_on_task(task)
    fresh, samples = method.fresh_adapter(task), method.samples
    for positions in method.batches[:BATCHES]:
        leaky = [labels.plant_on_sample(p, samples[p], places) for p in positions]
        ids = [samples[position].id for position in positions]
        predictions = fresh.predict(leaky, rng_ids=ids)
        for prediction, plain in zip(predictions, method.forward_pass.of(positions), strict=True):
            if difference := prediction.difference(plain):
                return difference
    return ""
