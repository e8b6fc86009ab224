"""A text as a cell with an inline string (ECMA-376 part 1, 18.3.1.53 `is`, 22.9.2.19 ST_Xstring)."""

from __future__ import annotations

import re

CELL_UNITS = 32_767
"""What one cell holds, in UTF-16 units (Excel specifications and limits)."""
SURELY_FITS = CELL_UNITS // 2
"""A text of so many characters fits, whatever they are."""
_ODD = re.compile("[\0-\x1f&<>_\ud800-\udfff\ufffe\uffff]")
"""What most texts have none of; `_` may begin what looks like an escape."""
_CONTROL = re.compile("[\0-\x08\x0b-\x1f]")
_NO_CHARACTER = re.compile("[\ud800-\udfff\ufffe\uffff]")
_LOOKS_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}(?:_|[\0-\x08\x0b-\x1f]))")
"""A `_` that would be read as the beginning of an escape, also where the escape of a control character ends it."""


def inline_string(text: str, prefix: str = "") -> str:
    """The children of a cell of type `inlineStr` that holds a text. `prefix` is that of the part's elements."""
    if _ODD.search(text) is None and text.strip() == text and "  " not in text:  # nearly all are so plain
        return f"<{prefix}is><{prefix}t>{text}</{prefix}t></{prefix}is>"
    space = ' xml:space="preserve"' if _space_matters(text) else ""
    return f"<{prefix}is><{prefix}t{space}>{escaped(text)}</{prefix}t></{prefix}is>"


def escaped(text: str) -> str:
    """A text as XML has it, and as Excel reads it back: control characters as `_xHHHH_`, U+FFFD for no characters."""
    return xstring(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _space_matters(text: str) -> bool:
    """Whether a reader that tidies up blanks would change the text."""
    return text.strip() != text or "  " in text or "\n" in text or "\t" in text


def xstring(text: str) -> str:
    """A text with what XML can't hold escaped as ST_Xstring says; markup characters stay as they are."""
    text = _LOOKS_ESCAPED.sub("_x005F_", text)
    text = _CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return _NO_CHARACTER.sub("\ufffd", text)


def fits(text: str) -> bool:
    """Whether one cell can hold a text."""
    return len(text) <= SURELY_FITS or len(text.encode("utf-16-le", "surrogatepass")) <= 2 * CELL_UNITS
