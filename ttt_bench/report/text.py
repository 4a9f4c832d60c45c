"""Names from data as they are printed: file names, classes and cards can hold any character."""

import unicodedata

# Control characters move a terminal's cursor, format characters turn the reading direction,
# surrogates are bytes that were no text, and separators end a line.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: str) -> str:
    """One line that shows every character for what it is, those that do something as `\\x1b`."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in HIDDEN else c
        for c in text
    )
