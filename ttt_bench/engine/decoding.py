"""From entries of a dataset to samples, where asked for in other processes, ahead of the method."""

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

from ttt_bench.adapter import Sample
from ttt_bench.backbones.base import Backbone
from ttt_bench.datasets.base import Dataset
from ttt_bench.engine.task import PreparedSample
from ttt_bench.errors import UserError

# Images that each process may be ahead.
AHEAD = 8

Ready = tuple[Image.Image, dict[int | None, tuple[np.ndarray, float]]]


class Decoder:
    """Opens a dataset's images, without what else a file carries.

    With processes, the entries that are expected are decoded and transformed there, in order, from
    the second batch on: by then it is known which sizes the method asks for.
    """

    def __init__(self, dataset: Dataset, backbone: Backbone, processes: int) -> None:
        """Decode with so many processes, 0 for this one.

        Raises:
            UserError: processes cannot share the dataset and the backbone on this machine.
        """
        # Nothing is pickled: the processes inherit dataset and backbone.
        if processes and "fork" not in multiprocessing.get_all_start_methods():
            raise UserError("--decoders wants processes that fork, which this system lacks")
        self.dataset = dataset
        self.backbone = backbone
        self.processes = processes
        self._coming: deque[int] = deque()
        self._begun = False
        self._ready: Iterator[Ready | UserError] | None = None

    def expect(self, indices: Iterable[int]) -> None:
        """Say which entries will be asked for, in order."""
        self.close()
        self._coming.extend(indices)

    def close(self) -> None:
        """Forget what was expected, and end the processes."""
        self._coming.clear()
        self._begun = False
        self._ready = None

    def samples(self, indices: Sequence[int], sizes: Iterable[int | None]) -> list[Sample]:
        """The samples of some entries.

        Args:
            sizes: those that `Task.pixels` was asked for; processes that start now prepare them.

        Raises:
            UserError: an image cannot be read.
        """
        if self.processes and self._begun and self._ready is None and self._coming:
            self._ready = self._start(tuple(sizes))
        samples = [self._sample(index) for index in indices]
        self._begun = bool(self._coming)
        return samples

    def _sample(self, index: int) -> Sample:
        name = self.dataset.sample_id(index)
        expected = bool(self._coming) and self._coming[0] == index
        if expected:
            self._coming.popleft()
        if not expected or self._ready is None:
            return Sample(name, pixels_alone(self.dataset.open(index)))
        ready = next(self._ready)
        if isinstance(ready, UserError):
            raise ready
        image, prepared = ready
        sample = PreparedSample(name, image)
        sample.prepared.update(
            {size: (torch.from_numpy(pixels), t) for size, (pixels, t) in prepared.items()}
        )
        return sample

    def _start(self, sizes: tuple[int | None, ...]) -> Iterator[Ready | UserError]:
        entries = _Entries(self.dataset, self.backbone, tuple(self._coming), sizes)
        with warnings.catch_warnings():
            # PyTorch advises on the number of processes; the user has chosen one.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader = DataLoader(
                entries,
                batch_size=None,
                num_workers=self.processes,
                prefetch_factor=AHEAD,
                collate_fn=_as_it_is,
                worker_init_fn=_leave_interrupts,
                multiprocessing_context="fork",
                # Without it the loader draws from the global generator.
                generator=torch.Generator(),
            )
        return iter(loader)


class _Entries(TorchDataset[Any]):
    """What a process makes of the entries that are coming."""

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
    def __getitem__(self, place: int) -> Ready | UserError:
        try:
            image = pixels_alone(self.dataset.open(self.indices[place]))
        # Raised here, it would come out wrapped in a traceback.
        except UserError as error:
            return error
        return image, {size: self._prepare(image, size) for size in self.sizes}

    def _prepare(self, image: Image.Image, size: int | None) -> tuple[np.ndarray, float]:
        started = time.perf_counter()
        pixels = self.backbone.preprocess(image, size)
        # Arrays go through a pipe; tensors would take shared memory, short in containers.
        return pixels.numpy(), time.perf_counter() - started


def pixels_alone(image: Image.Image) -> Image.Image:
    """The image without what else it carries: a file knows its path, and the path its class."""
    return Image.frombytes(image.mode, image.size, image.tobytes())


def _as_it_is(item: Any) -> Any:
    return item


def _leave_interrupts(number: int) -> None:
    """Ctrl-C reaches every process of a terminal; the main one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
