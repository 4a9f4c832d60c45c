"""UserError, and how to say in one line what went wrong."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: the message says what is wrong, where, and what to do.

    The command line prints it as one line, without a traceback, and exits with code 2.
    """


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
    """Return the first line of an exception's text, its type's name where it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def described(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


@contextmanager
def method_errors(what: str) -> Iterator[None]:
    """Say in one line what a method's own code raised.

    Args:
        what: the beginning of the message, such as "apm failed in its setup".

    Raises:
        UserError: the code inside raised anything.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what}: {described(error)}; set TTT_BENCH_TRACEBACK=1 to see where"
        ) from error
