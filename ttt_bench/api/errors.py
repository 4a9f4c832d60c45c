"""UserError, and how to say in one line what went wrong."""

import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from ttt_bench.api.text import plain, without_escape_codes


class UserError(Exception):
    """Bad input: the message says what is wrong, where, and what to do.

    The command line prints it as one line, without a traceback, and exits with code 2. A notebook
    shows one line too.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: a traceback only where TTT_BENCH_TRACEBACK asks for it."""
        if os.environ.get("TTT_BENCH_TRACEBACK"):
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self}"]


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> UserError:
    """Return the error for an unknown name, with the nearest known names."""
    known = sorted(known)
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    near = get_close_matches(name.lower(), by_lower_case, n=3, cutoff=0.4)
    near = [by_lower_case[candidate] for candidate in near]
    if near:
        advice = f"did you mean {' or '.join(near)}?"
    elif known:
        advice = f"known: {', '.join(known)}"
    else:
        advice = f"no {what} is known"
    return UserError(f"unknown {what} {name!r}; {advice}{f' ({hint})' if hint else ''}")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text, its type's name where it has no text.

    The line is fit to be printed: it has no escape codes, and hidden characters are spelled out.
    """
    try:
        text = without_escape_codes(str(error))
    except KeyboardInterrupt:
        raise
    # The text is made by the exception's own code, which may do anything.
    except BaseException as failure:
        return f"{_type_name(error)}, whose text cannot be made ({_type_name(failure)})"
    lines = (plain(line.strip()) for line in text.splitlines())
    return next((line for line in lines if line), _type_name(error))


def described(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text."""
    name, line = _type_name(error), first_line(error)
    return line if line.partition(",")[0] == name else f"{name}: {line}"


def _type_name(error: BaseException) -> str:
    return plain(type(error).__name__)


class MethodError(UserError):
    """A fault of a method's own code, which stops that method and no other."""


@contextmanager
def method_errors(what: str, package: str) -> Iterator[None]:
    """Say in one line what a method's own code raised, and at which of its lines.

    Args:
        what: the beginning of the message, such as "apm failed in its setup".
        package: the top-level package of the method's code.

    Raises:
        MethodError: the code inside raised anything but a UserError, leaving the process included.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        where = own_frame(error, package)
        at = f" at {where}" if where else ""
        raise MethodError(
            f"{what}: {described(error)}{at}; set TTT_BENCH_TRACEBACK=1 to see where"
        ) from error


def own_frame(error: BaseException, package: str) -> str:
    """Return `file:line` of the deepest frame of a package in a traceback, "" for none."""
    deepest, trace = "", error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] == package:
            deepest = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return deepest
