"""How a new text becomes a field of a CSV file."""

from __future__ import annotations

import re

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a field for a formula (OWASP, *CSV Injection*)."""
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")


def harmless(text: str) -> str:
    """The text, with a leading `'` where a spreadsheet would run it as a formula. A plain number stays a number."""
    if text.startswith(FORMULA_STARTS) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def field(text: str, delimiter: str) -> str:
    """A new text as one field: made harmless, quoted only where the file's dialect needs it (RFC 4180, 2.6 and 2.7)."""
    if not text or text.isalnum():
        return text
    text = harmless(storable(text))
    if delimiter in text or '"' in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def storable(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
