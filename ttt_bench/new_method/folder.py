"""Writes the plugin folder of a new method, which installs, passes its checks and runs."""

import re
from importlib import resources, util
from pathlib import Path

import jinja2

from ttt_bench.api.errors import UserError
from ttt_bench.registry import registry

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 40
# A class of such a name would hide an import of the generated module, or is a keyword.
TAKEN_CLASSES = frozenset(
    {"Adapter", "Callable", "Classifier", "False", "Field", "Float", "Inputs", "None",
     "Prediction", "Sample", "Sequence", "Task", "Tensor", "True"}
)  # fmt: skip


def write_plugin(name: str, folder: Path, online: bool = False) -> list[Path]:
    """Write the plugin of a method called `name` into an empty or new folder.

    Args:
        name: the method's name.
        folder: the folder.
        online: whether the method adapts along a stream, instead of to each image alone.

    Returns:
        The paths of the files.

    Raises:
        UserError: the name is invalid or taken, or the folder is not empty or cannot be written.
    """
    check_name(name)
    contents = plugin_files(name, online)
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; give another --output")
        for path, text in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, "utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write {folder} ({error.strerror}); give another --output"
        ) from error
    return [folder / path for path in contents]


def check_name(name: str) -> None:
    """Refuse a name that is invalid for a method, a distribution or a package, or is taken.

    Raises:
        UserError: the name is invalid or taken.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST or _class_name(name) in TAKEN_CLASSES:
        raise UserError(
            f"{name!r} cannot name a method: choose lower-case letters and digits in words joined "
            f"by hyphens, a letter first, at most {LONGEST}, such as my-method"
        )
    plugins = registry()
    if name in plugins.adapters:
        owner = plugins.adapters[name].plugin.distribution
        raise UserError(f"{name} is a method of {owner} already; choose another name")
    if any(plugin.name == name for plugin in plugins.plugins) or util.find_spec(_package(name)):
        raise UserError(f"{name} is an installed plugin already; choose another name")


def plugin_files(name: str, online: bool = False) -> dict[str, str]:
    """Return the text of every file of the plugin, by its path in the folder.

    Args:
        name: the method's name.
        online: whether the method adapts along a stream.
    """
    package, kind = _package(name), "online_" if online else ""
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{package}/__init__.py": "__init__.py",
        f"{package}/plugin.py": "plugin.py",
        f"{package}/adapter.py": f"{kind}adapter.py",
        f"tests/test_{name.replace('-', '_')}.py": f"{kind}test.py",
    }
    # The output is source code, not HTML, so nothing is escaped.
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    folder = resources.files("ttt_bench.new_method") / "templates"
    return {
        path: environment.from_string((folder / f"{template}.j2").read_text("utf-8")).render(
            name=name, package=package, class_name=_class_name(name), online=online
        )
        for path, template in templates.items()
    }


def _package(name: str) -> str:
    return f"ttt_bench_{name.replace('-', '_')}"


def _class_name(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))
