"""Digests of the code that makes a run, so that an edited method is another run.

Python files count by what they do: comments, docstrings and formatting are left out. Every other
file of a package (weights, tables) counts by its bytes.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata, util
from pathlib import Path

from ttt_bench.api.specs import Spec
from ttt_bench.runs.source import canonical, source_digests

HARNESS = "ttt_bench"
PACKAGE = Path(__file__).parents[1]
# The rooms of the harness that a record can depend on.
ENGINE_ROOMS = (
    "api",
    "backbones",
    "baselines",
    "cache",
    "datasets",
    "engine",
    "executors",
    "preparation",
    "registry.py",
    "runner",
    "runs",
    "toolkit",
)


def code_files(spec: Spec) -> dict[str, str]:
    """Return the digest of every file of the package that brings a spec's code.

    The files of ttt-bench's own specs are those of their room, such as `baselines`. A class of a
    notebook's cell or a script counts by its source, with everything there that it uses.

    Args:
        spec: the spec of a method, a backbone or a dataset.

    Raises:
        UserError: the spec has a class whose source cannot be found.
    """
    module = spec.code.partition(":")[0]
    package, _, rest = module.partition(".")
    if package == HARNESS:
        return _digests(PACKAGE / rest.partition(".")[0])
    files = _package_digests(package)
    if spec.given is not None and (package == "__main__" or not files):
        return source_digests(spec.given)
    return files


def engine_digest() -> str:
    """Return a digest of the parts of ttt-bench itself that records can depend on."""
    files: dict[str, str] = {}
    for room in ENGINE_ROOMS:
        files |= {f"{room}/{name}": digest for name, digest in _digests(PACKAGE / room).items()}
    return combined(files)


def harness() -> dict[str, str]:
    """Return the version and the digest of ttt-bench itself, as manifests record them."""
    return {"version": metadata.version("ttt-bench"), "code": engine_digest()}


def combined(files: Mapping[str, str]) -> str:
    """Return one digest, 16 hexadecimal digits, for the digests of files."""
    lines = "".join(f"{name}\0{files[name]}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the names of the files that differ, are new or are gone."""
    names = sorted({*before, *now})
    return [name for name in names if before.get(name) != now.get(name)]


def _package_digests(package: str) -> dict[str, str]:
    try:
        module = util.find_spec(package)
    # A module that was made by hand has no spec.
    except (ImportError, ValueError):
        module = None
    if module is None:
        return {}
    if module.submodule_search_locations:
        files: dict[str, str] = {}
        for folder in module.submodule_search_locations:
            files |= {f"{package}/{n}": digest for n, digest in _digests(Path(folder)).items()}
        return files
    origin = Path(module.origin or "")
    return {origin.name: _file_digest(origin)} if origin.is_file() else {}


def _digests(room: Path) -> dict[str, str]:
    if room.is_file() or room.with_suffix(".py").is_file():
        file = room if room.is_file() else room.with_suffix(".py")
        return {file.name: _file_digest(file)}
    return {path.relative_to(room).as_posix(): _file_digest(path) for path in _files(room)}


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        compiled = "__pycache__" in path.parts or path.suffix in (".pyc", ".pyo")
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not compiled and not hidden:
            yield path


def _file_digest(path: Path) -> str:
    status = path.stat()
    return _digest_of(path, status.st_mtime_ns, status.st_size)


@cache
def _digest_of(path: Path, modified: int, size: int) -> str:
    """Digest a file once for as long as it stays as it is."""
    content = path.read_bytes()
    if path.suffix == ".py":
        try:
            tree = ast.parse(content)
        except (SyntaxError, ValueError):
            pass
        else:
            content = canonical(tree)
    return hashlib.sha256(content).hexdigest()[:16]
