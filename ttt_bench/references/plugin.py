"""The built-in published tables, registered like any other plugin's."""

from ttt_bench.api.hookspecs import hookimpl
from ttt_bench.api.specs import ReferenceSpec


@hookimpl
def ttt_bench_references() -> list[ReferenceSpec]:
    """Return the tables of the APM paper."""
    return [
        ReferenceSpec(
            name="apm-paper",
            summary="ImageNet-C, natural shifts and fine-grained datasets, as APM's paper prints",
            code="ttt_bench.references.apm_paper:publication",
            source="Modi and Rawat, NeurIPS 2024, arXiv 2410.20535, and its poster",
        )
    ]
