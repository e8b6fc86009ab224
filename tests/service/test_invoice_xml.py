"""Invoices as data: XML alone and embedded in a PDF, in each syntax; and XML that means harm."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from drawn_invoices import draw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from batch_runner.service.local.context import Context
from batch_runner.service.local.result import TaskFailed
from batch_runner.service.local.tasks import Call, TaskSource

SAMPLES = Path(__file__).parents[2] / "samples"

_CII = """<?xml version="1.0" encoding="UTF-8"?>
<rsm:CrossIndustryInvoice xmlns:rsm="urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100"
  xmlns:ram="urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100"
  xmlns:udt="urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100">
 <rsm:ExchangedDocument><ram:ID>2026-118</ram:ID><ram:TypeCode>380</ram:TypeCode>
  <ram:IssueDateTime><udt:DateTimeString format="102">20260314</udt:DateTimeString></ram:IssueDateTime>
 </rsm:ExchangedDocument>
 <rsm:SupplyChainTradeTransaction>
  <ram:IncludedSupplyChainTradeLineItem>
   <ram:AssociatedDocumentLineDocument><ram:LineID>1</ram:LineID></ram:AssociatedDocumentLineDocument>
   <ram:SpecifiedTradeProduct><ram:Name>Espresso 1 kg</ram:Name></ram:SpecifiedTradeProduct>
   <ram:SpecifiedLineTradeAgreement><ram:NetPriceProductTradePrice><ram:ChargeAmount>19.90</ram:ChargeAmount>
   </ram:NetPriceProductTradePrice></ram:SpecifiedLineTradeAgreement>
   <ram:SpecifiedLineTradeDelivery>
    <ram:BilledQuantity unitCode="C62">10</ram:BilledQuantity></ram:SpecifiedLineTradeDelivery>
   <ram:SpecifiedLineTradeSettlement>
    <ram:ApplicableTradeTax><ram:RateApplicablePercent>7</ram:RateApplicablePercent></ram:ApplicableTradeTax>
    <ram:SpecifiedTradeSettlementLineMonetarySummation><ram:LineTotalAmount>199.00</ram:LineTotalAmount>
    </ram:SpecifiedTradeSettlementLineMonetarySummation>
   </ram:SpecifiedLineTradeSettlement>
  </ram:IncludedSupplyChainTradeLineItem>
  <ram:ApplicableHeaderTradeAgreement>
   <ram:SellerTradeParty><ram:Name>Kaffeerösterei Hansen GmbH</ram:Name>
    <ram:SpecifiedTaxRegistration><ram:ID schemeID="FC">201/113/40209</ram:ID></ram:SpecifiedTaxRegistration>
    <ram:SpecifiedTaxRegistration><ram:ID schemeID="VA">DE136695976</ram:ID></ram:SpecifiedTaxRegistration>
   </ram:SellerTradeParty>
   <ram:BuyerTradeParty><ram:Name>Lindqvist &amp; Töchter</ram:Name></ram:BuyerTradeParty>
   <ram:BuyerOrderReferencedDocument><ram:IssuerAssignedID>PO-4711</ram:IssuerAssignedID></ram:BuyerOrderReferencedDocument>
  </ram:ApplicableHeaderTradeAgreement>
  <ram:ApplicableHeaderTradeSettlement>
   <ram:InvoiceCurrencyCode>EUR</ram:InvoiceCurrencyCode>
   <ram:SpecifiedTradeSettlementPaymentMeans><ram:PayeePartyCreditorFinancialAccount>
    <ram:IBANID>DE89 3704 0044 0532 0130 00</ram:IBANID>
   </ram:PayeePartyCreditorFinancialAccount></ram:SpecifiedTradeSettlementPaymentMeans>
   <ram:SpecifiedTradePaymentTerms><ram:DueDateDateTime><udt:DateTimeString format="102">20260328</udt:DateTimeString>
   </ram:DueDateDateTime></ram:SpecifiedTradePaymentTerms>
   <ram:SpecifiedTradeSettlementHeaderMonetarySummation>
    <ram:TaxBasisTotalAmount>199.00</ram:TaxBasisTotalAmount>
    <ram:TaxTotalAmount currencyID="CHF">13.20</ram:TaxTotalAmount>
    <ram:TaxTotalAmount currencyID="EUR">13.93</ram:TaxTotalAmount>
    <ram:GrandTotalAmount>212.93</ram:GrandTotalAmount><ram:DuePayableAmount>112.93</ram:DuePayableAmount>
   </ram:SpecifiedTradeSettlementHeaderMonetarySummation>
  </ram:ApplicableHeaderTradeSettlement>
 </rsm:SupplyChainTradeTransaction>
</rsm:CrossIndustryInvoice>"""

_ZUGFERD_1 = (
    _CII.replace("CrossIndustryInvoice", "CrossIndustryDocument")
    .replace("rsm:ExchangedDocument", "rsm:HeaderExchangedDocument")
    .replace("rsm:SupplyChainTradeTransaction", "rsm:SpecifiedSupplyChainTradeTransaction")
    .replace("ApplicableHeaderTrade", "ApplicableSupplyChainTrade")
    .replace("SpecifiedLineTrade", "SpecifiedSupplyChainTrade")
    .replace("SettlementHeaderMonetary", "SettlementMonetary")
    .replace("SettlementLineMonetary", "SettlementMonetary")
    .replace("RateApplicablePercent", "ApplicablePercent")
    .replace("IssuerAssignedID", "ID")
)

_UBL = """<?xml version="1.0" encoding="UTF-8"?>
<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
  xmlns:cac="urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
  xmlns:cbc="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">
 <cbc:ID>2026-118</cbc:ID><cbc:IssueDate>2026-03-14</cbc:IssueDate><cbc:DueDate>2026-03-28</cbc:DueDate>
 <cbc:InvoiceTypeCode>380</cbc:InvoiceTypeCode><cbc:DocumentCurrencyCode>EUR</cbc:DocumentCurrencyCode>
 <cac:OrderReference><cbc:ID>PO-4711</cbc:ID></cac:OrderReference>
 <cac:AccountingSupplierParty><cac:Party><cac:PartyName><cbc:Name>Hansen Kaffee</cbc:Name></cac:PartyName>
  <cac:PartyTaxScheme><cbc:CompanyID>201/113/40209</cbc:CompanyID><cac:TaxScheme><cbc:ID>FC</cbc:ID></cac:TaxScheme>
  </cac:PartyTaxScheme>
  <cac:PartyTaxScheme><cbc:CompanyID>DE136695976</cbc:CompanyID><cac:TaxScheme><cbc:ID>VAT</cbc:ID></cac:TaxScheme>
  </cac:PartyTaxScheme>
  <cac:PartyLegalEntity><cbc:RegistrationName>Kaffeerösterei Hansen GmbH</cbc:RegistrationName></cac:PartyLegalEntity>
 </cac:Party></cac:AccountingSupplierParty>
 <cac:AccountingCustomerParty><cac:Party>
  <cac:PartyLegalEntity><cbc:RegistrationName>Lindqvist &amp; Töchter</cbc:RegistrationName></cac:PartyLegalEntity>
 </cac:Party></cac:AccountingCustomerParty>
 <cac:PaymentMeans><cac:PayeeFinancialAccount>
  <cbc:ID>DE89370400440532013000</cbc:ID></cac:PayeeFinancialAccount></cac:PaymentMeans>
 <cac:TaxTotal><cbc:TaxAmount currencyID="EUR">13.93</cbc:TaxAmount></cac:TaxTotal>
 <cac:TaxTotal><cbc:TaxAmount currencyID="CHF">13.20</cbc:TaxAmount></cac:TaxTotal>
 <cac:LegalMonetaryTotal><cbc:TaxExclusiveAmount currencyID="EUR">199.00</cbc:TaxExclusiveAmount>
  <cbc:TaxInclusiveAmount currencyID="EUR">212.93</cbc:TaxInclusiveAmount>
  <cbc:PayableAmount currencyID="EUR">112.93</cbc:PayableAmount></cac:LegalMonetaryTotal>
 <cac:InvoiceLine><cbc:ID>1</cbc:ID><cbc:InvoicedQuantity unitCode="C62">10</cbc:InvoicedQuantity>
  <cbc:LineExtensionAmount currencyID="EUR">199.00</cbc:LineExtensionAmount>
  <cac:Item><cbc:Name>Espresso 1 kg</cbc:Name>
   <cac:ClassifiedTaxCategory><cbc:Percent>7</cbc:Percent></cac:ClassifiedTaxCategory></cac:Item>
  <cac:Price><cbc:PriceAmount currencyID="EUR">19.90</cbc:PriceAmount></cac:Price></cac:InvoiceLine>
</Invoice>"""

_CREDIT_NOTE = (
    _UBL.replace("<Invoice ", "<CreditNote ")
    .replace("</Invoice>", "</CreditNote>")
    .replace("InvoiceTypeCode>380", "CreditNoteTypeCode>381")
    .replace("380</cbc:InvoiceTypeCode", "381</cbc:CreditNoteTypeCode")
    .replace("381</cbc:InvoiceTypeCode", "381</cbc:CreditNoteTypeCode")
    .replace("InvoiceLine", "CreditNoteLine")
    .replace("InvoicedQuantity", "CreditedQuantity")
)

SAYS = {
    "number": "2026-118",
    "invoice_date": "2026-03-14",
    "due_date": "2026-03-28",
    "seller": "Kaffeerösterei Hansen GmbH",
    "currency": "EUR",
    "net": "199.00",
    "tax": "13.93",
    "total": "212.93",
    "payable": "112.93",
    "iban": "DE89370400440532013000",
    "seller_vat_id": "DE136695976",
    "buyer": "Lindqvist & Töchter",
    "order_number": "PO-4711",
    "kind": "invoice",
}
LINE = {
    "position": "1",
    "description": "Espresso 1 kg",
    "quantity": "10",
    "unit": "C62",
    "unit_price": "19.90",
    "tax_rate": "7",
    "net": "199.00",
}
PAGE = """
50,60 Kaffeerösterei Hansen GmbH
50,100 Rechnung Nr. 2026-118 vom 14.03.2026
300,300 Summe netto | 450 199,00 €
300,314 7 % USt. | 450 13,93 €
300,328 Rechnungsbetrag | 450 212,93 €
"""


def run(folder: Path, name: str, operation: str = "extract_fields") -> dict[str, Any]:
    """As a worker process does."""
    params = {"File Name": name, "Operation": operation}
    call = Call(TaskSource("invoice"), params, Context("run_1", "session_1", str(folder)), 60.0)
    result: dict[str, Any] = call.bind(call.source.load())()
    return result


def embed(path: Path, xml: str) -> None:
    """A PDF that shows PAGE and holds an XML file."""
    draw(path, PAGE)
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(path.read_bytes())))
    writer.add_attachment("factur-x.xml", xml.encode())
    writer.write(path)


@pytest.mark.parametrize(
    ("xml", "kind"),
    [(_CII, "invoice"), (_ZUGFERD_1, "invoice"), (_UBL, "invoice"), (_CREDIT_NOTE, "credit note")],
    ids=["CII", "ZUGFeRD 1", "UBL", "UBL credit note"],
)
def test_every_field_of_the_xml_is_exact(tmp_path: Path, xml: str, kind: str) -> None:
    """Whatever the syntax: the fields, each with the confidence `data`, and the lines."""
    (tmp_path / "a.xml").write_text(xml, "utf-8")
    found = run(tmp_path, "a.xml", "extract_lines")
    says = SAYS | {"kind": kind}
    assert found == {
        **says,
        "source": "xml",
        "warnings": [],
        "confidence": dict.fromkeys(says, "data"),
        "lines": [LINE],
    }


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_xml_in_other_encodings_is_read(tmp_path: Path, encoding: str) -> None:
    """A byte order mark decides over the declaration."""
    (tmp_path / "a.xml").write_bytes(_CII.replace(' encoding="UTF-8"', "").encode(encoding))
    assert run(tmp_path, "a.xml")["seller"] == SAYS["seller"]


def test_embedded_xml_decides(tmp_path: Path) -> None:
    """What the XML says holds; where the page doesn't show it anywhere, a warning says so."""
    embed(tmp_path / "a.pdf", _CII)
    assert run(tmp_path, "a.pdf")["warnings"] == []
    embed(
        tmp_path / "a.pdf", _CII.replace("212.93", "312.93").replace("199.00", "299.00").replace("2026-118", "2026-119")
    )
    found = run(tmp_path, "a.pdf")
    assert (found["number"], found["net"], found["total"], found["source"]) == ("2026-119", "299.00", "312.93", "xml")
    assert found["warnings"] == [
        "number: the XML says 2026-119, the page 2026-118.",
        "net: the XML says 299.00, the page 199.00.",
        "total: the XML says 312.93, the page 212.93.",
    ]


def test_xml_over_a_scan_is_read(tmp_path: Path) -> None:
    """The data says it all, so a page without text is no failure."""
    writer = PdfWriter(clone_from=SAMPLES / "invoices" / "problems" / "scan.pdf")
    writer.add_attachment("factur-x.xml", _CII.encode())
    writer.write(tmp_path / "a.pdf")
    found = run(tmp_path, "a.pdf")
    assert (found["total"], found["warnings"]) == ("212.93", [])


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<SCRDMCCBDACIOMessageStructure/>", "SCRDMCCBDACIOMessageStructure"),
        (_CII[:900], "no well-formed XML"),
    ],
    ids=["Order-X", "cut off"],
)
def test_the_page_is_read_where_the_xml_is_no_invoice(tmp_path: Path, xml: str, said: str) -> None:
    """An order, or XML that is damaged, is told, and the page speaks."""
    embed(tmp_path / "a.pdf", xml)
    found = run(tmp_path, "a.pdf")
    assert (found["source"], found["total"]) == ("page", "212.93")
    assert said in found["warnings"][0]


def test_ids_with_wrong_check_digits_are_left_out(tmp_path: Path) -> None:
    """A bank account that can't be one is no bank account, whoever wrote it into the XML."""
    wrong = _CII.replace("DE89 3704", "DE88 3704").replace("DE136695976", "DE123456789")
    (tmp_path / "a.xml").write_text(wrong, "utf-8")
    found = run(tmp_path, "a.xml")
    assert (found["iban"], found["seller_vat_id"]) == (None, None)
    assert [warning.split(":")[0] for warning in found["warnings"]] == ["iban", "seller_vat_id"]


def test_a_day_that_is_in_no_calendar_is_left_out(tmp_path: Path) -> None:
    """The 30th of February is told, not passed on."""
    (tmp_path / "a.xml").write_text(_CII.replace("20260328", "20260230"), "utf-8")
    found = run(tmp_path, "a.xml")
    assert found["due_date"] is None
    assert found["warnings"] == ["due_date: 20260230 in the XML is left out, for it is no date."]


def test_sums_that_do_not_add_up_are_told(tmp_path: Path) -> None:
    """The XML is given as it is, with a warning."""
    (tmp_path / "a.xml").write_text(_UBL.replace("212.93", "200.00"), "utf-8")
    assert run(tmp_path, "a.xml")["warnings"] == [
        "total: in the XML net 199.00 and tax 13.93 don't add up to the total 200.00."
    ]


_LAUGHS = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (f'<!DOCTYPE x [<!ENTITY a0 "ha">{_LAUGHS}]><Invoice>&a9;</Invoice>', "declares a document type"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Invoice>&a;</Invoice>', "declares a document type"),
        ("<a>" * 1_000, "nested more than"),
        ("<html><body/></html>", "its outermost element is html"),
        ("<Invoice", "no well-formed XML"),
        ("<CrossIndustryInvoice/>", "lacks the element ExchangedDocument"),
    ],
    ids=["billion laughs", "local file", "deep", "another kind", "cut off", "empty"],
)
def test_xml_that_means_harm_or_nothing_is_refused(tmp_path: Path, xml: str, said: str) -> None:
    """No entity is ever expanded and nothing else is opened; one sentence says why."""
    (tmp_path / "a.xml").write_text(xml, "utf-8")
    with pytest.raises(TaskFailed, match=f"^The XML is no invoice that can be read: .*{said}"):
        run(tmp_path, "a.xml")


def test_what_xml_alone_or_a_page_alone_cannot_give_is_said(tmp_path: Path) -> None:
    """XML has no text of pages, and a page no lines as data."""
    (tmp_path / "a.xml").write_text(_CII, "utf-8")
    with pytest.raises(TaskFailed, match="has no pages; use extract_fields"):
        run(tmp_path, "a.xml", "extract_text")
    draw(tmp_path / "a.pdf", PAGE)
    with pytest.raises(TaskFailed, match="lines are read from XML only; use extract_fields"):
        run(tmp_path, "a.pdf", "extract_lines")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_xml_is_a_sentence_or_still_readable(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a good invoice are changed, cut or doubled anywhere: never another exception than TaskFailed."""
    good = data.draw(st.sampled_from([_CII, _UBL])).encode()
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 300)))
    (tmp_path / "a.xml").write_bytes(good[:start] + data.draw(st.binary(max_size=40)) + good[end:])
    try:
        found = run(tmp_path, "a.xml", "extract_lines")
    except TaskFailed:
        return
    assert found["source"] == "xml"
