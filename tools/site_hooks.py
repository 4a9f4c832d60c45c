"""Hooks of MkDocs: the pages of the Python reference, and links to files outside docs/.

The reference follows from the list of public names, `ttt_bench/__init__.pyi`, so it has no pages of
its own in docs/.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
STUB = ROOT / "ttt_bench" / "__init__.pyi"
# The pages of the reference: title, what its names are for, and the modules that they are from.
PAGES = {
    "python": ("Runs and results", "What notebooks and scripts call.", ("python",)),
    "methods": (
        "Methods",
        "What the author of a method implements and is given.",
        ("api.adapter", "api.sample", "api.task", "api.inputs", "api.views", "views"),
    ),
    "backbones": (
        "Backbones",
        "What the author of a model implements: a backbone and its capabilities.",
        ("api.backbone", "api.working_copy", "api.class_set", "backbones", "engine.loading"),
    ),
    "datasets": (
        "Datasets",
        "What the author of a dataset implements and can build on.",
        ("api.dataset", "api.acquisition", "api.on_disk", "api.regular_files", "datasets"),
    ),
    "records": (
        "Metrics and references",
        "What metrics are functions of, and what published tables are made of.",
        ("api.records", "api.reference"),
    ),
    "plugins": (
        "Plugins",
        "What a plugin declares, and what it is told.",
        ("api.specs", "api.events", "api.tracker", "api.errors", "registry"),
    ),
    "executors": (
        "Executors",
        "What the author of a way to compute chunks implements and is given.",
        ("api.executor",),
    ),
    # Names of all other modules stand here.
    "tools": ("Tools", "What authors need besides.", ()),
}
HOOKS = "ttt_bench.api.hookspecs"
# A link that leads up and, perhaps, out of docs/.
LINK = re.compile(r"(!?)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the Python reference."""
    names: dict[str, list[str]] = {page: [] for page in PAGES}
    for module, name in public_names():
        names[page_of(module)].append(name)
    for page, (title, about, _) in PAGES.items():
        objects = [f"::: ttt_bench.{name}" for name in names[page] if name != "hookimpl"]
        if page == "plugins":
            objects.append(f"## Hooks\n\n::: {HOOKS}\n    options:\n      show_root_heading: false")
        text = "\n\n".join([f"# {title}", about, *objects])
        files.append(File.generated(config, f"reference/{page}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files outside docs/ to the repository, or show their paths without one."""
    folder = posixpath.dirname(page.file.src_uri)

    def led(match: re.Match[str]) -> str:
        image, label, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        # MkDocs warns of a link to nothing.
        if image or path.startswith("docs/") or not (ROOT / path).exists():
            return match.group(0)
        if path.endswith(".ipynb"):
            # tools/site_notebooks.py makes a page of it.
            made = f"docs/{path.removesuffix('.ipynb').replace('_', '-')}.md"
            return f"[{label}]({posixpath.relpath(made, posixpath.join('docs', folder))})"
        if config.repo_url:
            return f"[{label}]({config.repo_url.rstrip('/')}/blob/HEAD/{path}{anchor or ''})"
        return f"`{path}`" if label in (path, posixpath.basename(path)) else f"{label} (`{path}`)"

    return LINK.sub(led, markdown)


def public_names() -> Iterator[tuple[str, str]]:
    """Yield the module below `ttt_bench` and the name of everything that is public."""
    for node in ast.parse(STUB.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


def page_of(module: str) -> str:
    """Return the page of the reference that has the public names of a module."""
    for page, (_, _, modules) in PAGES.items():
        if any(module == some or module.startswith(f"{some}.") for some in modules):
            return page
    return "tools"
