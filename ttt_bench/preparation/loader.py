"""SampleLoader: the samples of a dataset, batch by batch, optionally made ahead by processes."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import tee

from PIL import Image

from ttt_bench.api.errors import UserError
from ttt_bench.api.sample import SampleRNG
from ttt_bench.preparation.parts import Made, Opened, Part, Preparation
from ttt_bench.preparation.pool import LoaderPool, require_fork
from ttt_bench.preparation.sample import PreparedSample


class SampleLoader:
    """Opens a dataset's images as samples.

    With processes, everything that a method declares in its `Inputs` is made there, in the order in
    which it will be asked for. What has not been begun when it is asked for is made in this
    process.
    """

    def __init__(self, preparation: Preparation, processes: int) -> None:
        """Load with so many processes, 0 for this one.

        Raises:
            UserError: processes cannot share the dataset and the backbone on this system.
        """
        if processes:
            require_fork()
        self.preparation = preparation
        self.processes = processes
        self._pool: LoaderPool | None = None
        self._announced: Iterator[tuple[int, ...]] = iter(())
        self._coming: tuple[int, ...] | None = None
        # The entries of the batch that the method has, by sample.
        self._indices: dict[str, int] = {}
        self._decoding_seconds = 0.0

    def announce(self, batches: Iterable[Sequence[int]]) -> None:
        """Say which batches will be asked for, in order."""
        if not self.processes:
            return
        self._announced, ahead = tee(tuple(batch) for batch in batches)
        self._coming = next(self._announced, None)
        if self._pool is None:
            self._pool = LoaderPool(self.preparation, self.processes)
        self._pool.announce(ahead)

    def close(self) -> None:
        """Forget what was announced, and end the processes."""
        if self._pool is not None:
            self._pool.close()
        self._pool = self._coming = None

    def load(self, indices: Sequence[int]) -> tuple[list[PreparedSample], list[tuple[int, str]]]:
        """Return the samples of some entries, and those that cannot be read with the reason."""
        if self._pool is not None and self._coming == tuple(indices):
            self._coming = next(self._announced, None)
            self._pool.begin_batch()
        samples, unreadable = [], []
        self._indices = {}
        for index in indices:
            try:
                samples.append(self._open(index))
            except UserError as error:
                unreadable.append((index, str(error)))
        return samples, unreadable

    @contextmanager
    def taken(self, rng: SampleRNG, part: Part) -> Iterator[Made | None]:
        """Return a part of a sample of this batch that was made ahead, None where none was.

        Its arrays are valid inside the `with` block.

        Args:
            rng: the random generators of the sample.
            part: what to take.
        """
        index = self._indices.get(rng.sample_id)
        if self._pool is None or index is None or rng.seed != self.preparation.seed:
            yield None
            return
        with self._pool.taken(index, part) as made:
            yield made if made is not None and made.arrays else None

    def pop_decoding_seconds(self) -> float:
        """Return and reset the seconds spent on decoding images that methods have read."""
        seconds, self._decoding_seconds = self._decoding_seconds, 0.0
        return seconds

    def _open(self, index: int) -> PreparedSample:
        opened: Made | None = None
        if self._pool is not None:
            with self._pool.taken(index, Opened()) as opened:
                pass
        opened = opened or self.preparation.make(index, Opened())
        image = opened.image
        name = self.preparation.dataset.sample_id(index)
        self._indices[name] = index

        def decode() -> Image.Image:
            started = time.perf_counter()
            # A copy: methods may draw into it, and the decoded one is used for other parts.
            decoded = image or self.preparation.decode(index).copy()
            self._decoding_seconds += time.perf_counter() - started
            return decoded

        return PreparedSample.of(name, opened.digest, decode)
