"""The baselines, registered like any other plugin's methods."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import CLASSIFIER_FAMILY, AdapterSpec

CLIP = (
    "Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision "
    "(arXiv 2103.00020)"
)


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the unadapted model and zero-shot CLIP with one prompt and with many."""
    return [
        AdapterSpec(
            name="source",
            summary="the frozen backbone with its own classifier",
            code="ttt_bench.baselines.source:Source",
            family=CLASSIFIER_FAMILY,
        ),
        AdapterSpec(
            name="clip-zero-shot",
            summary="the frozen dual encoder with the dataset's single prompt",
            code="ttt_bench.baselines.clip:ZeroShot",
            paper=CLIP,
            needs=frozenset({"DualEncoder"}),
            release="openai/CLIP, MIT",
        ),
        AdapterSpec(
            name="clip-ensemble",
            summary="the frozen dual encoder with the dataset's ensemble of prompts",
            code="ttt_bench.baselines.clip:Ensemble",
            paper=CLIP,
            needs=frozenset({"DualEncoder"}),
            release="openai/CLIP, MIT",
        ),
    ]
