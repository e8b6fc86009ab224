"""What a section of a number format makes of a number: an amount, a mask or an identifier; and what is in doubt.

Units and identifiers. What a code writes around a number is one or the other, by this rule:

- A number with decimals, thousands separators or a percent sign is an *amount*. All that stands around it is a unit,
  and left out: `#,##0.00 "kg"` → `1234.50`. A percent sign stays, in whatever way it is written (`0\\%` → `19%`).
- Digits with something else among them than thousands separators are a *mask*, and sent as shown: `000-00-0000`.
- Any other whole number may be an *identifier*. Of what stands *before* it, everything with a letter, a digit or one of
  `#№§/_` is part of it (`"INV-"0` → `INV-5`, `"KW "0` → `KW 12`), but for currencies (`"EUR "0` → `5`). Of what
  stands *behind* it, only what has a digit before any letter, or goes on with one of `-/._:#` and a letter
  (`0"/2026"` → `17/2026`, `0"-A"` → `17-A`); words are units (`0" kg"`, `0"Tage"` → `5`).
- Zeros that a code fills up with stay, whatever stands around them: `00000` → `00123`.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING
from unicodedata import category

from batch_runner.sheet.numfmt.parser import Part, TokenKind, written

if TYPE_CHECKING:
    from batch_runner.sheet.numfmt.parser import Section

_CODES = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD
HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD
LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK
PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS
TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
"""
CURRENCY_CODES = frozenset(_CODES.split())
"""ISO 4217, list one, without funds and metals."""
_CURRENCY_WORDS = frozenset(
    {"kr", "rs", "fr", "sfr", "kč", "zł", "ft", "lei", "лв", "руб", "грн", "tl", "rm", "rp", "bs", "dm", "din", "euro"}
)
_SIGN = "Sc"
"""The category that Unicode gives to signs of currencies."""

MINUS = "-–—−‐‑‒﹣－"
SEPARATORS = ("", "'", "’", "‘", ".", ",", "·", "٬", "⸱")
"""What stands between thousands besides the comma of a code; "" is any blank."""
_MARKS = "#№§/_"
_JOINED = re.compile(r"\W*[0-9]|[-/._:#\\][^\W_]")
"""How what stands behind a number begins if it is part of an identifier."""
_PERCENTS = "%‰％"
_ENGLISH = 9
_GREGORIAN = frozenset({0, 1, 2, 9, 10, 11, 12})
"""The calendars of the third byte of a `[$-…]` that show the years of the West (Windows' CALID)."""
_PLACEHOLDERS = frozenset({Part.DIGIT, Part.GENERAL, Part.EXPONENT})
_WORDS = frozenset({Part.LITERAL, Part.SLASH, Part.CURRENCY})
_WAYS = frozenset({Part.DIGIT, Part.PERCENT, Part.EXPONENT, Part.COMMA, Part.POINT})
_SHAPES = {Part.DATE: "d", Part.ELAPSED: "d", Part.POINT: ".", Part.DIGIT: "0", **dict.fromkeys(
    (Part.GENERAL, Part.EXPONENT, Part.TEXT, Part.PERCENT), "x"
)}  # fmt: skip
_SEVERAL = "it mixes several ways of writing a number"


class Among(Enum):
    """What stands among a number's integer digits."""

    NOTHING = "nothing"
    SEPARATORS = "separators"
    """Literals that set thousands (or lakhs) apart, as the comma does."""
    MASK = "mask"


class Meaning:
    """What a section means. Each answer is found once, when it is first asked for."""

    def __init__(self, section: Section) -> None:
        self.section = section

    @cached_property
    def span(self) -> tuple[int, int]:
        """Where the number's own tokens begin and end."""
        tokens = self.section.tokens
        own = [place for place, token in enumerate(tokens) if token.part in _PLACEHOLDERS]
        if not own:
            return len(tokens), len(tokens)
        start, end = own[0], own[-1] + 1
        if start and tokens[start - 1].part is Part.POINT:
            start -= 1
        return start, end

    @cached_property
    def prefix(self) -> str:
        """What is written before the number, currencies of the form `[$€]` left out."""
        return written(self.section.tokens[: self.span[0]])

    @cached_property
    def suffix(self) -> str:
        """What is written behind the number, likewise."""
        return written(self.section.tokens[self.span[1] :])

    @cached_property
    def words(self) -> str:
        """All that it shows besides the number."""
        return "".join(token.text for token in self.section.tokens if token.part in _WORDS)

    @cached_property
    def among(self) -> Among:
        """What stands among the integer digits."""
        runs, gaps = self._runs()
        if not gaps:
            return Among.NOTHING
        gap, *others = {gap.strip() for gap in gaps}
        if others or gap not in SEPARATORS or runs[-1] != 3 or set(runs[1:-1]) not in ({2}, {3}, set()):
            return Among.MASK
        form = self.section.layout
        return Among.MASK if form.padding > 1 and not form.decimals else Among.SEPARATORS

    def _runs(self) -> tuple[list[int], list[str]]:
        """How many digits stand side by side, and what is written between each two such runs."""
        start, end = self.span
        runs, gaps = [0], list[str]()
        for token in self.section.tokens[start : min(end, self.section.place_of(Part.POINT))]:
            if token.part is Part.DIGIT:
                runs[-1] += 1
            elif token.part is not Part.COMMA:
                if runs[-1]:
                    runs.append(0)
                    gaps.append("")
                if gaps:
                    gaps[-1] += written([token])
        if gaps and not runs[-1] and not gaps[-1].strip():
            return runs[:-1], gaps[:-1]
        return runs, gaps

    @cached_property
    def is_amount(self) -> bool:
        """Whether its number is an amount: it has decimals, separators or a percent sign."""
        form = self.section.layout
        return bool(form.decimals or form.grouped or self.percent_sign) or self.among is Among.SEPARATORS

    @cached_property
    def percent_sign(self) -> str:
        """The percent sign that it shows, as a part of the code or as a literal."""
        if self.section.layout.percents:
            return "%"
        return next((sign for sign in self.prefix + self.suffix if sign in _PERCENTS), "")

    @cached_property
    def kept(self) -> tuple[str, str]:
        """What of its prefix and suffix is part of an identifier (the module's rule)."""
        if (
            self.section.kind not in {TokenKind.NUMBER, TokenKind.GENERAL}
            or self.is_amount
            or self.section.layout.thousands
        ):
            return "", ""
        prefix, suffix = self.prefix.lstrip(MINUS + "( "), self.suffix.rstrip()
        named = any(letter.isalnum() or letter in _MARKS for letter in prefix) and not is_currency(prefix)
        return prefix if named else "", suffix if _JOINED.match(suffix) else ""

    @cached_property
    def is_mask(self) -> bool:
        """Whether its digits stand apart, in another way than those of an amount."""
        return self.section.kind is TokenKind.NUMBER and self.among is Among.MASK and not self.section.layout.thousands

    @cached_property
    def shows_sign(self) -> bool:
        """Whether its literals make a number look negative: a minus before or behind it, or brackets around it."""
        before, behind = self.prefix.strip(), self.suffix.strip()
        if before.startswith(tuple(MINUS)) or behind.endswith(tuple(MINUS)):
            return True
        if before.endswith(tuple(MINUS)) and not self.kept[0]:
            return True
        return before.count("(") > before.count(")") and ")" in behind

    @cached_property
    def is_dash(self) -> bool:
        """Whether it shows no digit of a zero but a dash, as accounting formats do: `_-* "-"\\ "€"_-`."""
        form = self.section.layout
        rest = "".join(letter for letter in written(self.section.tokens) if letter not in MINUS + ".,() " + _PERCENTS)
        is_empty = self.section.kind is TokenKind.LITERAL or (
            self.section.kind is TokenKind.NUMBER and not form.padding
        )
        has_dash = self.words.strip() and self.words.strip() != rest and "0" not in form.decimals
        return is_empty and bool(has_dash) and (not rest or is_currency(rest))

    @cached_property
    def doubt(self) -> str:
        """Why nobody can be sure of what it shows; "" for a section that is read with certainty."""
        section = self.section
        unknown = [token.text for token in section.tokens if token.part is Part.UNKNOWN]
        if unknown:
            return f"{unknown[0]!r} stands in it"
        if section.kind in {TokenKind.DATE, TokenKind.ELAPSED}:
            return "" if self._is_clear_date() else "it mixes dates and digits"
        if section.kind in {TokenKind.SCIENTIFIC, TokenKind.FRACTION}:
            return "" if self._is_clear_fraction_or_power() else _SEVERAL
        if section.kind is TokenKind.GENERAL:
            return _SEVERAL if any(token.part in _WAYS for token in section.tokens) else ""
        return self._doubt_of_digits() if section.kind is TokenKind.NUMBER else ""

    def _is_clear_date(self) -> bool:
        tokens = self.section.tokens
        letters = {token.text[0].lower() for token in tokens if token.part is Part.DATE}
        if self.section.kind is TokenKind.ELAPSED and (letters - set("hms") or self.section.has(Part.HALF)):
            return False
        shape = ""
        for token in tokens:
            sign = _SHAPES.get(token.part, " ")
            is_second = sign == "d" and token.text[0] in "sS"
            shape += "s" if is_second else "x" if sign == "0" and token.text != "0" else sign
        return not {"0", "x"} & {*re.sub(r"(?<=s)\.0+", "", shape)}

    def _is_clear_fraction_or_power(self) -> bool:
        parts = [token.part for token in self.section.tokens]
        if parts.count(Part.SLASH) + parts.count(Part.EXPONENT) > 1 or {Part.PERCENT, Part.COMMA, Part.TEXT} & {*parts}:
            return False
        runs = "".join("0" if part is Part.DIGIT else " " for part in parts[: self.section.place_of(Part.SLASH)])
        return self.section.kind is TokenKind.SCIENTIFIC or (len(runs.split()) <= 2 and Part.POINT not in parts)

    def _doubt_of_digits(self) -> str:
        section, form = self.section, self.section.layout
        if form.percents > 1 or section.has(Part.TEXT):
            return _SEVERAL
        decimals = written(section.tokens[section.place_of(Part.POINT) : self.span[1]])
        if decimals.strip(" " + "".join(SEPARATORS)) or (self.among is Among.MASK and (form.decimals or form.percents)):
            return "literals stand among its digits"
        touching = re.match(r"[.,]?[0-9]", self.suffix) or self.prefix[-1:].isdecimal()
        return "a literal digit touches the number" if self.is_amount and touching else ""

    @cached_property
    def may_be_more(self) -> bool:
        """Whether its number may be a date, a mask or an identifier, and no plain number."""
        parts = [token.part for token in self.section.tokens]
        if parts.count(Part.SLASH) > 1 or {Part.DATE, Part.HALF, Part.ELAPSED} & {*parts}:
            return True
        is_padded = self.section.kind is TokenKind.NUMBER and self.section.layout.padding > 1 and not self.is_amount
        return is_padded or self.is_mask or any(self.kept)

    @cached_property
    def unshowable(self) -> str:
        """Why its text in the sheet can't be told, "" where it can: other digits, calendars and languages."""
        section = self.section
        if self.doubt or section.script:
            return self.doubt or f"{section.script} writes it in another script or calendar"
        letters = {token.text.lower() for token in section.tokens if token.part is Part.DATE}
        if any(text[0] == "g" for text in letters):
            return "it shows the years of an era"
        code = section.locale.partition(",")[0]
        number = int(code, 16) if re.fullmatch(r"[0-9A-Fa-f]+", code) else 0
        if number >> 24 > 1 or (number >> 16 & 0xFF) not in _GREGORIAN:
            return f"[$-{code}] writes it in another script or calendar"
        is_english = number & 0x3FF in (0, _ENGLISH) and (number or not code or code.lower().startswith(("en", "x-")))
        named = section.has(Part.HALF) or any(
            text[0] in "ae" or (text[0] in "md" and len(text) > 2) for text in letters
        )
        return f"[$-{code}] writes it in another language" if named and not is_english else ""


def is_currency(text: str) -> bool:
    """Whether a text names a currency, and nothing else: by a sign, a code of ISO 4217 or a word for it."""
    word = text.strip(" .:\u00a0")
    is_sign = any(category(letter) == _SIGN for letter in word)
    return is_sign or word in CURRENCY_CODES or word.casefold() in _CURRENCY_WORDS
