"""What is found on an invoice: the fields, where each comes from, and the lines."""

from __future__ import annotations

from typing import Literal

import msgspec

Confidence = Literal["data", "checked", "label"]


class Fields(msgspec.Struct, frozen=True):
    """What an invoice says; None where it doesn't, or where there is no sufficient ground for a value.

    Dates are ISO 8601, `currency` is an ISO 4217 code, amounts are decimal numbers as text, with a point, no separators
    and the decimals that were written. A credit note's amounts have the sign that they have on the invoice.
    """

    number: str | None = None
    invoice_date: str | None = None
    due_date: str | None = None
    seller: str | None = None
    currency: str | None = None
    net: str | None = None
    tax: str | None = None
    total: str | None = None
    """The grand total, tax included."""
    payable: str | None = None
    """What is to be paid, where it differs from the total: a part is paid already."""
    iban: str | None = None
    seller_vat_id: str | None = None
    buyer: str | None = None
    order_number: str | None = None
    kind: Literal["invoice", "credit note"] | None = None
    source: Literal["xml", "page"] = "page"
    warnings: tuple[str, ...] = ()
    """One sentence each; it begins with the field that it is about."""
    confidence: dict[str, Confidence] = {}
    """Of each field that is given: `data` (from the XML), `checked` (amounts that add up, check digits that are right),
    `label` (it stands where its label says)."""


VALUES = tuple(name for name in Fields.__struct_fields__ if name not in ("source", "warnings", "confidence"))
"""The fields that an invoice itself has."""


class InvoiceLine(msgspec.Struct, frozen=True):
    """One line of an invoice; numbers as in Fields."""

    position: str | None = None
    description: str | None = None
    quantity: str | None = None
    unit: str | None = None
    """A code of UN/ECE Recommendation 20 (`C62` is one piece, `HUR` an hour)."""
    unit_price: str | None = None
    tax_rate: str | None = None
    net: str | None = None
