"""The teacher's patch features of a set of photographs, computed once, in files.

A folder for each teacher, side and list of images; in it shards that appear whole. What is missing
is computed, so a kill costs at most one shard.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ttt_bench import UserError
from ttt_bench_apm.self_supervised.images import Photographs, square
from ttt_bench_apm.self_supervised.teacher import Teacher

SHARD_BYTES = 2**27
BATCH = 32

Report = Callable[[str], None]


class Shards(Dataset[tuple[Tensor, Tensor]]):
    """Images with the teacher's patch features, in the order of the photographs.

    An image is uint8 `[3 side side]`, of the network's side; features are float16
    `[rows columns dim]`.
    """

    def __init__(self, folder: Path, images: int, size: int) -> None:
        self.folder = folder
        self.images = images
        self.size = size
        self._open: dict[int, Any] = {}

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        number, place = divmod(index, self.size)
        if number not in self._open:
            # Mapped into memory: only what is asked for is read.
            self._open[number] = safetensors.safe_open(self.path(number), "pt")
        shard = self._open[number]
        return tuple(shard.get_slice(name)[place] for name in ("images", "features"))

    def path(self, number: int) -> Path:
        """Where a shard is."""
        return self.folder / f"{number:05}.safetensors"

    def __getstate__(self) -> dict[str, Any]:
        # Open files do not travel to the processes that load.
        return {**self.__dict__, "_open": {}}


def extract(
    photographs: Photographs, teacher: Teacher, side: int, cache: Path, report: Report
) -> Shards:
    """The shards of these photographs, those that are missing computed first.

    Args:
        side: of the network's input in pixels.
        cache: the folder of all such folders.

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
    bytes_each = 3 * side**2 + 2 * teacher.rows**2 * teacher.features
    count = len(photographs.names)
    shards = Shards(folder, count, max(1, SHARD_BYTES // bytes_each))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "key.json").write_text(text)
        for number, start in enumerate(range(0, count, shards.size)):
            if not shards.path(number).exists():
                stop = min(start + shards.size, count)
                _write(shards.path(number), _compute(photographs, teacher, side, start, stop))
                report(f"teacher {teacher.name}: {stop} of {count} images")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; give another --cache") from error
    return shards


def _compute(
    photographs: Photographs, teacher: Teacher, side: int, start: int, stop: int
) -> dict[str, Tensor]:
    images, features = [], []
    for at in range(start, stop, BATCH):
        opened = [photographs.open(index) for index in range(at, min(at + BATCH, stop))]
        images.append(torch.stack([square(image, side) for image in opened]))
        same = images[-1] if side == teacher.side else None
        seen = (
            torch.stack([square(image, teacher.side) for image in opened]) if same is None else same
        )
        features.append(teacher(seen).half().cpu())
    return {"images": torch.cat(images), "features": torch.cat(features).contiguous()}


def _write(path: Path, content: dict[str, Tensor]) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    safetensors.torch.save_file(content, part)
    os.replace(part, path)
