"""A number format's code, such as `#,##0.00_);[Red](#,##0.00)`, taken apart (ECMA-376 part 1, 18.8.30 and 18.8.31)."""

from __future__ import annotations

import operator
import re
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


BUILT_IN = {
    0: "General", 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00",
    5: '"$"#,##0_);("$"#,##0)', 6: '"$"#,##0_);[Red]("$"#,##0)',
    7: '"$"#,##0.00_);("$"#,##0.00)', 8: '"$"#,##0.00_);[Red]("$"#,##0.00)',
    9: "0%", 10: "0.00%", 11: "0.00E+00", 12: "# ?/?", 13: "# ??/??", 14: "m/d/yyyy", 15: "d-mmm-yy", 16: "d-mmm",
    17: "mmm-yy", 18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss", 22: "m/d/yyyy h:mm",
    37: "#,##0_);(#,##0)", 38: "#,##0_);[Red](#,##0)", 39: "#,##0.00_);(#,##0.00)", 40: "#,##0.00_);[Red](#,##0.00)",
    41: '_(* #,##0_);_(* (#,##0);_(* "-"_);_(@_)', 42: '_("$"* #,##0_);_("$"* (#,##0);_("$"* "-"_);_(@_)',
    43: '_(* #,##0.00_);_(* (#,##0.00);_(* "-"??_);_(@_)',
    44: '_("$"* #,##0.00_);_("$"* (#,##0.00);_("$"* "-"??_);_(@_)',
    45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0", 49: "@",
    # Chinese, Japanese, Korean; 34, 35, 55 and 56 are times in Chinese and dates in Japanese
    **dict.fromkeys((27, 36, 50, 52, 57), "yyyy-m"), **dict.fromkeys((28, 29, 51, 53, 54, 58), "m-d"),
    30: "m-d-yy", 31: "yyyy-m-d", 32: "h:mm", 33: "h:mm:ss",
    **dict.fromkeys((34, 55), "[<1]h:mm;yyyy-m"), **dict.fromkeys((35, 56), "[<1]h:mm:ss;m-d"),
    # Thai
    59: "0", 60: "0.00", 61: "#,##0", 62: "#,##0.00", 67: "0%", 68: "0.00%", 69: "# ?/?", 70: "# ??/??", 71: "d/m/yyyy",
    72: "d-mmm-yy", 73: "d-mmm", 74: "mmm-yy", 75: "h:mm", 76: "h:mm:ss", 77: "d/m/yyyy h:mm", 78: "mm:ss",
    79: "[h]:mm:ss", 80: "mm:ss.0", 81: "d/m/bb",
}  # fmt: skip
"""The codes that a file doesn't spell out, by their ids (ECMA-376 part 1, 18.8.30), as Excel shows them in en-US."""

_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|(?P<pad>_.)|(?P<fill>\*.)|\[(?P<bracket>[^\]]*)\]|(?P<end>;)'
    r"|(?P<general>General)|(?P<half>AM/PM|A/P|上午/下午)|(?P<exponent>E[+-])|(?P<hijri>B2(?=[ymd]))|B1(?=[ymd])"
    r"|(?P<date>y+|m+|d+|h+|s+|e+|g+|b+|aaa+)|(?P<digit>[0#?])|(?P<point>\.)|(?P<comma>,)|(?P<percent>%)"
    r'|(?P<slash>/)|(?P<text>@)|(?P<unknown>["\\_*\[!])|(?P<plain>.)',
    re.IGNORECASE | re.DOTALL,
)
"""`!` is shown as it is by one Excel and makes a literal of what follows in another: unknown."""
_CONDITION = re.compile(r"(<=|>=|<>|<|>|=)\s*(-?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)")
_WITHOUT_TEXT = re.compile(
    r"(?:black|blue|cyan|green|magenta|red|white|yellow|colou?r ?[0-9]+|ENG|)", re.IGNORECASE | re.ASCII
)
_SCRIPT = re.compile(r"(?:DBNum|NatNum)[0-9]+(?: .*)?", re.IGNORECASE)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "<>": operator.ne,
}  # fmt: skip


class Part(Enum):
    """What a token of a format's code stands for."""

    LITERAL = "literal"
    CURRENCY = "currency"
    """The text of `[$€-407]`."""
    PAD = "pad"
    """A space as wide as a character."""
    DIGIT = "digit"
    POINT = "point"
    COMMA = "comma"
    PERCENT = "percent"
    EXPONENT = "exponent"
    SLASH = "slash"
    """The bar of a fraction; elsewhere a slash is a literal."""
    TEXT = "text"
    GENERAL = "general"
    DATE = "date"
    HALF = "half"
    """AM or PM."""
    ELAPSED = "elapsed"
    WORD = "word"
    """A letter that nobody put in quotes, until it is settled what it is."""
    UNKNOWN = "unknown"
    """What no reader can be sure of."""


class Token(msgspec.Struct, frozen=True):
    """A part of a code, and how it is written there; for a literal what is shown."""

    part: Part
    text: str


class TokenKind(Enum):
    """How a section shows a number."""

    GENERAL = "general"
    NUMBER = "number"
    SCIENTIFIC = "scientific"
    FRACTION = "fraction"
    DATE = "date"
    ELAPSED = "elapsed"
    LITERAL = "literal"
    """No digit of the number is shown."""


class SectionCondition(msgspec.Struct, frozen=True):
    """For which numbers a section is: `[>=100]`."""

    operator: str
    limit: float

    def holds(self, number: float) -> bool:
        """Whether it is for this number."""
        return _OPERATORS[self.operator](number, self.limit)


class DigitLayout(msgspec.Struct, frozen=True):
    """A section's placeholders: `0`, `#` and `?` of its integer digits and of its decimals, and how it scales."""

    integer: str
    decimals: str
    grouped: bool
    thousands: int
    """By how many thousands it divides: one for each comma behind the last digit."""
    percents: int

    @property
    def shift(self) -> int:
        """By which power of ten a number is multiplied before it is shown."""
        return 2 * self.percents - 3 * self.thousands

    @property
    def padding(self) -> int:
        """How many integer digits are shown at least: behind a `0` any placeholder is filled up with zeros."""
        place = self.integer.find("0")
        return 0 if place < 0 else len(self.integer) - place


class Section(msgspec.Struct, frozen=True, dict=True):
    """One of the up to four sections of a code. What all of its numbers need is found out once (`dict` holds it)."""

    tokens: tuple[Token, ...]
    condition: SectionCondition | None = None
    locale: str = ""
    """What stands behind the `-` of a `[$…-…]`."""
    script: str = ""
    """Says that it writes its digits or its years in another way than English does: `[DBNum1]`, `B2`."""

    def has(self, part: Part) -> bool:
        """Whether it has such a token."""
        return any(token.part is part for token in self.tokens)

    @cached_property
    def kind(self) -> TokenKind:
        """How it shows a number."""
        parts = {token.part for token in self.tokens}
        for part, kind in _KINDS:
            if part in parts:
                return TokenKind.FRACTION if kind is TokenKind.NUMBER and Part.SLASH in parts else kind
        return TokenKind.LITERAL

    @cached_property
    def layout(self) -> DigitLayout:
        """The placeholders of a section that shows a number (not those of an exponent)."""
        tokens = self.tokens[: self.place_of(Part.EXPONENT)]
        point = next((place for place, token in enumerate(tokens) if token.part is Part.POINT), len(tokens))
        before = [token for token in tokens[:point] if token.part in {Part.DIGIT, Part.COMMA}]
        integer = "".join(token.text for token in before)
        decimals = [token for token in tokens[point:] if token.part in {Part.DIGIT, Part.COMMA}]
        after = "".join(token.text for token in decimals)
        trailing = len(integer) - len(integer.rstrip(",")) + len(after) - len(after.rstrip(","))
        return DigitLayout(
            integer=integer.replace(",", ""),
            decimals=after.replace(",", ""),
            grouped="," in integer.strip(","),
            thousands=trailing if integer.strip(",") or after.strip(",") else 0,
            percents=sum(token.part is Part.PERCENT for token in self.tokens),
        )

    @cached_property
    def frame(self) -> tuple[str, str] | None:
        """What stands before and behind a number that is written as most are, `#,##0.00`; None where it isn't."""
        places = [place for place, token in enumerate(self.tokens) if token.part in _OF_A_NUMBER]
        start, end = (places[0], places[-1] + 1) if places else (0, 0)
        texts = [token.text for token in self.tokens]
        if len(places) != end - start or not _ORDINARY.fullmatch("".join(texts[start:end])):
            return None
        return "".join(texts[:start]), "".join(texts[end:])

    def place_of(self, part: Part) -> int:
        """Where its first such token stands; behind all of them where it has none."""
        return next((place for place, token in enumerate(self.tokens) if token.part is part), len(self.tokens))


_OF_A_NUMBER = frozenset({Part.DIGIT, Part.COMMA, Part.POINT})
_ORDINARY = re.compile(r"(?:#,##|#*)0(?:\.0+)?")
_KINDS = (
    (Part.ELAPSED, TokenKind.ELAPSED), (Part.DATE, TokenKind.DATE), (Part.HALF, TokenKind.DATE),
    (Part.GENERAL, TokenKind.GENERAL),
    (Part.EXPONENT, TokenKind.SCIENTIFIC), (Part.DIGIT, TokenKind.NUMBER), (Part.TEXT, TokenKind.GENERAL),
)  # fmt: skip


class Code(msgspec.Struct, frozen=True):
    """A code's sections for numbers, one at least, and the one for texts, if it has one."""

    numbers: tuple[Section, ...]
    text: Section | None


def split_code(code: str) -> Code:
    """A format's code, section by section."""
    sections: list[Section] = []
    start = 0
    for match in _TOKEN.finditer(code):
        if match.lastgroup == "end":
            sections.append(_section(code[start : match.start()]))
            start = match.end()
    sections.append(_section(code[start:]))
    text = sections[3] if len(sections) > 3 else sections[-1] if sections[-1].has(Part.TEXT) else None
    numbers = [section for section in sections[:3] if section is not text] or [_section("General")]
    if len(sections) > 4:
        numbers = [Section((*section.tokens, Token(Part.UNKNOWN, ";")), section.condition) for section in numbers]
    return Code(tuple(numbers), text)


def _section(code: str) -> Section:
    tokens: list[Token] = []
    condition: SectionCondition | None = None
    locale = script = ""
    for match in _TOKEN.finditer(code):
        name = match.lastgroup or ""
        if name == "bracket":
            text = match["bracket"]
            condition = _condition(text) or condition
            script = text if _SCRIPT.fullmatch(text) else script
            locale = text.partition("-")[2] if text.startswith("$") else locale
            tokens += _bracketed(text)
        elif name == "hijri":
            script = match[name]
        elif name == "plain" and match[name].isascii() and match[name].isalpha() and match[name] not in "TZ":
            tokens.append(Token(Part.WORD, match[name]))
        elif name in {"quoted", "escaped", "plain"}:
            tokens.append(Token(Part.LITERAL, match[name]))
        elif name and name != "fill":
            tokens.append(Token(Part.PAD, " ") if name == "pad" else Token(Part(name), match[name]))
    return Section(tuple(_settled(tokens)), condition, locale, script)


def _settled(tokens: list[Token]) -> Iterable[Token]:
    """The tokens with those made literals that mean nothing more where they stand.

    Beside digits, letters that nobody put in quotes are a unit, also those that only an era or a year could be. Among
    the digits, and in what may be a date (`Standard`, `Number` and other names of formats), they are a riddle; but for
    the `T` and `Z` of ISO 8601. A slash without digits on both sides is no fraction, a comma that no digit precedes no
    separator.
    """
    letters = {token.text[0].lower() for token in tokens if token.part in {Part.DATE, Part.ELAPSED, Part.HALF}}
    own = [place for place, token in enumerate(tokens) if token.part is Part.DIGIT]
    is_number = bool(own) and not letters & set("ymdhs")
    for place, token in enumerate(tokens):
        part = token.part
        if part is Part.WORD or (part is Part.DATE and is_number):
            is_riddle = own[0] < place < own[-1] if is_number else bool(letters)
            part = Part.UNKNOWN if is_riddle else Part.LITERAL
        elif (part is Part.SLASH and (is_number or not letters) and not _is_bar(tokens, place)) or (
            part is Part.COMMA and own and not _follows_digit(tokens, place)
        ):
            part = Part.LITERAL
        yield token if part is token.part else Token(part, token.text)


def _is_bar(tokens: list[Token], place: int) -> bool:
    before = [token for token in tokens[:place] if token.text.strip()]
    behind = [token for token in tokens[place + 1 :] if token.text.strip()]
    if not before or not behind or before[-1].part is not Part.DIGIT:
        return False
    return behind[0].part is Part.DIGIT or (behind[0].part is Part.LITERAL and behind[0].text.isdecimal())


def _follows_digit(tokens: list[Token], place: int) -> bool:
    before = next((token for token in reversed(tokens[:place]) if token.part is not Part.COMMA), None)
    return before is not None and before.part in {Part.DIGIT, Part.POINT}


def written(tokens: Iterable[Token]) -> str:
    """What literals show, currencies of the form `[$€]` left out."""
    return "".join(token.text for token in tokens if token.part in _WRITTEN)


_WRITTEN = frozenset({Part.LITERAL, Part.SLASH, Part.PAD})


def _condition(text: str) -> SectionCondition | None:
    match = _CONDITION.fullmatch(text.strip())
    return SectionCondition(match[1], float(match[2])) if match else None


def _bracketed(text: str) -> list[Token]:
    """What is shown for `[h]` (hours elapsed) and `[$€-407]` (a currency); colours and the like show nothing."""
    if re.fullmatch(r"h+|m+|s+", text, re.IGNORECASE):
        return [Token(Part.ELAPSED, text)]
    if text.startswith("$"):
        currency = text[1:].partition("-")[0]
        return [Token(Part.CURRENCY, currency)] if currency else []
    if _WITHOUT_TEXT.fullmatch(text.strip()) or _SCRIPT.fullmatch(text) or _condition(text):
        return []
    return [Token(Part.UNKNOWN, f"[{text}]")]
