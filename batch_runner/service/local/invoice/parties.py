"""Who sells and who buys, and the seller's VAT id and bank account."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Literal, NamedTuple

from batch_runner.service.local.invoice.layout import CELL, Cell, TextLine, labels_in, pattern_of
from batch_runner.service.local.invoice.values import FoundId, amounts_in, date_in, ibans_in, is_vat_id, vat_ids_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Side = Literal["seller", "buyer"]

_LEGAL_FORM = re.compile(rf"(?<![^\W\d_]){pattern_of('parties', 'legal_forms')}(?![^\W\d_])\.?")
_HEADING = re.compile(pattern_of("parties", "headings"), re.IGNORECASE)
_ADDRESS = re.compile(pattern_of("parties", "addresses"), re.IGNORECASE)
_SALUTATION = re.compile(rf"{pattern_of('parties', 'salutations')}\b[.:]?\s*", re.IGNORECASE)
_HOLDER = re.compile(
    rf"{pattern_of('parties', 'account_holders')}\s*[:：\t]?\s*(?P<name>[^\t:]{{3,60}})",
    re.IGNORECASE,
)
_OF_THE_BUYER = re.compile(pattern_of("parties", "of_the_buyer"), re.IGNORECASE)
_DEBITED = re.compile(pattern_of("parties", "debited"), re.IGNORECASE)
_REGISTER = re.compile(rf"\b{pattern_of('parties', 'registers')}", re.IGNORECASE)
_STREET_BY_NUMBER = re.compile(r"\d+\w? +[^\W\d]{3}")
_SEPARATOR = re.compile(r"\s*[·•●|∙⋅♦■▪*]\s*|\s+[-–—]\s+|\s*,\s+")
_ENOUGH = 3
_BLOCK_HEIGHT, _BLOCK_WIDTH, _INDENT = 170.0, 200.0, 40.0  # points: what still belongs to the block under a label


class _Anchor(NamedTuple):
    """A label that heads the block of one side."""

    side: Side
    line: int
    left: float
    text: str
    """What stands beside it in its cell or the next one."""


class Parties:
    """Reads both sides of an invoice from its lines."""

    def __init__(self, lines: Sequence[TextLine]) -> None:
        self._lines = lines
        heights = sorted(line.height for line in lines)
        self._usual_height = heights[len(heights) // 2] if heights else 0.0
        self._anchors = list(self._labelled())
        self._window = self._sender_and_addressee()
        named, addressee = self._named("buyer"), self._window[1] if self._window else None
        self.buyer = named or addressee
        """The buyer's name: in the block that is labelled so, else in the window under the sender."""
        self.seller = self._named("seller") or self._most_likely_seller()
        """The seller's name, if enough speaks for one."""

    def seller_vat_id(self) -> str | None:
        """The VAT id of the seller, where there is just one that can be, and its check digits are right."""
        found = self._only_id(vat_ids_in)
        return found if found and is_vat_id(found) else None

    def iban(self) -> str | None:
        """The bank account to pay to, where there is just one that can be; none where the seller takes the money."""
        return None if any(_DEBITED.search(line.text) for line in self._lines) else self._only_id(ibans_in)

    def _labelled(self) -> Iterator[_Anchor]:
        for number, line in enumerate(self._lines):
            for label in line.labels:
                before = line.text[: label.start]
                if label.field not in ("seller", "buyer") or not (not before.strip() or before.endswith(CELL)):
                    continue
                rest = line.text[label.end :]
                is_heading = not rest or rest.startswith(CELL) or rest.lstrip(" ").startswith((":", "：", "/", "("))
                if is_heading:
                    side: Side = "seller" if label.field == "seller" else "buyer"
                    beside = rest.strip(" :：") if not rest.startswith(CELL) else ""
                    yield _Anchor(side, number, line.span(label.start, label.end)[0], beside.split(CELL)[0].strip())

    def _side_of(self, number: int, left: float) -> Side | None:
        """Whose block a place is in: that of the nearest label above it in the same column."""
        line = self._lines[number]
        for anchor in reversed(self._anchors):
            above = self._lines[anchor.line]
            is_above = anchor.line <= number and above.page == line.page and line.top - above.top < _BLOCK_HEIGHT
            is_beside = anchor.line == number and anchor.left <= left < anchor.left + _BLOCK_WIDTH
            if is_above and (abs(anchor.left - left) < _INDENT or is_beside):
                return anchor.side
        return None

    def _named(self, side: Side) -> str | None:
        """The name in the block that a label heads: beside the label, under it, or behind `Name:` in the block."""
        for anchor in self._anchors:
            if anchor.side != side:
                continue
            below = [*self._below(anchor)]
            for text in below:
                if match := re.match(
                    r"(?:name|firma|nom|nombre|naam|nazwa)\s*[:：\t]\s*(?P<name>[^\t]+)", text, re.IGNORECASE
                ):
                    return _clean(match["name"])
            texts = [
                text.split(CELL)[0] for text in (anchor.text, *below[:5]) if not _ROW.match(_SALUTATION.sub("", text))
            ]
            names = [name for text in texts[:4] if not text.endswith(":") and (name := _clean(text)) and _is_name(name)]
            if names:
                return _joined(names)
        return None

    def _below(self, anchor: _Anchor) -> Iterator[str]:
        """The texts in the column under a label, down to the next gap."""
        last = self._lines[anchor.line]
        for line in self._lines[anchor.line + 1 : anchor.line + 9]:
            if line.page != last.page or line.top - last.bottom > 1.6 * last.height:
                return
            cells = [cell for cell in line.cells if cell.left >= anchor.left - 6]
            if cells and cells[0].left - anchor.left < 30:
                yield CELL.join(cell.text for cell in cells)
                last = line

    def _sender_and_addressee(self) -> tuple[str, str | None] | None:
        """The sender in small print above the window of an envelope, and the name that is first in the window."""
        for number, line in enumerate(self._lines[:40]):
            if line.page or line.top > 330:
                break
            for cell in _joined_cells(line):
                parts = [part for part in _SEPARATOR.split(cell.text) if part.strip()]
                if len(parts) < 3 or not any(_ADDRESS.match(part) for part in parts[1:]):
                    continue
                name = parts[0].strip()
                if _is_name(name) and not re.search(r"\d", name):
                    return name, self._addressee(number, cell.left)
        return None

    def _addressee(self, number: int, left: float) -> str | None:
        sender = self._lines[number]
        for line in self._lines[number + 1 : number + 5]:
            if line.page != sender.page or line.top - sender.bottom > 60:
                return None
            for cell in line.cells:
                if abs(cell.left - left) < 40 and (name := _clean(cell.text)) and _is_name(name):
                    return name
        return None

    def _only_id(self, find: Callable[[str], list[FoundId]]) -> str | None:
        """The one id that isn't the buyer's; of several none is sure."""
        found = set()
        for number, line in enumerate(self._lines):
            for one in find(line.text.replace(CELL, " ")):
                place = sum(cell.start <= one.start for cell in line.cells) - 1
                cell = line.cells[place]
                label = line.text[cell.start : one.start]
                beside = line.cells[place - 1] if place and not label.strip(" .:") else cell
                sides = {self._side_of(number, cell.left), self._side_of(number, beside.left)}
                if "buyer" not in sides and not _OF_THE_BUYER.search(f"{beside.text} {label}"):
                    found.add(one.id)
        return found.pop() if len(found) == 1 else None

    def _most_likely_seller(self) -> str | None:
        """The name for which most speaks: the window, an account, a letterhead, ids or a legal form."""
        points: dict[str, int] = defaultdict(int)
        written: dict[str, str] = {}
        for name, count in self._grounds():
            key = _key(name)
            if key and key != _key(self.buyer or ""):
                points[key] += count
                written.setdefault(key, name)
        best = sorted(points.items(), key=lambda item: -item[1])
        if not best or best[0][1] < _ENOUGH or (len(best) > 1 and best[1][1] == best[0][1]):
            return None
        return written[best[0][0]]

    def _grounds(self) -> Iterator[tuple[str, int]]:
        """Names that may be the seller's, and how much each ground weighs."""
        if self._window:
            yield self._window[0], 4
        for line in self._lines:
            if (match := _HOLDER.search(line.text)) and (name := _clean(match["name"])) and _is_name(name):
                yield name, 3
        beside_ids = {_key(name) for name in self._names_beside_ids()}
        for block in self._blocks():
            yield from self._names_in(block, beside_ids)

    def _names_in(self, block: list[tuple[int, Cell]], beside_ids: set[str]) -> Iterator[tuple[str, int]]:
        """The first line of a block, and lines with a legal form; ids, an address or the top bear them out."""
        number, first = block[0]
        line = self._lines[number]
        if self._side_of(number, first.left) == "buyer":
            return
        holds_id = any(_REGISTER.search(cell.text) or ibans_in(cell.text) for _, cell in block)
        has_address = any(_ADDRESS.match(cell.text) for _, cell in block[1:5])
        is_top = line.page == 0 and (line.top < _TOP or number == 0)
        may_go_on = _is_name(first.text) and not _LEGAL_FORM.search(first.text)
        for place, (_, cell) in enumerate(block):
            name = _clean(_SEPARATOR.split(cell.text)[0] if len(cell.text) > _LONG else cell.text) or ""
            has_form = _LEGAL_FORM.search(name) is not None
            if not _is_name(name) or _ADDRESS.match(name) or (place and not has_form) or (place == 1 and may_go_on):
                continue
            weight = 2 * has_form + 2 * holds_id + (has_form and has_address and self.buyer is not None)
            if not place and is_top and (holds_id or not beside_ids or _key(name) in beside_ids):
                weight += 2 * (has_address or has_form) + (line.height > _LARGE * self._usual_height)
            yield name, weight

    def _names_beside_ids(self) -> Iterator[str]:
        """The names that begin a line with ids, as at the foot of a letter."""
        for line in self._lines:
            name = _clean(line.cells[0].text)
            has_ids = any(_REGISTER.search(cell.text) or ibans_in(cell.text) for cell in line.cells[1:])
            if has_ids and name and _is_name(name) and ":" not in name:
                yield name

    def _blocks(self) -> Iterator[list[tuple[int, Cell]]]:
        """Cells under one another that begin at the same place."""
        open_blocks: list[list[tuple[int, Cell]]] = []
        for number, line in enumerate(self._lines):
            for cell in line.cells:
                for block in open_blocks:
                    above, last = self._lines[block[-1][0]], block[-1][1]
                    if (
                        above is not line
                        and above.page == line.page
                        and abs(last.left - cell.left) < 6
                        and line.top - above.bottom < 1.1 * line.height
                    ):
                        block.append((number, cell))
                        break
                else:
                    open_blocks.append([(number, cell)])
            yield from (block for block in open_blocks if number - block[-1][0] > 6)
            open_blocks = [block for block in open_blocks if number - block[-1][0] <= 6]
        yield from open_blocks


_LONG = 45  # characters: a cell that holds an address behind the name
_LARGE = 1.25
_TOP = 125.0  # points: where a letterhead stands; the window of an envelope is below


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _joined_cells(line: TextLine) -> Iterator[Cell]:
    """Its cells, and the whole line where its cells are separated by marks."""
    yield from line.cells
    if len(line.cells) > 2:
        left, right = line.span(0, len(line.text))
        yield Cell(line.text.replace(CELL, " "), left, right, 0)


_ROW = re.compile(r"[^:\t]{2,25}[ \t]?:[ \t]*\S")  # `Number: 549910`, not a name


def _joined(names: list[str]) -> str:
    """A name that goes on in a second line, which ends in its legal form."""
    if len(names) < 2 or _LEGAL_FORM.search(names[0]) or _ADDRESS.match(names[0]) or re.search(r"\d", names[1]):
        return names[0]
    return f"{names[0]} {names[1]}" if _LEGAL_FORM.search(names[1]) else names[0]


def _clean(text: str) -> str | None:
    """A name without what leads to it or follows it."""
    name = _SALUTATION.sub("", text.strip(" :：|·•●-–*#\t"), count=1) if _SALUTATION.match(text) else text
    return name.strip(" :：|·•●-–*#\t,") or None


def _is_name(text: str) -> bool:
    """Whether it has words, is no heading, no sentence, no label, and no amount or date."""
    if not 3 <= len(text) <= 70 or len(text.split()) > 8 or not re.search(r"[^\W\d_]{2}", text):
        return False
    if (
        _HEADING.fullmatch(text)
        or text.endswith((":", ".pdf"))
        or text.startswith(("(", "["))
        or _STREET_BY_NUMBER.match(text)
        or "@" in text
        or date_in(text)
    ):
        return False
    if sum(char.isdigit() for char in text) > 4 or any(amount.has_mark for amount in amounts_in(text)):
        return False
    label = next(labels_in(text), None)
    return label is None or label.start > 0 or bool(_LEGAL_FORM.search(text))
