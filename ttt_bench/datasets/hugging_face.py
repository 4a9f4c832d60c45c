"""`hf:NAME_OR_PATH`: images in a table of the `datasets` library."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from ttt_bench.api.errors import UserError
from ttt_bench.api.on_disk import read_encoded
from ttt_bench.datasets.class_names import name_labels
from ttt_bench.datasets.facts.packed import HUGGING_FACE
from ttt_bench.datasets.hugging_face_loading import library, load_split
from ttt_bench.datasets.packed_images import PackedImage, PackedImages
from ttt_bench.datasets.path_options import find_path, split_options

OPTIONS = ("split", "image", "label", "classes", "config", "revision")
# Columns of words that copies of ImageNet's sets have for labels.
WORDNET_COLUMNS = ("wnid", "synset")
ROWS_AT_ONCE = 1000


class HuggingFaceImages(PackedImages):
    """`hf:NAME_OR_PATH[,KEY=VALUE,...]`: a folder of `save_to_disk`, or a dataset of the hub.

    `split`: the split, by default that of the test images. `image`, `label`: the columns, needed
    where not exactly one column has images and one has classes. `classes`: a file of class names.
    `config`: a configuration of the dataset. `revision`: a commit, branch or tag of it.

    An image is named by its class and file name. Where the table has no file names, or one comes
    twice in a class, it is named by a hash of its bytes, for which all are read once.

    Raises:
        UserError: the dataset, its columns or its class names are missing, or the library is.
    """

    spec = HUGGING_FACE

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = f"hf:{argument}"
        source, options = split_options("hf", argument, OPTIONS)
        table, self.read_from = load_split(self.name, source, options, data_root)
        image = _image_column(self.name, table.features, options.get("image"))
        label = _label_column(self.name, table.features, options.get("label"))
        feature = table.features[label]
        names = getattr(feature, "names", None)
        file = find_path(options["classes"], data_root) if "classes" in options else None
        as_stored = table.cast_column(image, library().Image(decode=False))
        self._column = image
        self._table = as_stored.select_columns([image]).with_format("arrow")
        raw = _column(table, label).to_pylist()
        if any(value is None for value in raw):
            raise UserError(f"{self.name}: {label} is empty in row {raw.index(None)}; give a label")
        # Names of the user's own must not change what an image is called.
        classes = [value if names is None or value < 0 else names[value] for value in raw]
        labels, names = name_labels(self.name, raw, names, file) if raw else ([], [])
        self._arrange(self._images(labels, classes), names)

    def _images(self, labels: Sequence[int], classes: Sequence[int | str]) -> list[PackedImage]:
        stored = list(self._files_and_sizes())
        files = [PurePosixPath(path.replace("\\", "/")).name for path, _ in stored]
        keys = [f"{of_class}/{file}" for of_class, file in zip(classes, files, strict=True)]
        if not all(files) or len(set(keys)) < len(keys):
            keys = list(_numbered(map(self._hash, range(len(files)))))
        return [
            PackedImage(key, file, label, size)
            for key, file, label, (_, size) in zip(keys, files, labels, stored, strict=True)
        ]

    def _files_and_sizes(self) -> Iterator[tuple[str, int]]:
        """Yield the path that each image was made from, "" for none, and its size in bytes.

        Arrow knows sizes without reading the images.

        Raises:
            UserError: a row has no image.
        """
        for start in range(0, len(self._table), ROWS_AT_ONCE):
            column = self._table[start : start + ROWS_AT_ONCE].column(self._column)
            paths = pc.struct_field(column, "path").to_pylist()  # pyright: ignore
            sizes = pc.binary_length(pc.struct_field(column, "bytes")).to_pylist()  # pyright: ignore
            for row, (path, size) in enumerate(zip(paths, sizes, strict=True), start):
                if size is None and not (path and Path(path).is_file()):
                    raise UserError(
                        f"{self.name}: row {row} has no image ({path or 'empty'}); leave it out"
                    )
                yield path or "", Path(path).stat().st_size if size is None else size

    def _hash(self, row: int) -> str:
        return hashlib.blake2b(self.read(row), digest_size=16).hexdigest()

    @override
    def read(self, number: int) -> bytes:
        value = self._table[number : number + 1].column(self._column)[0].as_py()
        return read_encoded(Path(value["path"])) if value["bytes"] is None else value["bytes"]

    @override
    def where(self, number: int) -> str:
        return f"{self.name}: row {number}"


def _column(table: Any, name: str) -> pa.ChunkedArray:
    return table.select_columns([name]).with_format("arrow")[:].column(name)


def _numbered(hashes: Iterator[str]) -> Iterator[str]:
    """Yield names that differ where images are equal: the second of two is `HASH-2`."""
    seen: Counter[str] = Counter()
    for one in hashes:
        seen[one] += 1
        yield one if seen[one] == 1 else f"{one}-{seen[one]}"


def _image_column(name: str, features: Any, chosen: str | None) -> str:
    """Return the column of the images, the only one unless it was chosen.

    Raises:
        UserError: the chosen one has no images, or not exactly one column has.
    """
    image = library().Image
    return _one_column(name, features, chosen, "image", [lambda f, _: isinstance(f, image)])


def _label_column(name: str, features: Any, chosen: str | None) -> str:
    """Return the column of the labels: of classes, of numbers, or of WordNet ids.

    Raises:
        UserError: the chosen one has neither numbers nor words, or no kind has exactly one column.
    """
    datasets = library()

    def is_value(feature: Any, start: str) -> bool:
        return isinstance(feature, datasets.Value) and str(feature.dtype).startswith(start)

    kinds = [
        lambda feature, _: isinstance(feature, datasets.ClassLabel),
        lambda feature, _: is_value(feature, "int") or is_value(feature, "uint"),
        lambda feature, column: column in WORDNET_COLUMNS and is_value(feature, "string"),
    ]
    if chosen is not None:
        kinds.append(lambda feature, _: is_value(feature, "string"))
    return _one_column(name, features, chosen, "label", kinds)


def _one_column(
    name: str,
    features: Any,
    chosen: str | None,
    option: str,
    kinds: Sequence[Callable[[Any, str], bool]],
) -> str:
    """Return the column that was chosen, or the only one of the first kind that has any."""
    listed = ", ".join(f"{column} ({_type_name(feature)})" for column, feature in features.items())
    if chosen is not None:
        if chosen not in features or not any(kind(features[chosen], chosen) for kind in kinds):
            raise UserError(f"{name}: {chosen} is no column of {option}s; the columns are {listed}")
        return chosen
    of_kinds = [[column for column in features if kind(features[column], column)] for kind in kinds]
    columns = next(filter(None, of_kinds), [])
    if len(columns) != 1:
        raise UserError(
            f"{name}: {len(columns) or 'no'} columns may be the {option}s; say which by "
            f"{option}=COLUMN; the columns are {listed}"
        )
    return columns[0]


def _type_name(feature: Any) -> str:
    return (
        str(getattr(feature, "dtype", ""))
        if type(feature).__name__ == "Value"
        else type(feature).__name__
    )
