"""The teacher's patch features of a set of photographs, computed once and kept in files.

Each teacher, side and list of photographs has a folder of shards. A shard appears whole; a kill
costs at most one, and the next extraction computes what is missing.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ttt_bench import UserError, atomic_write
from ttt_bench_apm.self_supervised.images import PhotographSet, square
from ttt_bench_apm.self_supervised.teacher import Teacher

SHARD_BYTES = 2**27
BATCH = 32

Report = Callable[[str], None]


class Shards(Dataset[tuple[Tensor, Tensor]]):
    """Images with the teacher's patch features, in the order of the photographs.

    An image is uint8 `[3 side side]`, of the network's side; features are float16
    `[rows columns dim]`.

    Attributes:
        folder: the folder of the shards.
        images: the number of images.
        size: images per shard.
    """

    def __init__(self, folder: Path, images: int, size: int) -> None:
        self.folder = folder
        self.images = images
        self.size = size
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number, row = divmod(index, self.size)
        if number not in self._open:
            # Mapped into memory: only the rows that are asked for are read.
            self._open[number] = safetensors.safe_open(self.path(number), "pt")
        shard = self._open[number]
        return tuple(shard.get_slice(name)[row] for name in ("images", "features"))

    def path(self, number: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"{number:05}.safetensors"

    def __getstate__(self) -> dict[str, Any]:
        # Open files cannot be sent to loader processes.
        return {**self.__dict__, "_open": {}}


def extract_features(
    photographs: PhotographSet, teacher: Teacher, side: int, cache: Path, report: Report
) -> Shards:
    """Return the shards of these photographs, after computing those that are missing.

    Args:
        photographs: the photographs.
        teacher: the frozen backbone.
        side: pixels per side of the network's input.
        cache: the folder that holds a folder for each teacher, side and list of photographs.
        report: receives a line of progress after each shard.

    Raises:
        UserError: a photograph cannot be read, or the cache cannot be written.
    """
    key = {
        "teacher": teacher.name,
        "teacher_weights": teacher.backbone.weights_hash(),
        "teacher_side": teacher.side,
        "side": side,
        "images": photographs.names,
    }
    text = json.dumps(key, sort_keys=True, indent=1)
    folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
    bytes_per_image = 3 * side**2 + 2 * teacher.rows**2 * teacher.features
    count = len(photographs.names)
    shards = Shards(folder, count, max(1, SHARD_BYTES // bytes_per_image))
    try:
        with atomic_write(folder / "key.json") as temporary:
            temporary.write_text(text)
        for number, start in enumerate(range(0, count, shards.size)):
            if not shards.path(number).exists():
                stop = min(start + shards.size, count)
                content = _compute_shard(photographs, teacher, side, range(start, stop))
                with atomic_write(shards.path(number)) as temporary:
                    safetensors.torch.save_file(content, temporary)
                report(f"teacher {teacher.name}: {stop} of {count} images")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give another --cache") from error
    return shards


def _compute_shard(
    photographs: PhotographSet, teacher: Teacher, side: int, indices: range
) -> dict[str, Tensor]:
    """Return the images and the teacher's features of some photographs.

    Args:
        photographs: the photographs.
        teacher: the frozen backbone.
        side: pixels per side of the network's input.
        indices: which photographs.
    """
    images, features = [], []
    for start in range(0, len(indices), BATCH):
        batch = [photographs.open(index) for index in indices[start : start + BATCH]]
        squares = torch.stack([square(photograph, side) for photograph in batch])  # (B, 3, S, S)
        images.append(squares)
        if side != teacher.side:
            squares = torch.stack([square(photograph, teacher.side) for photograph in batch])
        features.append(teacher(squares).half().cpu())  # (B, rows, columns, D)
    return {"images": torch.cat(images), "features": torch.cat(features).contiguous()}
