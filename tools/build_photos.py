"""Build the photographs of plugins/photos from a folder of ImageNet-labelled photographs.

    python tools/build_photos.py FOLDER

FOLDER is the clean development set of the NIPS 2017 adversarial competition, as
`FOLDER/val/<WordNet id>/<image id>.jpg`, and `FOLDER/ATTRIBUTION.csv` with the author and the
address of each. 256 of its 1000 photographs are drawn with a fixed seed, scaled to 256 pixels on
the short side and saved with the highest JPEG quality that keeps the wheel below 12 MB. No model
and no label takes part in the choice.
"""

import argparse
import csv
import io
import random
import re
import shutil
from pathlib import Path

from PIL import Image

from ttt_bench.datasets.imagenet import synsets

PACKAGE = Path(__file__).parents[1] / "plugins/photos/ttt_bench_photos"
PHOTOS, SEED, SIDE = 256, 0, 256
# Bytes of the images together; 0.3 MB of the wheel's 12 are left for the rest.
MOST_BYTES = 11_700_000
COLUMNS = ("id", "label", "synset", "author", "page", "image", "licence")


def scaled(path: Path) -> Image.Image:
    """Return a photograph with `SIDE` pixels on its short side."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    width, height = (round(side * SIDE / min(image.size)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, quality: int) -> bytes:
    """Return an image as JPEG with its full colour resolution and without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4", optimize=True)
    return buffer.getvalue()


def encode_all(images: list[Image.Image]) -> tuple[int, list[bytes]]:
    """Return the highest quality with which the images fit `MOST_BYTES`, and their files."""
    for quality in range(100, 0, -1):
        files = [encode(image, quality) for image in images]
        if sum(map(len, files)) <= MOST_BYTES:
            return quality, files
    raise SystemExit(f"the images do not fit {MOST_BYTES} bytes with any quality")


def decoded(author: str) -> str:
    r"""Return a name whose letters beyond ASCII stand as octal bytes of UTF-8, as `\303\251`."""
    octal = re.compile(rb"\\([0-3][0-7]{2})")
    return octal.sub(lambda match: bytes([int(match[1], 8)]), author.encode()).decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with (folder / "ATTRIBUTION.csv").open(encoding="utf-8", newline="") as file:
        credits = {row["ImageId"]: row for row in csv.DictReader(file)}
    paths = sorted(folder.glob("val/*/*.jpg"), key=lambda path: path.stem)
    chosen = sorted(random.Random(SEED).sample(paths, PHOTOS), key=lambda path: path.stem)
    quality, files = encode_all([scaled(path) for path in chosen])

    labels = {synset: label for label, synset in enumerate(synsets())}
    shutil.rmtree(PACKAGE / "images", ignore_errors=True)
    (PACKAGE / "images").mkdir()
    with (PACKAGE / "photos.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for path, encoded in zip(chosen, files, strict=True):
            (PACKAGE / "images" / path.name).write_bytes(encoded)
            credit, synset = credits[path.stem], path.parent.name
            addresses = (credit["OriginalLandingURL"], credit["URL"], credit["License"])
            table.writerow(
                [path.stem, labels[synset], synset, decoded(credit["Author"]), *addresses]
            )
    print(f"{len(files)} photographs, {sum(map(len, files)):,} bytes, JPEG quality {quality}")


if __name__ == "__main__":
    main()
