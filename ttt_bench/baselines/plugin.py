"""The baselines, registered like any other plugin's methods."""

from ttt_bench.hookspecs import hookimpl
from ttt_bench.specs import AdapterSpec

CLIP = "Radford et al. 2021, Learning Transferable Visual Models From Natural Language Supervision"


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """The unadapted model; zero-shot CLIP with one prompt and with an ensemble of prompts."""
    return [
        AdapterSpec(
            name="source",
            summary="the frozen backbone with its own classification rule, whatever it is",
            code="ttt_bench.baselines.source:Source",
        ),
        AdapterSpec(
            name="clip-zero-shot",
            summary="the frozen dual encoder with the dataset's single prompt",
            code="ttt_bench.baselines.clip:ZeroShot",
            paper=CLIP,
            needs=frozenset({"image_features", "text_tower"}),
        ),
        AdapterSpec(
            name="clip-ensemble",
            summary="the frozen dual encoder with the dataset's ensemble of prompts",
            code="ttt_bench.baselines.clip:Ensemble",
            paper=CLIP,
            needs=frozenset({"image_features", "text_tower"}),
        ),
    ]
