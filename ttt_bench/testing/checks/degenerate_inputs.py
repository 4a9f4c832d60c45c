"""Degenerate inputs (black, 1x1, one class, NaN) do no harm, and leave no trace."""

from typing import TYPE_CHECKING

from ttt_bench.api.errors import UserError
from ttt_bench.testing.declaration import FORGETTING, check
from ttt_bench.testing.outcome import CheckFailed, Finding

if TYPE_CHECKING:
    from PIL import Image

    from ttt_bench.testing.attempt import FreshAdapter
    from ttt_bench.testing.method import MethodUnderTest


@check(order=29, kinds={"sample"})
def check_black_image(method: "MethodUnderTest") -> Finding:
    """Check an image whose variances, ranges and entropies may be zero."""
    from PIL import Image

    return _single_image(method, Image.new("RGB", method.samples[0].image.size), "a black image")


@check(order=30, kinds={"sample"})
def check_one_pixel_image(method: "MethodUnderTest") -> Finding:
    """Check the smallest image there is."""
    from PIL import Image

    return _single_image(method, Image.new("RGB", (1, 1), "orange"), "a 1x1 image")


@check(order=32)
def check_single_class(method: "MethodUnderTest") -> Finding:
    """Check a task of one class."""
    try:
        fresh = method.fresh_adapter(method.task(classes=[0]))
        predictions = fresh.predict(method.batch(method.batches[0]))
    except UserError as refusal:
        return Finding(f"refused in one line: {refusal}")
    for prediction in predictions:
        shape = list(prediction.logits.shape)
        if shape != [1]:
            raise CheckFailed(f"a task of a single class got scores of shape {shape}")
        if not prediction.is_finite():
            raise CheckFailed("a task of a single class got scores that are not finite")
    return Finding("one finite score")


@check(order=33, kinds=FORGETTING)
def check_nan_feature(method: "MethodUnderTest") -> Finding:
    """Check that a feature that is not a number does not reach the next batch."""
    from ttt_bench.testing.fakes.nan_backbone import NaNBackbone

    fake = NaNBackbone(method.fresh_backbone())
    fresh = method.fresh_adapter(method.task(backbone=fake.backbone))
    fake.enabled = True
    try:
        predictions = fresh.predict(method.batch(method.batches[1]))
    except (UserError, CheckFailed) as error:
        return Finding(f"stops: {error}")
    fake.enabled = False
    finite = all(prediction.is_finite() for prediction in predictions)
    result = "finite scores" if finite else "NaN scores, which the engine refuses"
    return Finding(f"{result}; {_next_batch(method, fresh, 'a NaN feature')}")


def _single_image(method: "MethodUnderTest", image: "Image.Image", what: str) -> Finding:
    from ttt_bench.api.sample import Sample

    fresh = method.fresh_adapter()
    try:
        (prediction,) = fresh.predict([Sample("degenerate", image)])
    except UserError as refusal:
        return Finding(f"refused in one line: {refusal}")
    if not prediction.is_finite():
        raise CheckFailed(f"{what} got scores that are not finite")
    return Finding(f"finite scores; {_next_batch(method, fresh, what)}")


def _next_batch(method: "MethodUnderTest", fresh: "FreshAdapter", what: str) -> str:
    """Require the usual prediction of the first batch, unless the method always leaks."""
    from ttt_bench.testing.attempt import require_same
    from ttt_bench.testing.sequence import batch_name

    first, *_, again = method.forward_pass.predictions
    leaks = any(one.difference(other) for one, other in zip(again, first, strict=True))
    if method.nondeterminism or leaks:
        return "not checked for traces: check_a_b_a or check_same_seed_same_result already fails"
    positions = method.batches[0]
    predictions = fresh.predict(method.batch(positions))
    for prediction, expected in zip(predictions, first, strict=True):
        require_same(prediction, expected, f"{batch_name(positions)} after {what}")
    return "the next prediction unchanged"
