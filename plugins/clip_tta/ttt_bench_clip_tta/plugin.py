"""The hooks: methods and numbers of the original releases that this package adds to ttt-bench."""

from typing import Any

from ttt_bench import AdapterSpec, GoldenSpec, hookimpl

DUAL_ENCODER = frozenset({"DualEncoder"})

# Differences relative to an output's largest value.
TOLERANCES: dict[str, float] = {}


def _spec(name: str, code: str, **fields: Any) -> AdapterSpec:
    return AdapterSpec(
        name=name, code=f"ttt_bench_clip_tta.methods.{code}", needs=DUAL_ENCODER, **fields
    )


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the methods."""
    return [*_controls(), *_by_votes_of_views(), *_by_training(), *_by_memory()]


def _controls() -> list[AdapterSpec]:
    return [
        _spec(
            "view-mean",
            "view_mean:ViewMean",
            summary="a control: the mean of the views' distributions",
        ),
        _spec(
            "view-vote",
            "view_vote:ViewVote",
            summary="a control: the class that most views score highest",
        ),
        _spec(
            "confident-mean",
            "confident_mean:ConfidentMean",
            summary="a control: the mean of the confident views' distributions",
        ),
    ]


def _by_votes_of_views() -> list[AdapterSpec]:
    return [
        _spec(
            "zero",
            "zero:Zero",
            summary="the confident views vote, each for its best class",
            paper="Farina et al. 2024, Frustratingly Easy Test-Time Adaptation of Vision-Language "
            "Models (arXiv 2405.18330)",
        ),
        _spec(
            "mta",
            "mta:MTA",
            summary="classifies the mode of the views' features, views weighted",
            paper="Zanella and Ben Ayed 2024, On the test-time zero-shot generalization of "
            "vision-language models (arXiv 2405.02266)",
        ),
    ]


def _by_training() -> list[AdapterSpec]:
    return []


def _by_memory() -> list[AdapterSpec]:
    return []


@hookimpl
def ttt_bench_goldens() -> list[GoldenSpec]:
    """Return the numbers of the releases."""
    return [
        GoldenSpec(
            name="clip_features",
            summary="the methods that need features alone, on 60 samples of 32 views",
            code="ttt_bench_clip_tta.goldens.features:compute",
            methods=("zero", "mta"),
            file="clip_features.npz",
            arrays=frozenset({"input/text_features", "input/views", "input/logit_scale"}),
            tolerances=TOLERANCES,
        )
    ]
