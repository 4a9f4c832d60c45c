"""Class names: from files of the user's, and for labels as data has them."""

from collections.abc import Sequence
from pathlib import Path

from ttt_bench.api.dataset import is_text
from ttt_bench.api.errors import UserError
from ttt_bench.api.regular_files import require_regular
from ttt_bench.datasets.image_files import LARGEST_LIST

NAMES_FILE = "classnames.txt"


def name_labels(
    dataset: str, raw: Sequence[int | str], names: Sequence[str] | None, file: Path | None
) -> tuple[list[int], list[str]]:
    """Return labels as numbers, and the class name of each number.

    Words are numbered in alphabetical order. They are the class names unless a file gives others.

    Args:
        dataset: the dataset's name, for messages.
        raw: each image's label as the data has it, all numbers or all words.
        names: the names of the numbers as the data has them, None where it has none.
        file: the user's names, for numbers a line each in their order, for words a line `word name`
            each; None for no such file.

    Raises:
        UserError: numbers have no names or fewer names than there are, some labels are numbers and
            some words, or the file cannot be read.
    """
    if words := [label for label in raw if isinstance(label, str)]:
        if len(words) < len(raw):
            raise UserError(
                f"{dataset}: some labels are numbers and some are words (as {words[0]!r}); write "
                "all of them in one way"
            )
        values = sorted(set(words))
        numbers = {value: number for number, value in enumerate(values)}
        given = values if file is None else list(read_names_of("label", values, file))
        return [numbers[word] for word in words], given
    labels = [int(label) for label in raw]
    if file is not None:
        names = read_names(file)
    if names is None:
        raise UserError(
            f"{dataset}: its labels are numbers without names; give classes=FILE, with a class "
            "name in each line in the order of the numbers"
        )
    lowest, highest = min(labels), max(labels)
    if lowest < 0:
        raise UserError(
            f"{dataset}: has images without a label (label {lowest}); take a part of the data "
            "that has its labels"
        )
    if highest >= len(names):
        source = f"{file} has" if file else "there are"
        raise UserError(
            f"{dataset}: a label is {highest}, and {source} {len(names)} class names; give "
            f"classes=FILE with at least {highest + 1} lines"
        )
    return labels, list(names)


def read_names(file: Path) -> list[str]:
    """Return the class names in a file, one in each line, in the order of the labels.

    Raises:
        UserError: the file cannot be read or has an empty line among the names.
    """
    names = [line.strip() for line in _read_lines(file)]
    while names and not names[-1]:
        names.pop()
    if not all(names):
        raise UserError(f"{file}: line {names.index('') + 1} has no class name; write one")
    return names


def read_names_of(what: str, values: Sequence[str], file: Path) -> tuple[str, ...]:
    """Return the class names that a file gives to values, a line `value name` for each.

    Args:
        what: the kind of the values, for the message.
        values: the values, none with a space in it.
        file: the file.

    Raises:
        UserError: the file cannot be read or lacks a value.
    """
    lines = [line.split(maxsplit=1) for line in _read_lines(file)]
    names = {words[0]: words[-1] for words in lines if words}
    unnamed = [value for value in values if value not in names]
    if unnamed:
        raise UserError(
            f"{file}: no name for the {what} {unnamed[0]}; write a line `{unnamed[0]} NAME`"
        )
    return tuple(names[value] for value in values)


def _read_lines(file: Path) -> list[str]:
    require_regular(file, LARGEST_LIST)
    try:
        text = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as text ({error}); save it as UTF-8") from error
    if not is_text(text):
        raise UserError(f"{file}: not readable as text; save it as UTF-8")
    return text.splitlines()
