"""Net, tax and total: what the labels say, and what adds up decides."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from batch_runner.service.local.invoice.layout import CELL, Role, TextLine, role_of
from batch_runner.service.local.invoice.values import Money, amounts_in, without_currency

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_runner.service.local.invoice.values import Confidence

_MOST = 400
"""Amounts that are looked at; of a longer list the last ones, where the sums stand."""

_BESIDE, _INHERITED, _HEADED = 3, 1, 2
"""How much it says that a label stands before an amount, before another one in the same row, or above its column."""

_ENOUGH = 5
_ABOUT_AS_WELL = 2
_HIGHEST_TAX = Decimal("0.4")  # of the net amount; India's highest rate is 0.28, Hungary's 0.27
_HEADER_WITHIN = 260.0  # points: so far above its column a heading may stand


class AmountCandidate(NamedTuple):
    """An amount on the page, and what its labels say that it is."""

    amount: Money
    line: int
    left: float
    right: float
    beside: Role | None
    inherited: Role | None
    above: Role | None

    @property
    def value(self) -> Decimal:
        """The number that it is."""
        return self.amount.value

    def weight(self, *roles: Role) -> int:
        """How much speaks for it being what one of the roles says; negative if its own label says something else."""
        if self.beside in roles:
            return _BESIDE + (self.above in roles)
        if self.beside == "gross or tax":
            return _INHERITED if {"tax", "total"} & set(roles) else -_BESIDE
        if self.beside is not None:
            return -_BESIDE
        if self.above in roles:
            return _HEADED + (self.inherited in roles)
        if self.inherited in roles:
            return _INHERITED
        return -1 if self.above is not None else 0


class Sums(NamedTuple):
    """The amounts of an invoice as they are written, and how sure they are."""

    net: str | None = None
    tax: str | None = None
    total: str | None = None
    payable: str | None = None
    confidence: Confidence = "label"
    line: int | None = None
    """Where the total stands."""


def sums_of(lines: Sequence[TextLine]) -> Sums:
    """What adds up and is labelled so; else what only the labels say, if they say it with one voice."""
    candidates = list(_candidates(lines))[-_MOST:]
    rates = _rates(lines)
    sums = _adding_up(candidates, rates) or _labelled(candidates) or Sums()
    return sums._replace(payable=_payable(candidates, sums.total)) if sums.total else sums


def _candidates(lines: Sequence[TextLine]) -> Iterator[AmountCandidate]:
    for number, line in enumerate(lines):
        end, row = 0, None
        amounts = amounts_in(line.text)
        for amount in amounts:
            gap = line.text[end : amount.start]
            before = _label(gap)
            beside = role_of(before) if before else None
            is_last = amount.end == len(line.text)
            if not amount.has_mark and not (is_last and beside in ("net", "tax", "total", "payable")):
                continue
            left, right = line.span(amount.start, amount.end)
            in_columns = len(amounts) > 1 and CELL in gap
            above = _heading(lines, number, left, right) if in_columns or not beside else None
            if in_columns and above:  # what stands before a row of columns is about the whole row
                beside, row, before = None, beside or row, ""
            yield AmountCandidate(amount, number, left, right, beside, None if before else row, above)
            end, row = amount.end, beside or row


_NO_LABEL = re.compile(r"[\d.,]+\s*%|[^\w%]*$|^[^\w%]+|\b\d[\d.,/-]*\b")


def _label(text: str) -> str:
    """What stands before an amount, without currency, rates and numbers."""
    return _NO_LABEL.sub(" ", without_currency(text[-90:].replace(CELL, " "))).strip(" :.-–|()=+*")


def _heading(lines: Sequence[TextLine], number: int, left: float, right: float) -> Role | None:
    """What the words above say, if they head a column: in the nearest line that has words there and no amounts."""
    line = lines[number]
    for above in reversed(lines[max(0, number - 25) : number]):
        if above.page != line.page or line.top - above.bottom > _HEADER_WITHIN:
            return None
        for cell in above.cells:
            if cell.left < right + 4 and cell.right > left - 4:
                is_narrow = cell.right - cell.left < 1.5 * (right - left) + 30
                text = cell.text if is_narrow else above.over(left - 30, right + 6)
                words = _PERCENT.sub(" ", text)
                if re.search(r"\d", words):
                    break
                if role := role_of(words):
                    return role
    return None


_PERCENT = re.compile(r"\d{1,2}(?:[.,]\d{1,3})?\s?%")
_RATE = re.compile(r"(\d{1,2}(?:[.,]\d{1,3})?)\s?%")


def _rates(lines: Sequence[TextLine]) -> set[Decimal]:
    """All percentages on the pages; one of them is the tax's."""
    return {Decimal(rate.replace(",", ".")) for line in lines for rate in _RATE.findall(line.text)}


class _Triple(NamedTuple):
    """A net amount, a tax and a total that belong together, and how well they are labelled."""

    weight: int
    net: str
    tax: str
    total: AmountCandidate

    def sums(self) -> Sums:
        return Sums(self.net, self.tax, self.total.amount.text, None, "checked", self.total.line)


def _adding_up(candidates: list[AmountCandidate], rates: set[Decimal]) -> Sums | None:
    """The best labelled three of which two add up to the third.

    Of those that are labelled about as well that with the largest total holds: the others are of one rate of several.
    Nothing holds where a larger amount is labelled as the total, for the three are then only a part.
    """
    triples = list(_triples(candidates, rates)) or list(_made_up(candidates, rates))
    if not triples:
        return None
    enough = max(triple.weight for triple in triples) - _ABOUT_AS_WELL
    best = max(
        (triple for triple in triples if triple.weight >= enough),
        key=lambda triple: (abs(triple.total.value), triple.weight),
    )
    larger = [found for found in candidates if found.beside == "total" and abs(found.value) > abs(best.total.value)]
    return None if larger else best.sums()


def _triples(candidates: list[AmountCandidate], rates: set[Decimal]) -> Iterator[_Triple]:
    """All that add up as they stand, and are labelled well enough."""
    totals: dict[Decimal, AmountCandidate] = {}
    for found in candidates:
        known = totals.get(found.value)
        if known is None or found.weight("total", "payable") >= known.weight("total", "payable"):
            totals[found.value] = found
    taxes = list(_taxes([found for found in candidates if found.weight("tax") > 0]))
    for net in candidates:
        if net.weight("net", "total") <= -_BESIDE:
            continue
        for tax, tax_weight, tax_text in taxes:
            total = totals.get(net.value + tax)
            if total is None or not _is_tax_of(tax, net.value) or (total is net and len(candidates) > 1):
                continue
            weight = net.weight("net") + tax_weight + total.weight("total", "payable") + _agrees(net.value, tax, rates)
            if weight >= _ENOUGH:
                yield _Triple(weight, net.amount.text, tax_text, total)


def _made_up(candidates: list[AmountCandidate], rates: set[Decimal]) -> Iterator[_Triple]:
    """Where the net amount isn't printed: a subtotal with discounts or charges, or a tax that the total includes."""
    others = [found.value for found in candidates if found.beside == "other"][-6:]
    changes = {abs(value) for value in others} | {abs(a + b) for a, b in combinations(others, 2)}
    subtotals = [found.value for found in candidates if found.beside == "net"]
    for tax in candidates:
        if tax.weight("tax") < _INHERITED or not tax.value:
            continue
        for total in candidates:
            net = total.value - tax.value
            if total.weight("total", "payable") < _BESIDE or not _is_tax_of(tax.value, net):
                continue
            is_changed = any(abs(net - subtotal) in changes for subtotal in subtotals)
            if is_changed or _agrees(net, tax.value, rates):
                yield _Triple(_BESIDE, str(net), tax.amount.text, total)


def _taxes(taxes: list[AmountCandidate]) -> Iterator[tuple[Decimal, int, str]]:
    """Each tax, and the sums of several: their value, how well they are labelled, and how they are written."""
    for tax in taxes:
        yield tax.value, tax.weight("tax"), tax.amount.text
    apart = {(tax.value, tax.line): tax for tax in taxes[-8:]}.values()
    for count in (2, 3):
        for together in combinations(apart, count):
            if len({tax.line for tax in together}) == count:
                value = sum((tax.value for tax in together), Decimal())
                yield value, min(tax.weight("tax") for tax in together) - 1, str(value)


def _agrees(net: Decimal, tax: Decimal, rates: set[Decimal]) -> int:
    """Whether the tax is what one of the rates makes of the net amount."""
    return int(any(abs(net * rate / 100 - tax) <= Decimal("0.02") for rate in rates) and tax != 0)


def _is_tax_of(tax: Decimal, net: Decimal) -> bool:
    return abs(tax) <= abs(net) * _HIGHEST_TAX and tax * net >= 0


def _labelled(candidates: list[AmountCandidate]) -> Sums | None:
    """Where nothing adds up: the one total that is labelled so, if no other amount speaks against it."""
    if any(found.weight("tax") >= _BESIDE and found.value for found in candidates):
        return None
    totals = [found for found in candidates if found.weight("total") >= _BESIDE]
    totals = totals or [found for found in candidates if found.weight("payable") >= _BESIDE]
    if len({found.value for found in totals}) != 1:
        return None
    total = totals[-1]
    if not total.amount.has_mark:
        return None
    is_largest = all(abs(found.value) <= abs(total.value) for found in candidates)
    has_net = any(found.value == total.value and found.weight("net") >= _BESIDE for found in candidates)
    if not (is_largest or has_net or len(totals) > 1):
        return None
    return Sums(total.amount.text if has_net else None, None, total.amount.text, None, "label", total.line)


def _payable(candidates: list[AmountCandidate], total: str) -> str | None:
    """What is left to pay, where the page says what makes the difference to the total, or adds up to it anew."""
    changes = [found.value for found in candidates if found.beside in ("prepaid", "other")][-8:]
    differences = {abs(value) for value in changes} | {abs(a + b) for a, b in combinations(changes, 2)}
    differences |= {abs(abs(a) - abs(b)) for a, b in combinations(changes, 2)}
    taxes = [found.value for found in candidates if found.beside == "tax"]
    anew = {net.value + tax for net in candidates if net.beside == "net" for tax in taxes if tax}
    left = {
        found.amount.text
        for found in candidates
        if found.beside == "payable"
        and found.value != Decimal(total)
        and (abs(found.value - Decimal(total)) in differences or found.value in anew)
    }
    return left.pop() if len(left) == 1 else None
