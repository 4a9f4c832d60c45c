"""SampleLoader: decodes images into samples, optionally ahead of the method in other processes."""

import multiprocessing
import signal
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from typing_extensions import override

from ttt_bench.api.backbone import Backbone
from ttt_bench.api.dataset import Dataset
from ttt_bench.api.errors import UserError, described
from ttt_bench.features.cache import image_name
from ttt_bench.features.task import PrefetchedSample
from ttt_bench.toolkit.parent import end_with_parent

# Images that each loader process may be ahead.
AHEAD = 8

Prefetched = tuple[Image.Image, str, dict[int | None, tuple[np.ndarray, float]]]


class SampleLoader:
    """Opens a dataset's images as samples.

    With processes, the entries that were announced are decoded and transformed there, in order,
    from the second batch on. By then the sizes that the method asks for are known.
    """

    def __init__(self, dataset: Dataset, backbone: Backbone, processes: int) -> None:
        """Load with so many processes, 0 for this one.

        Raises:
            UserError: processes cannot share the dataset and the backbone on this machine.
        """
        # Nothing is pickled: the processes inherit dataset and backbone.
        if processes and "fork" not in multiprocessing.get_all_start_methods():
            raise UserError("--loaders needs processes that fork, which this system lacks")
        self.dataset = dataset
        self.backbone = backbone
        self.processes = processes
        self._pending: deque[int] = deque()
        self._started = False
        self._iterator: Iterator[Prefetched | UserError] | None = None

    def announce(self, indices: Iterable[int]) -> None:
        """Say which entries will be asked for, in order."""
        self.close()
        self._pending.extend(indices)

    def close(self) -> None:
        """Forget what was announced, and end the processes."""
        self._pending.clear()
        self._started = False
        self._iterator = None

    def load(
        self, indices: Sequence[int], sizes: Iterable[int | None]
    ) -> tuple[list[PrefetchedSample], list[tuple[int, str]]]:
        """Return the samples of some entries, and those that cannot be read with the reason.

        Args:
            indices: which entries of the dataset.
            sizes: those that `Task.pixels` was asked for; processes that start now prepare them.
        """
        if self.processes and self._started and self._iterator is None and self._pending:
            self._iterator = self._start(tuple(sizes))
        samples, unreadable = [], []
        for index in indices:
            try:
                samples.append(self._sample(index))
            except UserError as error:
                unreadable.append((index, str(error)))
        self._started = bool(self._pending)
        return samples, unreadable

    def _sample(self, index: int) -> PrefetchedSample:
        announced = bool(self._pending) and self._pending[0] == index
        if announced:
            self._pending.popleft()
        name = self.dataset.sample_id(index)
        if not announced or self._iterator is None:
            image = open_entry(self.dataset, index)
            return PrefetchedSample.of(name, image, image_name(image))
        prefetched = next(self._iterator)
        if isinstance(prefetched, UserError):
            raise prefetched
        image, digest, pixels = prefetched
        sample = PrefetchedSample.of(name, image, digest)
        sample.pixels.update(
            {size: (torch.from_numpy(values), t) for size, (values, t) in pixels.items()}
        )
        return sample

    def _start(self, sizes: tuple[int | None, ...]) -> Iterator[Prefetched | UserError]:
        entries = _Entries(self.dataset, self.backbone, tuple(self._pending), sizes)
        with warnings.catch_warnings():
            # PyTorch advises on the number of processes; the user has chosen one.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader = DataLoader(
                entries,
                batch_size=None,
                num_workers=self.processes,
                prefetch_factor=AHEAD,
                collate_fn=_identity,
                worker_init_fn=_begin_process,
                multiprocessing_context="fork",
                # Without it the loader draws from the global generator.
                generator=torch.Generator(),
            )
        return iter(loader)


class _Entries(TorchDataset[Any]):
    """The announced entries, as a loader process computes them."""

    def __init__(
        self,
        dataset: Dataset,
        backbone: Backbone,
        indices: tuple[int, ...],
        sizes: tuple[int | None, ...],
    ) -> None:
        self.dataset = dataset
        self.backbone = backbone
        self.indices = indices
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.indices)

    @override
    def __getitem__(self, position: int) -> Prefetched | UserError:
        try:
            image = open_entry(self.dataset, self.indices[position])
        # Raised here, it would come out wrapped in a traceback.
        except UserError as error:
            return error
        pixels = {size: self._transform(image, size) for size in self.sizes}
        return image, image_name(image), pixels

    def _transform(self, image: Image.Image, size: int | None) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        pixels = self.backbone.preprocess(image, size)
        # Arrays go through a pipe; tensors would take shared memory, short in containers.
        return pixels.numpy(), time.perf_counter() - started


def open_entry(dataset: Dataset, index: int) -> Image.Image:
    """Decode an entry of a dataset to its pixels alone.

    Raises:
        UserError: it cannot be read, in whatever way the dataset says so.
    """
    try:
        return strip_metadata(dataset.open(index))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{dataset.name}: entry {dataset.entries[index].key} cannot be opened "
            f"({described(error)})"
        ) from error


def strip_metadata(image: Image.Image) -> Image.Image:
    """Return the pixels alone: a file's image knows its path, and the path its class."""
    return Image.frombytes(image.mode, image.size, image.tobytes())


def _identity(item: Any) -> Any:
    return item


def _begin_process(number: int) -> None:
    """End with the parent; leave Ctrl-C, which reaches every process, to the main one."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
