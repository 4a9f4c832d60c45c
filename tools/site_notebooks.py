"""A hook of MkDocs: each notebook of examples/ is a page, with its outputs as they are stored."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

EXAMPLES = Path(__file__).parents[1] / "examples"
PICTURE = "image/png"
STYLE = re.compile(r"<style scoped>.*?</style>", re.DOTALL)


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add a page and its pictures for each notebook."""
    # The tests of notebooks need no MkDocs.
    from mkdocs.structure.files import File

    for path in sorted(EXAMPLES.glob("*.ipynb")):
        name = path.stem.replace("_", "-")
        text, pictures = page(json.loads(path.read_text("utf-8")), name)
        note = f"This page is the notebook `examples/{path.name}`."
        title, _, rest = text.partition("\n")
        text = f"{title}\n\n{note}\n{rest}"
        files.append(File.generated(config, f"examples/{name}.md", content=text))
        for file, content in pictures.items():
            files.append(File.generated(config, f"examples/{file}", content=content))
    return files


def page(notebook: dict[str, Any], name: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its pictures by the names of their files.

    Args:
        notebook: the notebook.
        name: the name of the page, with which the names of the pictures begin.
    """
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for kind, content in outputs(cell):
            if kind == PICTURE:
                file = f"{name}-{len(pictures) + 1}.png"
                pictures[file] = base64.b64decode(content)
                parts.append(f"![The picture that the cell shows]({file})")
            elif kind == "text/html":
                table = re.sub(r"\n\s*\n", "\n", STYLE.sub("", content)).strip()
                parts.append(f'<div style="overflow-x: auto">\n{table}\n</div>')
            else:
                parts.append(f"```text\n{content.rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def outputs(cell: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the outputs of a cell as its reader sees them: a type, and the content in it."""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            yield "text/plain", "".join(output["text"])
            continue
        data = output["data"]
        best = next(kind for kind in (PICTURE, "text/html", "text/plain") if kind in data)
        yield best, "".join(data[best])
