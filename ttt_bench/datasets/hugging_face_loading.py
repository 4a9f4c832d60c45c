"""Loading a split by the `datasets` library: a saved folder, its cache, or the hub."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import constants as hub

from ttt_bench.api.errors import UserError, first_line, unknown
from ttt_bench.datasets.path_options import find_path
from ttt_bench.toolkit.network import no_network, why_silent
from ttt_bench.toolkit.quiet import quiet

# Splits of test images, in the order in which one is taken.
TEST_SPLITS = ("test", "validation", "val")
# Files that `save_to_disk` writes into the folder of a dataset, and of several splits.
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"

ResultT = TypeVar("ResultT")


def library() -> Any:
    """Return the `datasets` library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "hf: needs the package datasets; install it by `pip install 'ttt-bench[hf]'`"
        ) from error
    return datasets


def load_split(
    name: str, source: str, options: Mapping[str, str], data_root: Path | None
) -> tuple[Any, str]:
    """Load one split.

    Args:
        name: the dataset's name, for messages.
        source: a folder, or a name on the hub.
        options: `split`, `config` and `revision` as far as they are given.
        data_root: the folder that the user gave to look in, None for none.

    Returns:
        The split, a `datasets.Dataset`, and the copy that it is for the card.

    Raises:
        UserError: there is no such dataset or split, or the hub does not answer.
    """
    folder = find_path(source, data_root)
    if not folder.is_dir():
        split = load_from_hub(name, source, options)
        revision = options.get("revision")
        return split, f"hf:{source}@{revision}" if revision else f"hf:{source}"
    if "revision" in options:
        raise UserError(f"{name}: a folder has no revision; leave revision= out")
    if (folder / SAVED_SPLITS).exists() or (folder / SAVED).exists():
        saved = _load(name, lambda: library().load_from_disk(str(folder)))
        return _one_split(name, saved, options), "hf"
    # A folder of files as repositories of the hub have them, such as parquet.
    loaded = _load(name, lambda: library().load_dataset(str(folder), options.get("config")))
    return _one_split(name, loaded, options), "hf"


def load_from_hub(name: str, source: str, options: Mapping[str, str]) -> Any:
    """Load one split of a dataset on the hub, from the library's cache where the hub is silent.

    Raises:
        UserError: there is no such dataset or split, or it is not in the cache and the hub does not
            answer.
    """
    silence = "it is switched off" if hub.is_offline_mode() else why_silent(hub.ENDPOINT)
    config, revision = options.get("config"), options.get("revision")
    try:
        with offline() if silence else nullcontext(), quiet():
            datasets = library()
            if "split" not in options:
                builder = datasets.load_dataset_builder(source, config, revision=revision)
                names: list[str] = list(builder.info.splits or ())
                names = names or datasets.get_dataset_split_names(source, config, revision=revision)
                options = {**options, "split": choose_split(name, names)}
            return datasets.load_dataset(source, config, split=options["split"], revision=revision)
    except UserError:
        raise
    # The library and its HTTP clients fail in many ways.
    except Exception as error:
        host = urlsplit(hub.ENDPOINT).netloc or hub.ENDPOINT
        if silence:
            raise UserError(
                f"{name}: no folder {source} is here, and the dataset is not in the cache of the "
                f"datasets library, and {host} does not answer ({silence}); give a folder, or run "
                "this once with a network"
            ) from error
        raise UserError(f"{name}: could not be loaded ({first_line(error)})") from error


@contextmanager
def offline() -> Iterator[None]:
    """Let the `datasets` library look into its cache alone inside the `with` block."""
    config = library().config
    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = True
    try:
        with no_network():
            yield
    finally:
        config.HF_HUB_OFFLINE = before


def choose_split(name: str, splits: list[str]) -> str:
    """Return the split of the test images, or the only one.

    Raises:
        UserError: none of several is called as one of test images.
    """
    chosen = next((split for split in TEST_SPLITS if split in splits), None)
    if chosen is None and len(splits) != 1:
        raise UserError(
            f"{name}: has the splits {', '.join(splits)}; say which by split=, such as "
            f"split={splits[0] if splits else 'test'}"
        )
    return chosen or splits[0]


def _one_split(name: str, loaded: Any, options: Mapping[str, str]) -> Any:
    """Return one split of what was loaded from a folder: several splits, or one without a name.

    Raises:
        UserError: there is no such split.
    """
    wanted = options.get("split")
    if not isinstance(loaded, dict):
        if wanted is not None:
            raise UserError(f"{name}: the folder holds one split; leave split= out")
        return loaded
    if wanted is not None and wanted not in loaded:
        raise unknown("split", wanted, map(str, loaded), hint=name)
    return loaded[wanted or choose_split(name, [str(split) for split in loaded])]


def _load(name: str, load: Callable[[], ResultT]) -> ResultT:
    """Load a folder, and say in one line what is wrong with it.

    Raises:
        UserError: it cannot be loaded.
    """
    try:
        with offline(), quiet():
            return load()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{name}: not a folder that the datasets library reads ({first_line(error)}); give one "
            "that save_to_disk wrote, or one with parquet files"
        ) from error
