"""The methods and the dataset that the audit adds to ttt-bench."""

from dataclasses import replace

from ttt_bench_apm import plugin as apm_plugin

from ttt_bench import AdapterSpec, DatasetSpec, hookimpl

LEAK = "for the audit: the last image's weights are kept"


@hookimpl
def ttt_bench_adapters() -> list[AdapterSpec]:
    """Return the specs of APM's variants, with the presets of APM itself."""
    (apm,) = apm_plugin.ttt_bench_adapters()
    return [
        replace(
            apm,
            name="apm-kept-moments",
            summary="for the audit, not for use: APM with moments and schedule never reset",
            code="ttt_bench_audit.apm_variants:KeptMoments",
            kind="stream",
        ),
        replace(
            apm,
            name="apm-added-gradients",
            summary="for the audit, not for use: APM with gradients added up over the steps",
            code="ttt_bench_audit.apm_variants:AddedGradients",
        ),
        replace(
            apm,
            name="apm-leaking",
            summary="for the audit, not for use: APM that begins with the last image's weights",
            code="ttt_bench_audit.apm_variants:Leaking",
            known_failures=dict.fromkeys(
                ("check_a_b_a", "check_order_independence", "check_parameters_restored"), LEAK
            ),
        ),
    ]


@hookimpl
def ttt_bench_datasets() -> list[DatasetSpec]:
    """Return the spec of another dataset in reverse order."""
    return [
        DatasetSpec(
            name="reversed",
            argument="NAME",
            summary="for the audit: the dataset NAME from its last image to its first",
            code="ttt_bench_audit.reversed_dataset:Reversed",
            source="the dataset NAME",
            licence="that of the dataset NAME",
        )
    ]
