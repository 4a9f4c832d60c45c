"""Code as a notebook runs it: from sources that no file holds, and Python knows all the same."""

import itertools
import linecache
from types import SimpleNamespace
from typing import Any

NUMBERS = itertools.count(1)


def run_cell(source: str, **variables: Any) -> SimpleNamespace:
    """Run a source as the cell of a notebook that has these variables; return all variables."""
    name = f"<cell {next(NUMBERS)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    known = {"__name__": "__main__", **variables}
    exec(compile(source, name, "exec"), known)
    return SimpleNamespace(**known)
