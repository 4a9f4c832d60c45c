"""The files of a dataset's folder: which are images, and how large a list of them may be."""

import os

from ttt_bench.api.errors import UserError

# Bytes of a list of images or class names; the largest published one has 10 MB.
LARGEST_LIST = 1 << 28
JPEG = {".jpg", ".jpeg", ".jpe", ".jfif"}
NETPBM = {".ppm", ".pgm", ".pbm", ".pnm"}
SUFFIXES = frozenset({".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"} | JPEG | NETPBM)
# Images that nothing here decodes. Left out in silence, they would make a dataset smaller than its
# owner thinks.
UNREADABLE_SUFFIXES = frozenset({".heic", ".heif", ".avif", ".jp2", ".jxl"})


def is_image(path: str) -> bool:
    """Say whether a file is an image by its name; hidden files are not.

    Raises:
        UserError: it is an image in a format that is not read.
    """
    name = os.path.basename(path)
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("."):
        return False
    if suffix in UNREADABLE_SUFFIXES:
        raise UserError(
            f"{path}: images of the format {suffix[1:]} are not read; convert it to PNG or remove "
            "it"
        )
    return suffix in SUFFIXES
