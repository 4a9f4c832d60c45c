"""What goes wrong on the user's side, and how to say it in one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input: the message says what is wrong, where, and what to do.

    The command line prints it as one line, without a traceback, and exits with code 2.
    """


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> UserError:
    """The error for a name that nobody registered, with the nearest names that somebody did."""
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
