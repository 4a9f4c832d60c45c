"""What is known of the birds without opening them: this module imports no torch."""

from ttt_bench import Archive, DatasetSpec, HowToGet, hookimpl

SPEC = DatasetSpec(
    name="birds",
    summary="four birds",
    code="birds:Birds",
    source="my lab",
    licence="CC0",
    folders=("birds",),
    how_to_get=HowToGet(
        archives=(
            Archive(
                url="https://lab.example/birds.tar.gz",
                hash="sha256:7c1a5d3f0e9b8462a1d4c7f08e3b5a6920df4e8b1c7a3f5d6e0b9284a7c1d3e5",
                size=1000,
                folder="photos",
            ),
        ),
        gigabytes=0.001,
    ),
)


@hookimpl
def ttt_bench_datasets() -> list[DatasetSpec]:
    """Return the dataset."""
    return [SPEC]
