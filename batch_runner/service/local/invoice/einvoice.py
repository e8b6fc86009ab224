"""Invoices as data: XML in the two syntaxes of EN 16931, alone in a file or embedded in a PDF.

CII is UN/CEFACT's Cross Industry Invoice, of Factur-X, ZUGFeRD 2 and XRechnung; ZUGFeRD 1 has its forerunner with other
names. UBL is OASIS' Universal Business Language, of XRechnung and Peppol BIS. Elements are found by their local names
along a path, so that the versions of a namespace don't matter.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import msgspec

from batch_runner.service.local.invoice.values import (
    VALUES,
    Confidence,
    Fields,
    InvoiceLine,
    is_iban,
    is_vat_id,
    plain_date,
    sum_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

XML_LIMIT = 16 * 1024 * 1024
"""Bytes of one invoice as XML; attachments within it count, too."""

_DEPTH_LIMIT = 100
_CREDIT_NOTES = frozenset(("81", "83", "261", "262", "296", "308", "381", "396", "420", "458", "532"))
"""Codes of UNTDID 1001 that EN 16931 counts as credit notes."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)")


class NoInvoice(Exception):  # noqa: N818  what was read may be sound and still be something else
    """Raised for XML that is no invoice, or can't be read as one; its text says why."""


def is_xml(beginning: bytes) -> bool:
    """Whether a file that begins so is XML, in any encoding that XML may have."""
    return beginning.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")


def read_xml(xml: bytes) -> tuple[Fields, tuple[InvoiceLine, ...]]:
    """The fields and lines of an invoice as XML. Raises NoInvoice."""
    root = _tree(xml)
    if root.tag in ("CrossIndustryInvoice", "CrossIndustryDocument"):
        fields, lines = _cii(root)
    elif root.tag in ("Invoice", "CreditNote") and root.find("LegalMonetaryTotal") is not None:
        fields, lines = _ubl(root)
    else:
        raise NoInvoice(f"its outermost element is {root.tag[:60]}, which is none of an invoice in CII or UBL")
    confidence: dict[str, Confidence] = {name: "data" for name in VALUES if getattr(fields, name) is not None}
    return msgspec.structs.replace(fields, confidence=confidence), lines


def _tree(xml: bytes) -> Element:
    """Parse without namespaces. A document type is refused: entities can stand for gigabytes, or for local files."""
    if len(xml) > XML_LIMIT:
        raise NoInvoice(f"it is {len(xml)} bytes long, and {XML_LIMIT} is the limit")
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH_LIMIT:
            raise NoInvoice(f"its elements are nested more than {_DEPTH_LIMIT} deep")
        builder.start(name.rpartition("}")[2], attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name.rpartition("}")[2])

    def refuse(*_: object) -> None:
        raise NoInvoice("it declares a document type, which invoices never do")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        parser.Parse(xml, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise NoInvoice(f"it is no well-formed XML ({error})") from error
    return builder.close()


def _texts(element: Element, path: str, holds: Callable[[Element], bool] = lambda _: True) -> Iterator[str]:
    """The texts at the end of a path that are not empty; alternatives are separated by `|`, the first comes first."""
    for alternative in path.split("|"):
        for found in element.iterfind(alternative):
            text = " ".join("".join(found.itertext()).split())
            if text and holds(found):
                yield text


def _text(element: Element, path: str) -> str | None:
    return next(_texts(element, path), None)


def _number(element: Element, path: str) -> str | None:
    """A number as it is written, without a plus."""
    return next((text.removeprefix("+") for text in _texts(element, path) if _NUMBER.fullmatch(text)), None)


def _date(element: Element, path: str, name: str, warnings: list[str]) -> str | None:
    """The first day; what is no day of the calendar is told and left out."""
    texts = list(_texts(element, path))
    day = next((day for text in texts if (day := plain_date(text))), None)
    if texts and not day:
        warnings.append(f"{name}: {texts[0][:40]} in the XML is left out, for it is no date.")
    return day


def _in_currency(element: Element, path: str, currency: str | None) -> str | None:
    """The amount in the invoice's currency: the tax may stand there a second time, in that of the tax office."""
    numbers = [
        (found.get("currencyID"), text.removeprefix("+"))
        for found in element.iterfind(path)
        if _NUMBER.fullmatch(text := (found.text or "").strip())
    ]
    own = [text for code, text in numbers if code == currency or code is None]
    return next(iter(own or [text for _, text in numbers if len(numbers) == 1]), None)


def _checked(texts: Iterator[str], holds: Callable[[str], bool], name: str, warnings: list[str]) -> str | None:
    """The first that its check digits bear out; what they don't is told and left out."""
    wrong: list[str] = []
    for text in texts:
        compact = re.sub(r"[\s.-]", "", text).upper()
        if holds(compact):
            return compact
        wrong.append(text)
    if wrong:
        warnings.append(f"{name}: {wrong[0]} in the XML is left out, for its check digits or its form are wrong.")
    return None


def _summed(net: str | None, tax: str | None, total: str | None, warnings: list[str]) -> None:
    if net and tax and total and sum_of(net, tax) != sum_of(total):
        warnings.append(f"total: in the XML net {net} and tax {tax} don't add up to the total {total}.")


def _differing(payable: str | None, total: str | None) -> str | None:
    return payable if payable and total and sum_of(payable) != sum_of(total) else None


def _cii(root: Element) -> tuple[Fields, tuple[InvoiceLine, ...]]:
    document = _part(root, "ExchangedDocument|HeaderExchangedDocument")
    trade = _part(root, "SupplyChainTradeTransaction|SpecifiedSupplyChainTradeTransaction")
    agreement = _part(trade, "ApplicableHeaderTradeAgreement|ApplicableSupplyChainTradeAgreement")
    settlement = _part(trade, "ApplicableHeaderTradeSettlement|ApplicableSupplyChainTradeSettlement")
    sums = _part(
        settlement,
        "SpecifiedTradeSettlementHeaderMonetarySummation|SpecifiedTradeSettlementMonetarySummation",
    )
    warnings: list[str] = []
    currency = _text(settlement, "InvoiceCurrencyCode")
    net = _in_currency(sums, "TaxBasisTotalAmount", currency)
    tax = _in_currency(sums, "TaxTotalAmount", currency)
    total = _in_currency(sums, "GrandTotalAmount", currency)
    _summed(net, tax, total, warnings)
    seller, account = "SellerTradeParty", "SpecifiedTradeSettlementPaymentMeans/PayeePartyCreditorFinancialAccount"
    vat_ids = _texts(agreement, f"{seller}/SpecifiedTaxRegistration/ID", lambda found: found.get("schemeID") == "VA")
    fields = Fields(
        number=_text(document, "ID"),
        invoice_date=_date(document, "IssueDateTime", "invoice_date", warnings),
        due_date=_date(settlement, "SpecifiedTradePaymentTerms/DueDateDateTime", "due_date", warnings),
        seller=_text(agreement, f"{seller}/Name|{seller}/SpecifiedLegalOrganization/TradingBusinessName"),
        currency=currency,
        net=net,
        tax=tax,
        total=total,
        payable=_differing(_in_currency(sums, "DuePayableAmount", currency), total),
        iban=_checked(_texts(settlement, f"{account}/IBANID"), is_iban, "iban", warnings),
        seller_vat_id=_checked(vat_ids, is_vat_id, "seller_vat_id", warnings),
        buyer=_text(agreement, "BuyerTradeParty/Name"),
        order_number=_text(agreement, "BuyerOrderReferencedDocument/IssuerAssignedID|BuyerOrderReferencedDocument/ID"),
        kind="credit note" if _text(document, "TypeCode") in _CREDIT_NOTES else "invoice",
        source="xml",
        warnings=tuple(warnings),
    )
    lines = trade.iterfind("IncludedSupplyChainTradeLineItem")
    return fields, tuple(line for line in map(_cii_line, lines) if line)


def _part(element: Element, names: str) -> Element:
    """The one child that has one of the names. Raises NoInvoice: without it nothing else can be read."""
    for name in names.split("|"):
        if (found := element.find(name)) is not None:
            return found
    raise NoInvoice(f"it lacks the element {names.partition('|')[0]}")


def _cii_line(item: Element) -> InvoiceLine | None:
    agreement = "SpecifiedLineTradeAgreement|SpecifiedSupplyChainTradeAgreement"
    delivery = "SpecifiedLineTradeDelivery|SpecifiedSupplyChainTradeDelivery"
    settlement = "SpecifiedLineTradeSettlement|SpecifiedSupplyChainTradeSettlement"
    sums = "SpecifiedTradeSettlementLineMonetarySummation|SpecifiedTradeSettlementMonetarySummation"
    line = InvoiceLine(
        position=_text(item, "AssociatedDocumentLineDocument/LineID"),
        description=_text(item, "SpecifiedTradeProduct/Name"),
        quantity=_number(item, _under(delivery, "BilledQuantity")),
        unit=_attribute(item, _under(delivery, "BilledQuantity"), "unitCode"),
        unit_price=_number(item, _under(agreement, "NetPriceProductTradePrice/ChargeAmount")),
        tax_rate=_number(item, _under(settlement, "ApplicableTradeTax", "RateApplicablePercent|ApplicablePercent")),
        net=_number(item, _under(settlement, sums, "LineTotalAmount")),
    )
    return line if line != InvoiceLine() else None


def _under(*steps: str) -> str:
    """All paths along steps of which each may have several names."""
    return "|".join(map("/".join, product(*(step.split("|") for step in steps))))


def _attribute(element: Element, path: str, name: str) -> str | None:
    found = (element.find(alternative) for alternative in path.split("|"))
    return next((child.get(name) for child in found if child is not None), None)


def _ubl(root: Element) -> tuple[Fields, tuple[InvoiceLine, ...]]:
    is_credit = root.tag == "CreditNote"
    warnings: list[str] = []
    currency = _text(root, "DocumentCurrencyCode")
    sums = _part(root, "LegalMonetaryTotal")
    seller = "AccountingSupplierParty/Party"
    net = _in_currency(sums, "TaxExclusiveAmount", currency)
    tax = _in_currency(root, "TaxTotal/TaxAmount", currency)
    total = _in_currency(sums, "TaxInclusiveAmount", currency)
    _summed(net, tax, total, warnings)
    fields = Fields(
        number=_text(root, "ID"),
        invoice_date=_date(root, "IssueDate", "invoice_date", warnings),
        due_date=_date(root, "DueDate|PaymentMeans/PaymentDueDate", "due_date", warnings),
        seller=_text(root, f"{seller}/PartyLegalEntity/RegistrationName|{seller}/PartyName/Name"),
        currency=currency,
        net=net,
        tax=tax,
        total=total,
        payable=_differing(_in_currency(sums, "PayableAmount", currency), total),
        iban=_checked(_texts(root, "PaymentMeans/PayeeFinancialAccount/ID"), is_iban, "iban", warnings),
        seller_vat_id=_checked(_ubl_vat_ids(root, seller), is_vat_id, "seller_vat_id", warnings),
        buyer=_text(
            root,
            "AccountingCustomerParty/Party/PartyLegalEntity/RegistrationName|AccountingCustomerParty/Party/PartyName/Name",
        ),
        order_number=_text(root, "OrderReference/ID"),
        kind="credit note" if is_credit or _text(root, "InvoiceTypeCode") in _CREDIT_NOTES else "invoice",
        source="xml",
        warnings=tuple(warnings),
    )
    return fields, tuple(map(_ubl_line, root.iterfind("CreditNoteLine" if is_credit else "InvoiceLine")))


def _ubl_vat_ids(root: Element, seller: str) -> Iterator[str]:
    for scheme in root.iterfind(f"{seller}/PartyTaxScheme"):
        if _text(scheme, "TaxScheme/ID") == "VAT":
            yield from _texts(scheme, "CompanyID")


def _ubl_line(item: Element) -> InvoiceLine:
    return InvoiceLine(
        position=_text(item, "ID"),
        description=_text(item, "Item/Name"),
        quantity=_number(item, "InvoicedQuantity|CreditedQuantity"),
        unit=_attribute(item, "InvoicedQuantity|CreditedQuantity", "unitCode"),
        unit_price=_number(item, "Price/PriceAmount"),
        tax_rate=_number(item, "Item/ClassifiedTaxCategory/Percent"),
        net=_number(item, "LineExtensionAmount"),
    )
