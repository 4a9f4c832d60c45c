"""An extension of Griffe: examples in docstrings are shown as code on the site."""

import re
from typing import Any

import griffe

# A line such as "Example:", and the deeper lines under it.
EXAMPLE = re.compile(r"^( *)(Example[^\n]*):\n((?:\1 +[^\n]*(?:\n|$)|\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Puts the code of examples into fences."""

    def on_object(self, *, obj: griffe.Object, **others: Any) -> None:
        """Rewrite the docstring of a class, a function or a module."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(fenced, obj.docstring.value)


def fenced(match: re.Match[str]) -> str:
    """Return an example with a fence around its code."""
    indent, title, code = match.groups()
    lines = code.rstrip().split("\n")
    margin = min(len(line) - len(line.lstrip()) for line in lines if line)
    shown = "\n".join(indent + line[margin:] for line in lines)
    return f"{indent}**{title}**\n\n{indent}```python\n{shown}\n{indent}```\n\n"
