"""What makes a row unique, however it was typed: the values of some columns, brought to one form, as a hash.

Two texts are alike if they differ only in case, in spaces and what can't be seen at all, in the Unicode form of the
same characters (full-width digits, ligatures, accents as characters of their own; NFKC, Unicode Standard Annex #15), in
the kind of dash or of decimal digits, or in zeros that a number begins with: `RE-0042` and `re – 42`. Zeros behind a
decimal mark count: `1.05` is not `1.5`.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING
from unicodedata import category, digit, normalize

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

CLAIM_BYTES = 16
NO_CLAIM = b""
"""The claim of a row that has no values to be unique by."""

_LEADING_ZEROS = re.compile(r"(?<![0-9])(?<![0-9][.,])0+(?=[0-9])")


def plain(text: str) -> str:
    """The form in which a text is compared."""
    if text.isascii():
        return _LEADING_ZEROS.sub("", "".join(text.lower().split()))
    folded = "".join(map(_like, normalize("NFKC", normalize("NFKC", text).casefold())))
    return _LEADING_ZEROS.sub("", normalize("NFKC", "".join(folded.split())))


def _like(letter: str) -> str:
    """The letter that stands for all that look like it: the hyphen for dashes, 0 to 9 for digits, none for no sign."""
    kind = category(letter)
    if kind == "Nd":
        return str(digit(letter))
    return "" if kind == "Cf" else "-" if kind == "Pd" or letter == "\N{MINUS SIGN}" else letter


def claim_of(texts: Sequence[str]) -> bytes:
    """The same for rows that are alike in these texts, which come in the same order for all rows."""
    plains = [plain(text) for text in texts]
    return sha256(msgspec.json.encode(plains)).digest()[:CLAIM_BYTES] if any(plains) else NO_CLAIM
