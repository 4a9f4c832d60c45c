"""Loading the dataset that a name stands for, without torch where the dataset needs none."""

from pathlib import Path

from ttt_bench.api.dataset import Dataset
from ttt_bench.registry import registry


def load_dataset(name: str, data_root: Path | None = None) -> Dataset:
    """Load the dataset that a name stands for.

    Args:
        name: a registered name, perhaps with an argument, such as `imagefolder:photos`.
        data_root: the folder to look for its data in, None for the usual ones.

    Raises:
        UserError: there is none of that name, or its data is missing.
    """
    spec = registry().datasets.find(name).spec
    return spec.load()(name.partition(":")[2], data_root)
