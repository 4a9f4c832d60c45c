"""Small drawn images as files, and the same in the containers that people have them in."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("cat", "tabby_dog", "hen")


def draw(number: int, suffix: str = "jpg") -> bytes:
    """Return the bytes of a drawn image file; each number gives another image."""
    side = 8 + number % 5
    pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
    return buffer.getvalue()


def photographs(per_class: int = 3) -> dict[str, bytes]:
    """Return image files by `class/file`."""
    return {
        f"{name}/{number}.jpg": draw(place * per_class + number)
        for place, name in enumerate(CLASSES)
        for number in range(per_class)
    }


def write_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write files by relative path."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_shard(path: Path, samples: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a shard by the library's own writer.

    Args:
        path: the shard.
        samples: content by what follows the dot, by key.
    """
    from webdataset import TarWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path), encoder=False) as shard:
        for key, fields in samples.items():
            encoded = {name: _encoded(value) for name, value in fields.items()}
            shard.write({"__key__": key, **encoded})
    return path


def _encoded(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value)).encode()
