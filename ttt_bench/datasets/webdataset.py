"""`webdataset:PATTERN`: images in tar shards, as the WebDataset format has them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from typing_extensions import override

from ttt_bench.api.errors import UserError, first_line
from ttt_bench.api.on_disk import MOST_BYTES
from ttt_bench.datasets.class_names import NAMES_FILE, name_labels, read_names
from ttt_bench.datasets.facts.packed import WEBDATASET
from ttt_bench.datasets.image_files import SUFFIXES
from ttt_bench.datasets.packed_images import PackedImage, PackedImages
from ttt_bench.datasets.path_options import find_path, split_options
from ttt_bench.datasets.tar_index import Member, read_index

# Bytes of a label; a file of metadata may hold a caption or boxes.
LARGEST_LABEL = 1 << 20
Files = Mapping[str, Member]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a shard says of an image.

    Attributes:
        image: its bytes.
        label: its class, as a number or a word.
        file: the name of the file that it was made from, its key where that is not known.
    """

    image: Member
    label: int | str
    file: str


class WebDataset(PackedImages):
    """`webdataset:PATTERN[,classes=FILE]`: for each key an image, and a label in .cls or .json.

    PATTERN is a shard, a folder of shards, a glob, or has braces as `shard-{000..003}.tar`. A label
    is a number or a word in KEY.cls, or the field `label` of KEY.json. Names of numbers are in the
    lines of FILE, or of `classnames.txt` beside the shards or in the folder above.

    The library `webdataset` spells patterns and keys here, but it only streams: an image is found
    by reading everything before it. Resuming, limits and workers need any image at any time, so the
    places of the images come from the headers of the archives, which `tarfile` reads without the
    images between them.

    Raises:
        UserError: a shard is missing or damaged, a key comes twice or lacks its image or label, or
            the labels have no names.
    """

    spec = WEBDATASET
    read_from = "webdataset"

    def __init__(self, argument: str, data_root: Path | None) -> None:
        self.name = f"webdataset:{argument}"
        pattern, options = split_options("webdataset", argument, ("classes",))
        shards = _find_shards(self.name, pattern, data_root)
        by_key = _group(self.name, shards)
        shown = {key: _show(self.name, key, files) for key, files in by_key.items()}
        self._members = [one.image for one in shown.values()]
        names, file = None, None
        if "classes" in options:
            file = find_path(options["classes"], data_root)
        elif beside := _names_beside(shards):
            names = read_names(beside)
        raw = [one.label for one in shown.values()]
        labels, names = name_labels(self.name, raw, names, file) if raw else ([], [])
        images = [
            PackedImage(key, one.file, label, one.image.size)
            for (key, one), label in zip(shown.items(), labels, strict=True)
        ]
        self._arrange(images, names)

    @override
    def read(self, number: int) -> bytes:
        return self._members[number].read()

    @override
    def where(self, number: int) -> str:
        member = self._members[number]
        return f"{member.archive}: {member.path}"


def _find_shards(name: str, pattern: str, data_root: Path | None) -> list[Path]:
    """Return the shards of a pattern, each once.

    Raises:
        UserError: there are none, or one that braces name is missing.
    """
    if "://" in pattern or pattern.startswith("pipe:"):
        raise UserError(f"{name}: shards are read from disk; download them and give their path")
    shards: list[Path] = []
    for word in _library().shardlists.expand_urls(pattern):
        path = find_path(word, data_root)
        if path.is_dir():
            shards += sorted(path.glob("*.tar"))
        elif path.exists() or not has_magic(word):
            shards.append(path)
        else:
            roots = [Path(), *([data_root] if data_root else [])]
            matches = ([Path(file) for file in sorted(glob(str(root / word)))] for root in roots)
            shards += next(filter(None, matches), [])
    if not shards:
        raise UserError(f"{name}: no shard of that name; give the path of .tar files")
    return list(dict.fromkeys(shards))


def _library() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise UserError(
            "webdataset: needs the package webdataset; install it by `pip install "
            "'ttt-bench[webdataset]'`"
        ) from error
    return webdataset


def _group(name: str, shards: Iterable[Path]) -> dict[str, dict[str, Member]]:
    """Return the files of all shards by key and then by what follows the key's dot.

    Raises:
        UserError: a shard cannot be read, or a key or a file of it comes twice.
    """
    split_key = _library().tariterators.base_plus_ext
    by_key: dict[str, dict[str, Member]] = {}
    for shard in shards:
        in_shard: dict[str, dict[str, Member]] = {}
        for member in read_index(shard):
            key, extension = split_key(member.path)
            # The library skips files without an extension and its own metadata.
            if key is None or Path(key).name.startswith(("__", "._")):
                continue
            files = in_shard.setdefault(key, {})
            if extension.lower() in files:
                raise UserError(
                    f"{name}: {shard} holds {member.path} twice; give each key once and write the "
                    "shard again"
                )
            files[extension.lower()] = member
        for key, files in in_shard.items():
            if key in by_key:
                first = next(iter(by_key[key].values())).archive
                raise UserError(
                    f"{name}: the key {key} is in {first} and in {shard}; give each key once"
                )
            by_key[key] = files
    return by_key


def _show(name: str, key: str, files: Files) -> Shown:
    """Return what the files of a key say.

    Raises:
        UserError: there is not one image, or no label that can be read.
    """
    archive = next(iter(files.values())).archive
    where = f"{name}: key {key} in {archive}"
    images = [extension for extension in files if f".{_last(extension)}" in SUFFIXES]
    if len(images) != 1:
        raise UserError(
            f"{where} has {len(images)} images among {', '.join(sorted(files))}; give each key one"
        )
    image = files[images[0]]
    if image.size > MOST_BYTES:
        raise UserError(f"{where} has an image of {image.size:,} bytes; leave it out")
    described = _read_json(where, files["json"]) if "json" in files else {}
    if "cls" in files:
        text = _read_text(where, files["cls"]).strip()
        label = int(text) if text.isdecimal() or text.removeprefix("-").isdecimal() else text
    else:
        label = described.get("label", "")
    if not isinstance(label, int | str) or isinstance(label, bool) or label == "":
        raise UserError(
            f"{where} has no label; give it a .cls, or a .json with a number or word as `label`"
        )
    file = described.get("filename")
    return Shown(image, label, file if isinstance(file, str) else f"{key}.{images[0]}")


def _last(extension: str) -> str:
    return extension.rpartition(".")[2]


def _read_json(where: str, member: Member) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(where, member))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{where}: its .json cannot be read ({first_line(error)}); write it again"
        ) from error
    return content if isinstance(content, dict) else {}


def _read_text(where: str, member: Member) -> str:
    if member.size > LARGEST_LABEL:
        raise UserError(f"{where}: {member.path} has {member.size:,} bytes, too many for a label")
    try:
        return member.read().decode()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{where}: {member.path} cannot be read ({first_line(error)}); write the shard again"
        ) from error


def _names_beside(shards: Iterable[Path]) -> Path | None:
    """Return the file of class names beside the shards or in the folder above, None for none."""
    folders = dict.fromkeys(folder for shard in shards for folder in shard.absolute().parents[:2])
    return next((f / NAMES_FILE for f in folders if (f / NAMES_FILE).exists()), None)
