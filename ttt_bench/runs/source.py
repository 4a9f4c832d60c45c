"""Digests of classes that are in no package's file: those of a notebook's cells or of a script.

Such a class counts by its source without comments, docstrings and formatting. So does every
function and class of the same notebook that it uses, and every variable by its value.
"""

import ast
import functools
import hashlib
import inspect
import json
import linecache
import logging
import symtable
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from types import FunctionType, GenericAlias, ModuleType, SimpleNamespace, UnionType
from typing import Any

import numpy as np
from pydantic import BaseModel

from ttt_bench.api.errors import UserError

PLAIN = (
    type(None), bool, int, float, complex, str, bytes, range, PurePath, Enum, np.generic, np.dtype,
)  # fmt: skip
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Objects that say nothing of what a method computes.
SILENT = (ModuleType, GenericAlias, UnionType, logging.Logger)
OF_ANNOTATIONS = ("typing", "typing_extensions")
# Of the torch module, numbers' types and devices are known by their names.
KNOWN_BY_NAME = ("dtype", "device")
# The variable in which IPython keeps the sources of the cells.
CELLS = "In"


@dataclass(frozen=True)
class _Definition:
    """A class or a function as it is written, and the variables that it sees."""

    node: ast.AST
    tree: ast.Module
    variables: Mapping[str, Any]


def source_digests(given: type[Any]) -> dict[str, str]:
    """Return a digest of a class, and of everything of its notebook or script that it uses.

    Args:
        given: the class.

    Returns:
        16 hexadecimal digits by the name of each class, function and variable.

    Raises:
        UserError: a source cannot be found, or a variable holds what has no digest.
    """
    digests: dict[str, str] = {}
    waiting: list[tuple[str, Any, _Definition | None]] = [(given.__name__, given, None)]
    while waiting:
        name, value, user = waiting.pop()
        if name in digests or _is_elsewhere(value, given.__module__):
            continue
        if isinstance(value, type | FunctionType):
            definition = _definition(value, user)
            if definition is None:
                digests[name] = _digest(_without_source(value))
                continue
            digests[name] = _digest(canonical(definition.node))
            variables = definition.variables
            used = _names_used(ast.unparse(definition.node))
            waiting += [(one, variables[one], definition) for one in used if one in variables]
        else:
            content = _content(value)
            if content is None:
                raise UserError(
                    f"{given.__name__} uses the variable {name}, whose value has no digest for the "
                    f"card (it is of type {type(value).__name__}); make it inside the "
                    "class, such as in setup, or give it as a field of the configuration"
                )
            digests[name] = _digest(content)
            waiting.append((type(value).__name__, type(value), user))
    return digests


def canonical(tree: ast.AST) -> bytes:
    """Return a syntax tree without docstrings as bytes, the same for every version of Python."""
    return repr(_as_tuples(tree)).encode("utf-8", "surrogatepass")


def _as_tuples(node: ast.AST | list[Any]) -> tuple[Any, ...]:
    """Return a syntax tree as nested tuples, without empty fields: newer versions add some."""
    if isinstance(node, list):
        # Every process that runs a method digests a hundred thousand nodes: one call for each.
        return tuple([_as_tuples(i) if isinstance(i, (ast.AST, list)) else i for i in node])
    documented = isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None
    parts: list[Any] = [type(node).__name__]
    for name, value in ast.iter_fields(node):
        if documented and name == "body":
            value = value[1:]
        if value is None or value == []:
            continue
        nested = isinstance(value, (ast.AST, list))
        parts.append((name, _as_tuples(value) if nested else value))
    return tuple(parts)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _is_elsewhere(value: Any, module: str) -> bool:
    """Say whether a value is of an imported module."""
    if isinstance(value, SILENT) or type(value).__module__ in OF_ANNOTATIONS:
        return True
    if isinstance(value, type | FunctionType):
        return value.__module__ != module
    return inspect.isroutine(value)


def _definition(value: type[Any] | FunctionType, user: _Definition | None) -> _Definition | None:
    """Find where a class or a function is written, None where that cannot be found.

    Args:
        value: the class or the function.
        user: what uses it, None for nothing.
    """
    for function in _functions(value):
        tree = _parsed(linecache.getlines(function.__code__.co_filename, function.__globals__))
        node = tree and _node_at(tree, value.__name__, function.__code__.co_firstlineno)
        if tree and node:
            return _Definition(node, tree, {**function.__globals__, **_closure(function)})
    if isinstance(value, FunctionType):
        return None
    # A class without a function does not say where it is from.
    module = sys.modules.get(value.__module__)
    variables = user.variables if user else vars(module) if module else {}
    for tree in _trees(variables, user):
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        if same := [node for node in classes if node.name == value.__name__]:
            return _Definition(same[-1], tree, variables)
    return None


def _trees(variables: Mapping[str, Any], user: _Definition | None) -> Iterator[ast.Module]:
    """Yield where a class without a function may be written, the likeliest place first."""
    if user is not None:
        yield user.tree
    # The last cell that defines a name is the one that counts.
    cells = variables.get(CELLS)
    sources = [str(cell).splitlines(True) for cell in reversed(cells)] if cells else []
    sources.append(linecache.getlines(str(variables.get("__file__", ""))))
    for lines in sources:
        if tree := _parsed(lines):
            yield tree


def _functions(value: type[Any] | FunctionType) -> Iterator[FunctionType]:
    """Yield a function, or those that are written in a class."""
    if isinstance(value, FunctionType):
        yield inspect.unwrap(value)
        return
    for member in vars(value).values():
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        elif isinstance(member, property):
            member = member.fget
        elif isinstance(member, functools.cached_property):
            member = member.func
        if isinstance(member, FunctionType):
            function = inspect.unwrap(member)
            if function.__qualname__.startswith(f"{value.__qualname__}."):
                yield function


def _closure(function: FunctionType) -> dict[str, Any]:
    """Return the variables of the functions around a function."""
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        # A variable that has no value yet.
        except ValueError:
            continue
    found.pop("__class__", None)
    return found


def _parsed(lines: Sequence[str]) -> ast.Module | None:
    """Return the syntax tree of a source, None where there is none or it is no Python."""
    try:
        return ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError):
        return None


def _node_at(tree: ast.Module, name: str, line: int) -> ast.AST | None:
    """Return the innermost definition of a name around a line, else the statement there."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and _first_line(node) <= line <= (node.end_lineno or 0)
    ]
    # The walk meets what is inside a statement after the statement.
    named = [node for node in around if getattr(node, "name", None) == name]
    return (named or around or [None])[-1]


def _first_line(node: ast.stmt) -> int:
    decorators: Sequence[ast.expr] = getattr(node, "decorator_list", ())
    return min([node.lineno, *(one.lineno for one in decorators)])


def _names_used(source: str) -> list[str]:
    """Return the names in a definition that mean something outside of it."""
    names: set[str] = set()
    tables = [symtable.symtable(source, "definition", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced()
            # In `Config = Config` within a class the right one is the notebook's.
            if symbol.is_global() or table.get_type() in ("module", "class")
        }
    return sorted(name for name in names if not name.startswith("__"))


def _without_source(value: type[Any] | FunctionType) -> bytes:
    """Return what stands for a configuration whose source cannot be found: its fields.

    Raises:
        UserError: it is anything else.
    """
    if isinstance(value, type) and issubclass(value, BaseModel) and not [*_functions(value)]:
        return json.dumps(value.model_json_schema(), sort_keys=True).encode()
    raise UserError(
        f"{value.__qualname__}: its source cannot be found, and the card needs a digest of it; "
        "define it in a cell of a notebook or in a file"
    )


def _content(value: Any) -> bytes | None:
    """Return bytes that stand for the value of a variable, None where there are none."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, PLAIN) or kind in [f"torch.{name}" for name in KNOWN_BY_NAME]:
        return f"{kind}:{value!r}".encode("utf-8", "surrogatepass")
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    inner = _parts(value)
    if inner is None:
        return None
    contents = [_content(part) for part in inner]
    if None in contents:
        return None
    digests = [_digest(content) for content in contents if content is not None]
    if isinstance(value, set | frozenset):
        digests.sort()
    return " ".join([kind, *digests]).encode()


def _parts(value: Any) -> list[Any] | None:
    """Return what a value is made of, None where that is not known."""
    torch = sys.modules.get("torch")
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if is_dataclass(value):
        return [part for one in fields(value) for part in (one.name, getattr(value, one.name))]
    if isinstance(value, BaseModel):
        return [value.model_dump()]
    if isinstance(value, SimpleNamespace):
        return [vars(value)]
    if torch is not None and isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)  # (bytes,)
        return [str(value.dtype), tuple(value.shape), data.numpy()]
    if torch is not None and isinstance(value, torch.nn.Module):
        return [repr(value), dict(value.state_dict())]
    return None
