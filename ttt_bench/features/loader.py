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
from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import Sample
from ttt_bench.features.task import PrefetchedSample

# Images that each loader process may be ahead.
AHEAD = 8

Prefetched = tuple[Image.Image, dict[int | None, tuple[np.ndarray, float]]]


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

    def load(self, indices: Sequence[int], sizes: Iterable[int | None]) -> list[Sample]:
        """Return the samples of some entries.

        Args:
            indices: which entries of the dataset.
            sizes: those that `Task.pixels` was asked for; processes that start now prepare them.

        Raises:
            UserError: an image cannot be read.
        """
        if self.processes and self._started and self._iterator is None and self._pending:
            self._iterator = self._start(tuple(sizes))
        samples = [self._sample(index) for index in indices]
        self._started = bool(self._pending)
        return samples

    def _sample(self, index: int) -> Sample:
        name = self.dataset.sample_id(index)
        announced = bool(self._pending) and self._pending[0] == index
        if announced:
            self._pending.popleft()
        if not announced or self._iterator is None:
            return Sample(name, strip_metadata(self.dataset.open(index)))
        prefetched = next(self._iterator)
        if isinstance(prefetched, UserError):
            raise prefetched
        image, pixels = prefetched
        sample = PrefetchedSample(name, image)
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
                worker_init_fn=_ignore_interrupts,
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
            image = strip_metadata(self.dataset.open(self.indices[position]))
        # Raised here, it would come out wrapped in a traceback.
        except UserError as error:
            return error
        return image, {size: self._transform(image, size) for size in self.sizes}

    def _transform(self, image: Image.Image, size: int | None) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        pixels = self.backbone.preprocess(image, size)
        # Arrays go through a pipe; tensors would take shared memory, short in containers.
        return pixels.numpy(), time.perf_counter() - started


def strip_metadata(image: Image.Image) -> Image.Image:
    """Return the pixels alone: a file's image knows its path, and the path its class."""
    return Image.frombytes(image.mode, image.size, image.tobytes())


def _identity(item: Any) -> Any:
    return item


def _ignore_interrupts(number: int) -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
