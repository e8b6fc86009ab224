"""Designs of invoices as one meets them: what stands there is read, and what isn't sure is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from drawn_invoices import draw, read

if TYPE_CHECKING:
    from pathlib import Path

DESIGNS: dict[str, tuple[str, dict[str, Any]]] = {
    "a company of the net bills in dollars": (
        """
        50,60 Invoice | 450 Prompt
        50,90 Invoice number | 150 ABCD1234-0001
        50,104 Date of issue | 150 March 5, 2026
        50,118 Date due | 150 March 5, 2026
        50,150 Prompt Ireland Ltd | 300 Bill to
        50,164 117-126 Sheriff Street Upper | 300 Lindqvist & Daughters
        50,178 Dublin 1 | 300 4 Mill Lane
        50,192 Ireland | 300 Leeds
        50,206 ar@prompt.example | 300 United Kingdom
        50,220 EU OSS VAT EU372041333 | 300 GB VAT GB980780684
        50,260 $24.00 USD due March 5, 2026
        50,274 Pay online
        50,310 Description | 300 Qty | 350 Unit price | 420 Tax | 480 Amount
        50,330 Subscription | 300 1 | 350 $20.00 | 420 20% | 480 $20.00
        50,342 Mar 5 – Apr 5, 2026
        300,370 Subtotal | 480 $20.00
        300,384 Total excluding tax | 480 $20.00
        300,398 VAT - United Kingdom (20% on $20.00) | 480 $4.00
        300,412 Total | 480 $24.00
        300,426 Amount due | 480 $24.00 USD
        """,
        {
            "number": "ABCD1234-0001",
            "invoice_date": "2026-03-05",
            "seller": "Prompt Ireland Ltd",
            "buyer": "Lindqvist & Daughters",
            "net": "20.00",
            "tax": "4.00",
            "total": "24.00",
            "currency": "USD",
            "seller_vat_id": None,
        },
    ),
    "a marketplace": (
        """
        50,60 markt.example | 400 Rechnung
        50,90 Lindqvist & Töchter | 400 Zahlungsreferenznummer 1A2B3C
        50,104 Mühlgasse 4 | 400 Verkauft von Kaffeerösterei Hansen GmbH
        50,118 Leipzig, 04109 | 400 USt-IDNr. DE136695976
        400,132 Rechnungsdatum/Lieferdatum 05 März 2026
        400,146 Rechnungsnummer DE60001234
        400,160 Zahlbetrag 119,00 €
        50,200 Rechnungsadresse | 220 Lieferadresse | 400 Verkauft von
        50,214 Lindqvist & Töchter | 220 Lindqvist & Töchter | 400 Kaffeerösterei Hansen GmbH
        50,228 Mühlgasse 4 | 220 Mühlgasse 4 | 400 Am Kai 7
        50,270 Bestelldatum 03 März 2026
        50,284 Bestellnummer 302-1234567-1234567
        50,320 Beschreibung | 250 Menge | 300 Stückpreis | 370 USt. % | 430 Stückpreis | 500 Zwischensumme
        300,332 (ohne USt.) | 430 (inkl. USt.) | 500 (inkl. USt.)
        50,350 Espresso 1 kg | 250 1 | 300 100,00 € | 370 19% | 430 119,00 € | 500 119,00 €
        400,400 Gesamtpreis | 500 119,00 €
        250,430 USt. % | 350 Zwischensumme | 450 USt.
        350,442 (ohne USt.)
        250,456 19% | 350 100,00 € | 450 19,00 €
        250,470 USt. Gesamt | 350 100,00 € | 450 19,00 €
        """,
        {
            "number": "DE60001234",
            "invoice_date": "2026-03-05",
            "seller": "Kaffeerösterei Hansen GmbH",
            "net": "100.00",
            "tax": "19.00",
            "total": "119.00",
            "order_number": "302-1234567-1234567",
            "seller_vat_id": "DE136695976",
        },
    ),
    "a telephone company that debits": (
        """
        50,60 Ihre Rechnung
        50,110 Beispiel AG, Postfach 10, 53000 Bonn
        50,124 Lindqvist & Töchter
        50,138 Mühlgasse 4
        50,152 04109 Leipzig
        350,110 Datum | 450 12.03.2026
        350,124 Rechnungsnummer | 450 73 4512 8891
        350,138 Kundennummer | 450 1120
        350,152 Buchungskonto | 450 99887766
        50,220 Ihre Rechnung für März 2026
        50,250 Leistungen | 450 Beträge (Euro)
        50,264 Monatliche Beträge | 450 42,0168
        50,278 Summe der Beträge | 450 42,02
        50,292 Umsatzsteuer 19 % | 450 7,98
        50,306 Rechnungsbetrag | 450 50,00
        50,320 Zu zahlender Betrag | 450 50,00
        50,350 Der Betrag wird von Ihrem Konto DE89 3704 0044 0532 0130 00 abgebucht.
        """,
        {
            "number": "73 4512 8891",
            "invoice_date": "2026-03-12",
            "net": "42.02",
            "tax": "7.98",
            "total": "50.00",
            "iban": None,
        },
    ),
    "a utility with a balance brought forward": (
        """
        400,60 Bright Power Limited
        400,74 PO Box 55, Leeds LS1 1AA
        50,100 Lindqvist & Daughters
        50,114 4 Mill Lane
        50,128 Leeds LS1 2AB
        350,110 Your account number: 8500 1234
        350,124 Bill date: 5 March 2026
        350,138 Bill number: 00042
        350,152 Billing period: 1 Feb 2026 - 28 Feb 2026
        50,200 Your electricity bill
        50,230 Previous balance | 450 £80.00
        50,244 Payment received - thank you | 450 -£80.00
        50,258 Electricity used 300 kWh at 20p | 450 £60.00
        50,272 Standing charge 28 days | 450 £14.00
        50,286 Total charges before VAT | 450 £74.00
        50,300 VAT at 5% | 450 £3.70
        50,314 Total amount due | 450 £77.70
        50,330 Please pay by 19 March 2026
        """,
        {
            "number": "00042",
            "invoice_date": "2026-03-05",
            "due_date": "2026-03-19",
            "seller": "Bright Power Limited",
            "net": "74.00",
            "tax": "3.70",
            "total": "77.70",
        },
    ),
    "a word processor's template": (
        """
        50,60 Your Garden Services | 420 INVOICE
        50,76 12 Oak Road, Reading RG1 1AA
        50,90 Phone: 0118 496 0000
        400,100 INVOICE #2026-14
        400,114 DATE: 14/03/2026
        50,140 TO: | 300 FOR:
        50,154 Ida Lindqvist | 300 Garden work
        50,168 Lindqvist & Daughters
        50,240 DESCRIPTION | 450 AMOUNT
        50,256 Hedge trimming | 450 £200.00
        50,270 Waste removal | 450 £50.00
        380,320 TOTAL | 450 £250.00
        50,350 Make all checks payable to Your Garden Services
        50,364 Payment is due within 30 days.
        """,
        {
            "number": "2026-14",
            "invoice_date": "2026-03-14",
            "seller": "Your Garden Services",
            "net": None,
            "tax": None,
            "total": "250.00",
        },
    ),
    "a small business without tax": (
        """
        50,60 Max Muster - Webdesign
        50,74 Hauptstr. 5, 70173 Stuttgart
        50,110 Max Muster Webdesign · Hauptstr. 5 · 70173 Stuttgart
        50,124 Firma
        50,138 Lindqvist & Töchter
        50,152 Mühlgasse 4
        50,166 04109 Leipzig
        400,150 Rechnung Nr.: RE-1001
        400,164 Kundennr.: 10023
        400,178 Datum: 03.03.2026
        400,192 Leistungszeitraum: 02/2026
        50,240 Sehr geehrte Damen und Herren,
        50,254 vielen Dank für Ihren Auftrag. Wir berechnen Ihnen:
        50,280 Pos | 90 Bezeichnung | 330 Menge | 400 Einzel EUR | 480 Gesamt EUR
        50,294 1 | 90 Gestaltung | 330 10 Std. | 400 80,00 | 480 800,00
        50,340 Gesamtbetrag | 480 800,00
        50,360 Gemäß § 19 UStG wird keine Umsatzsteuer berechnet.
        50,374 Bitte überweisen Sie den Betrag bis 17.03.2026.
        50,780 Bankverbindung: Kontoinhaber: Max Muster | 300 IBAN: DE89 3704 0044 0532 0130 00
        50,792 Steuernr.: 99/123/45678
        """,
        {
            "number": "RE-1001",
            "invoice_date": "2026-03-03",
            "seller": "Max Muster Webdesign",
            "buyer": "Lindqvist & Töchter",
            "tax": None,
            "total": "800.00",
            "iban": "DE89370400440532013000",
        },
    ),
    "a hotel with two rates and a list of days": (
        """
        50,60 Hotel Zur Post GmbH & Co. KG
        50,74 Marktplatz 1, 83471 Berchtesgaden
        50,140 Frau Ida Lindqvist
        400,140 Rechnung 4711/26
        400,154 Anreise: 10.03.2026
        400,168 Abreise: 12.03.2026
        400,182 Zimmer: 204
        50,220 Datum | 150 Text | 400 Betrag EUR
        50,234 10.03.2026 | 150 Übernachtung | 400 107,00
        50,248 11.03.2026 | 150 Übernachtung | 400 107,00
        50,262 11.03.2026 | 150 Frühstück | 400 23,80
        300,300 Gesamtbetrag | 400 237,80
        300,314 bezahlt EC-Karte | 400 237,80
        300,328 offen | 400 0,00
        50,360 MwSt-Satz | 150 Netto | 250 MwSt | 350 Brutto
        50,374 7,00 % | 150 200,00 | 250 14,00 | 350 214,00
        50,388 19,00 % | 150 20,00 | 250 3,80 | 350 23,80
        50,402 Gesamt | 150 220,00 | 250 17,80 | 350 237,80
        """,
        {
            "number": "4711/26",
            "invoice_date": None,
            "net": "220.00",
            "tax": "17.80",
            "total": "237.80",
            "currency": "EUR",
        },
    ),
    "a letter whose sender stands at the foot": (
        """
        50,60 Lindqvist & Töchter GmbH
        50,74 Mühlgasse 4
        50,88 04109 Leipzig
        350,60 Rechnung
        350,74 Nr. 4711
        350,88 Leipzig, 3. März 2026
        50,300 Beratung | 450 1.000,00
        300,330 Netto | 450 1.000,00
        300,344 19% MwSt | 450 190,00
        300,358 Endbetrag EUR | 450 1.190,00
        50,780 Erika Musterfrau Consulting | 250 IBAN DE89 3704 0044 0532 0130 00 | 450 St.-Nr. 12/345/67890
        """,
        {"number": "4711", "invoice_date": "2026-03-03", "seller": None, "total": "1190.00"},
    ),
    "a shop that names other days": (
        """
        50,60 Shop Example Ltd
        50,74 1 High Street, London W1A 1AA
        50,100 Order placed: 1 March 2026
        50,114 Order Number: 900-12
        50,128 Dispatch date: 2 March 2026
        50,150 Invoice INV-33
        50,300 Item | 450 £10.00
        300,330 Subtotal | 450 £10.00
        300,344 Delivery | 450 £5.00
        300,358 VAT (20%) | 450 £3.00
        300,372 Total | 450 £18.00
        """,
        {
            "number": "INV-33",
            "invoice_date": None,
            "net": "15.00",
            "tax": "3.00",
            "total": "18.00",
            "order_number": "900-12",
        },
    ),
    "a discount for early payment": (
        """
        50,60 Stahlbau Nord GmbH
        50,74 Werftstr. 1, 24103 Kiel
        50,100 Rechnung Nr. 88 vom 02.03.2026
        300,300 Nettobetrag | 450 1.000,00 €
        300,314 MwSt 19 % | 450 190,00 €
        300,328 Rechnungsbetrag | 450 1.190,00 €
        50,350 Zahlbar bis 16.03.2026 mit 2 % Skonto (23,80 €) = 1.166,20 €
        50,364 Zahlbar bis 01.04.2026 netto 1.190,00 €
        """,
        {
            "number": "88",
            "invoice_date": "2026-03-02",
            "due_date": "2026-04-01",
            "net": "1000.00",
            "tax": "190.00",
            "total": "1190.00",
            "payable": None,
        },
    ),
    "a Swiss payment part": (
        """
        50,60 Alpen Käse AG
        50,74 Dorfstrasse 3, 3920 Zermatt
        50,88 CHE-123.456.789 MWST
        350,120 Lindqvist & Töchter
        50,200 Rechnung 2026-04
        50,214 Datum 04.03.2026
        50,228 Zahlbar innert 30 Tagen
        50,260 Menge | 150 Artikel | 350 Preis | 450 Total CHF
        50,274 10 | 150 Käse | 350 20.00 | 450 200.00
        300,300 Total exkl. MWST | 450 200.00
        300,314 MWST 2.6% | 450 5.20
        300,328 Total inkl. MWST | 450 205.20
        50,600 Konto / Zahlbar an
        50,614 CH93 0076 2011 6238 5295 7
        50,628 Alpen Käse AG
        50,642 Zahlbar durch
        50,656 Lindqvist & Töchter
        50,670 Währung | 120 Betrag
        50,684 CHF | 120 205.20
        """,
        {
            "number": "2026-04",
            "invoice_date": "2026-03-04",
            "seller": "Alpen Käse AG",
            "tax": "5.20",
            "total": "205.20",
            "currency": "CHF",
            "iban": "CH9300762011623852957",
        },
    ),
    "a statement of several invoices": (
        """
        50,60 Harbour Paper Ltd
        50,100 Statement of account
        50,140 Invoice No. | 150 Date | 250 Amount
        50,154 HP-1 | 150 01/02/2026 | 250 £100.00
        50,168 HP-2 | 150 15/02/2026 | 250 £50.00
        200,200 Total due | 250 £150.00
        """,
        {"number": None, "invoice_date": None},
    ),
    "two taxes and a payment": (
        """
        50,60 Maple Supplies Inc.
        50,74 1 King St, Toronto ON
        50,100 Invoice Date: 2026-03-03
        50,114 Invoice #: 77
        300,300 Sub Total | 450 1,000.00
        300,314 GST/HST # 12345 RT0001 5.000% | 450 50.00
        300,328 QST 9.975% | 450 99.75
        300,342 Total (CAD) | 450 1,149.75
        300,356 Amount Paid | 450 149.75
        300,370 Balance Due (CAD) | 450 1,000.00
        """,
        {
            "number": "77",
            "invoice_date": "2026-03-03",
            "seller": "Maple Supplies Inc.",
            "net": "1000.00",
            "tax": "149.75",
            "total": "1149.75",
            "payable": "1000.00",
            "currency": "CAD",
        },
    ),
    "labels above their values": (
        """
        50,60 Müller & Söhne OHG
        50,100 Rechnungsnummer
        50,112 2026/17
        200,100 Rechnungsdatum
        200,112 05.03.2026
        350,100 Kundennummer
        350,112 10045
        50,200 Gesamt netto | 200 USt 19 % | 350 Gesamt brutto
        50,214 100,00 EUR | 200 19,00 EUR | 350 119,00 EUR
        """,
        {"number": "2026/17", "invoice_date": "2026-03-05", "net": "100.00", "tax": "19.00", "total": "119.00"},
    ),
    "a delivery within the union": (
        """
        50,60 Tech Parts B.V.
        50,74 Havenweg 1, 3011 AA Rotterdam
        50,88 VAT NL810433941B01
        50,120 Bill to: Lindqvist & Töchter GmbH
        50,134 VAT: DE136695976
        50,160 Invoice number 2026-0009 | 300 Invoice date 04-03-2026
        300,300 Total excl. VAT | 450 500,00
        300,314 VAT 0% (reverse charge) | 450 0,00
        300,328 Total amount EUR | 450 500,00
        """,
        {
            "number": "2026-0009",
            "invoice_date": "2026-03-04",
            "net": "500.00",
            "tax": "0.00",
            "total": "500.00",
            "seller_vat_id": "NL810433941B01",
            "buyer": "Lindqvist & Töchter GmbH",
        },
    ),
    "a number that looks like a date": (
        """
        50,60 FAKTURA NR 15/03/2026
        50,74 Data wystawienia: 15-03-2026
        50,88 Termin płatności: 29-03-2026
        50,110 Sprzedawca: | 300 Nabywca:
        50,124 Firma Handlowa Kowalski | 300 Lindqvist i Córki Sp. z o.o.
        50,138 ul. Polna 1, 00-950 Warszawa | 300 ul. Krótka 2, 30-001 Kraków
        50,200 Razem: | 200 100,00 | 300 23% | 350 23,00 | 450 123,00
        50,214 W tym: | 200 100,00 | 300 23% | 350 23,00 | 450 123,00
        50,188 | 200 Netto | 300 Stawka | 350 VAT | 450 Brutto
        50,240 Razem do zapłaty: 123,00 PLN
        """,
        {
            "number": "15/03/2026",
            "invoice_date": "2026-03-15",
            "due_date": "2026-03-29",
            "seller": "Firma Handlowa Kowalski",
            "net": "100.00",
            "tax": "23.00",
            "total": "123.00",
        },
    ),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_designs_of_invoices_are_read(tmp_path: Path, design: str) -> None:
    """Each field that is named: as it stands there, or None where there is no ground for a value."""
    texts, says = DESIGNS[design]
    draw(tmp_path / "a.pdf", texts)
    found = read(tmp_path / "a.pdf")
    assert {field: getattr(found, field) for field in says} == says
