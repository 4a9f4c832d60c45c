"""Text from data as it is printed: names, cards and errors can hold any character."""

import re
import unicodedata

# Control characters move a terminal's cursor, format characters turn the reading direction,
# surrogates are bytes that were no text, and separators end a line.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# ECMA-48: control sequences such as colours, operating system commands such as titles, the rest.
ESCAPE_CODES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?"
)


def plain(text: str) -> str:
    """Return one line in which every character is seen, those that do something as `\\x1b`."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in HIDDEN else c
        for c in text
    )


def without_escape_codes(text: str) -> str:
    """Return text without the codes that colour it or move a terminal's cursor."""
    return ESCAPE_CODES.sub("", text)
