"""Modules import downwards: no circle, no lower layer that imports a higher one."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
# From the ground up; docs/architecture.md draws them. Rooms of one layer may import each other as
# long as there is no circle.
LAYERS = (
    ("api",),
    ("registry", "toolkit"),
    ("datasets", "backbones", "baselines", "references", "runs", "views"),
    ("cache", "metrics"),
    ("preparation",),
    ("engine",),
    ("executors",),
    ("runner",),
    ("compare",),
    ("report",),
    ("python",),
    ("testing",),
    ("doctor", "new_method"),
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}


class Import(NamedTuple):
    """One import of a module, wherever it stands: in a function or under TYPE_CHECKING too."""

    file: Path
    line: int
    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.importer} imports {self.imported}"


def module_name(file: Path) -> str:
    """Return the dotted name of a module from its path relative to the folder of its package."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(folder: Path, package: str) -> list[Import]:
    """Return every import in the modules of a package that lies in a folder."""
    return [
        Import(file.relative_to(folder), line, module_name(file.relative_to(folder)), imported)
        for file in sorted((folder / package).rglob("*.py"))
        for line, imported in imported_modules(file, folder)
    ]


def imported_modules(file: Path, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the module of every import in a file, relative ones resolved."""
    own_package = ".".join(file.relative_to(folder).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = own_package.split(".")[: len(own_package.split(".")) - node.level + 1]
                base = ".".join([*parents, *filter(None, [base])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if is_module(folder, name) else base


def is_module(folder: Path, name: str) -> bool:
    """Say whether a dotted name is a module or package in a folder."""
    path = folder.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room(module: str) -> str:
    """Return the part of a module's name that stands in `LAYERS`, "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def layer_violations(imports: list[Import]) -> list[str]:
    """Return a message for every import that leads upwards, or out of the layers."""
    messages = []
    for item in imports:
        if item.imported.partition(".")[0] != "ttt_bench" or room(item.importer) == "":
            continue
        low, high = room(item.importer), room(item.imported)
        if high == "":
            messages.append(f"{item}, whose names are for plugins; import the module itself")
        elif low not in HEIGHT or high not in HEIGHT:
            messages.append(f"{item}; {high if low in HEIGHT else low} is in no layer")
        elif HEIGHT[low] < HEIGHT[high]:
            messages.append(f"{item}; {high} lies above {low}")
        elif item.imported.endswith(".plugin"):
            messages.append(f"{item}; the registry alone loads it, by name")
    return messages


def circle(imports: list[Import]) -> list[str]:
    """Return the imports of one circle between modules, empty where there is none."""
    graph: dict[str, set[str]] = {}
    for item in imports:
        if item.imported.partition(".")[0] == "ttt_bench":
            graph.setdefault(item.importer, set()).add(item.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        modules = error.args[1]
        # The sorter lists a circle so that each module is imported by the next.
        pairs = set(zip(modules[1:], modules, strict=False))
        return [str(item) for item in imports if (item.importer, item.imported) in pairs]
    return []


def plugin_violations(imports: list[Import], *packages: str) -> list[str]:
    """Return a message for every import of a plugin that is no public name of ttt_bench.

    Args:
        imports: the imports of the plugin's modules.
        packages: its own package, and others whose modules it may import.
    """
    return [
        f"{item}; a plugin imports from ttt_bench itself"
        for item in imports
        if item.imported.startswith("ttt_bench") and item.imported.partition(".")[0] not in packages
        if item.imported != "ttt_bench"
    ]


def plant(folder: Path, **modules: str) -> list[Import]:
    """Write modules of a package `ttt_bench`, `api__task` for `api/task.py`; return imports."""
    for name, source in modules.items():
        file = folder / "ttt_bench" / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return imports_of(folder, "ttt_bench")


def test_no_module_imports_from_a_higher_layer():
    messages = layer_violations(imports_of(REPOSITORY, "ttt_bench"))
    assert not messages, "\n".join(messages)


def test_no_modules_import_each_other_in_a_circle():
    messages = circle(imports_of(REPOSITORY, "ttt_bench"))
    assert not messages, "\n".join(messages)


def test_every_room_is_in_a_layer():
    entries = {path.stem for path in (REPOSITORY / "ttt_bench").iterdir()}
    assert entries - {"__init__", "__pycache__", "py"} <= set(HEIGHT)


@pytest.mark.parametrize("folder", ["apm", "tpt", "tta", "ttt_mae", "photos", "trackers"])
def test_plugins_import_public_names_alone(folder: str):
    package = f"ttt_bench_{folder}"
    imports = imports_of(REPOSITORY / "plugins" / folder, package)
    assert any(item.imported == "ttt_bench" for item in imports)
    messages = plugin_violations(imports, package)
    assert not messages, "\n".join(messages)


def test_the_audit_imports_public_names_and_apm_alone():
    package = "ttt_bench_audit"
    imports = imports_of(REPOSITORY / "audit", package)
    messages = plugin_violations(imports, package, "ttt_bench_apm")
    assert not messages, "\n".join(messages)
    # Nothing that is for use depends on code of the audit.
    files = [*(REPOSITORY / "ttt_bench").rglob("*.py"), *(REPOSITORY / "plugins").rglob("*.py")]
    assert not [str(file) for file in files if package in file.read_text("utf-8")]


@pytest.mark.parametrize(
    "source",
    [
        "from ttt_bench.engine.worker import MethodWorker",
        "import ttt_bench.engine.worker",
        "def f():\n    from ttt_bench.engine import worker",
        "if TYPE_CHECKING:\n    from ttt_bench.engine.worker import MethodWorker",
        "from ..engine.worker import MethodWorker",
        "from ttt_bench import Task",
        "from ttt_bench.attic import Task",
    ],
)
def test_an_import_that_leads_upwards_is_named_with_its_line(source: str, tmp_path: Path):
    lines = source.count("\n") + 1
    imports = plant(tmp_path, runs__card=source, engine__worker="")
    (message,) = layer_violations(imports)
    assert message.startswith(f"ttt_bench/runs/card.py:{lines}: ttt_bench.runs.card imports ")


def test_a_plugin_module_of_a_room_is_imported_by_no_other(tmp_path: Path):
    imports = plant(tmp_path, cli__run="from ttt_bench.metrics.plugin import top1")
    (message,) = layer_violations(imports)
    assert message.endswith("the registry alone loads it, by name")


def test_a_circle_is_named_with_its_lines(tmp_path: Path):
    imports = plant(
        tmp_path,
        runs__card="from ttt_bench.runs import plan",
        runs__plan="\nfrom .folder import RunFolder",
        runs__folder="import ttt_bench.runs.card",
        runs__schema="import ttt_bench.runs.card",
    )
    assert layer_violations(imports) == []
    assert [message.partition(" ")[0] for message in circle(imports)] == [
        "ttt_bench/runs/card.py:1:",
        "ttt_bench/runs/folder.py:1:",
        "ttt_bench/runs/plan.py:2:",
    ]


@pytest.mark.parametrize("source", ["import ttt_bench.api", "from ttt_bench.api import task"])
def test_a_plugin_that_imports_internals_is_named(source: str, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "method.py").write_text(f"from ttt_bench import Adapter\n{source}\n")
    (message,) = plugin_violations(imports_of(tmp_path, "mine"), "mine")
    assert message.startswith("mine/method.py:2: mine.method imports ttt_bench.api")
