"""What makes a row the same row tomorrow, and what makes two rows duplicates: forms of texts, and their hashes.

Two texts are alike if they differ only in case, in spaces and what can't be seen at all, in the Unicode form of the
same characters (full-width digits, ligatures, accents; NFKC, Unicode Standard Annex #15), in how a letter is written
(`ä` and `ae`), in the word between two names (`&`, `und`, `and`, `et`), in signs, or in zeros that a number begins
with: `RE-0042`, `re / 42` and `RE0042`. Signs between two digits keep them apart (`42-1` is not `421`), a decimal mark
keeps its zeros (`1.05` is not `1.5`), and a minus before a number stays.
"""

from __future__ import annotations

import re
from decimal import Decimal
from hashlib import sha256
from typing import TYPE_CHECKING
from unicodedata import category, digit, normalize

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


CLAIM_BYTES = 16
NO_CLAIM = b""
"""The claim of a row that has no values to be unique by."""

_LEADING_ZEROS = re.compile(r"(?<![0-9])(?<![0-9][.,])0+(?=[0-9])")
_AND = re.compile(r"(?<=[^\W\d_])(?:\s*[&+]\s*|\W+(?:und|and|et)\W+)(?=[^\W\d_])")
_SIGNS = re.compile(r"[-!\"#'()*,./:;<=>?\[\\\]^_`{|}~+]+")
_NEGATIVE = re.compile(r"-[0-9.,]+|[0-9.,]+-|\([0-9.,]+\)")
_WRITTEN = {"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "œ": "oe", "ø": "oe", "å": "aa"}


def plain(text: str) -> str:
    """The form in which a text is compared."""
    folded = text.lower()
    if not text.isascii():
        folded = "".join(map(_like, normalize("NFKC", normalize("NFKC", text).casefold())))
    while (joined := _AND.sub("&", folded)) != folded:
        folded = joined
    whole = normalize("NFKC", "".join(folded.split()))
    minus = "-" if _NEGATIVE.fullmatch(whole) else ""
    return _LEADING_ZEROS.sub("", minus + _SIGNS.sub(_kept_sign, whole))


def _kept_sign(signs: re.Match[str]) -> str:
    """What stays of signs: a decimal mark, or one dash, between two digits; elsewhere nothing."""
    before, after = signs.string[: signs.start()][-1:], signs.string[signs.end() :][:1]
    if not (before.isdecimal() and after.isdecimal()):
        return ""
    return signs[0] if signs[0] in {".", ","} else "-"


def _like(letter: str) -> str:
    """What stands for a letter and all that look like it: 0 to 9 for digits, a dash for other signs than currencies."""
    kind = category(letter)
    if kind == "Nd":
        return str(digit(letter))
    if kind == "Cf" or "\u0300" <= letter <= "\u036f":
        return ""
    if letter in _WRITTEN:
        return _WRITTEN[letter]
    if not letter.isascii() and (kind[0] == "P" or kind in {"Sm", "Sk"}):
        return "-"
    base = normalize("NFD", letter)[0]
    return base if base.isascii() and base.isalpha() else letter


def former_plain(text: str) -> str:
    """The form in which releases compared texts that knew less of how they are written; their journals hold it."""
    if text.isascii():
        return _LEADING_ZEROS.sub("", "".join(text.lower().split()))
    folded = "".join(map(_formerly_like, normalize("NFKC", normalize("NFKC", text).casefold())))
    return _LEADING_ZEROS.sub("", normalize("NFKC", "".join(folded.split())))


def _formerly_like(letter: str) -> str:
    kind = category(letter)
    if kind == "Nd":
        return str(digit(letter))
    return "" if kind == "Cf" else "-" if kind == "Pd" or letter == "\N{MINUS SIGN}" else letter


def dedup_key_of(texts: Sequence[str], form: Callable[[str], str] = plain) -> bytes:
    """The same for rows that are alike in these texts, which come in the same order for all rows."""
    plains = [form(text) for text in texts]
    return sha256(msgspec.json.encode(plains)).digest()[:CLAIM_BYTES] if any(plains) else NO_CLAIM


_PLAIN_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.([0-9]*))?(%?)")
_MIDNIGHT = "T00:00:00"


def number_form(text: str) -> str:
    """The form that all ways to write a number have in common: `10` for `10.00`, `0.195` for `19.50%`.

    A text with zeros in front is no number, and a midnight is a day. `1.10` in a text file may be a number or not:
    a row with it is looked up under both forms.
    """
    match = _PLAIN_NUMBER.fullmatch(text)
    if match is None:
        return text.removesuffix(_MIDNIGHT) if text[4:5] == "-" and len(text) == len("2026-02-28T00:00:00") else text
    if match[3]:
        text = f"{Decimal(text[:-1]).scaleb(-2):f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def number_forms(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts with their numbers in that form; the very same where none has another."""
    if any("." in text or "%" in text or text == "-0" or text.endswith(_MIDNIGHT) for text in texts):
        forms = tuple(map(number_form, texts))
        return texts if forms == texts else forms
    return texts


def with_others(texts: tuple[str, ...], others: Mapping[int, str]) -> tuple[str, ...]:
    """The texts with these at their places."""
    return tuple(others.get(place, text) for place, text in enumerate(texts)) if others else texts


KEY_BYTES = 16


def key_of(texts: dict[str, str]) -> bytes:
    """The key of a row whose key columns hold these texts; or, where all params are the key, that sends these."""
    return digest_of(sorted(texts.items()))


def digest_of(pairs: list[tuple[str, str]], identity: str = "") -> bytes:
    """Different for whatever differs; an identity is told from a param of that name by its place."""
    return sha256(msgspec.json.encode((pairs, identity) if identity else pairs)).digest()[:KEY_BYTES]
