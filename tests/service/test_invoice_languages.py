"""Invoices as they are written in fourteen languages, on pages as the programs of these countries lay them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from drawn_invoices import draw, read

if TYPE_CHECKING:
    from pathlib import Path


class Written(NamedTuple):
    """One invoice: its texts with the places where they stand (from the left and the top), and what they say."""

    texts: str
    says: dict[str, Any]


INVOICES = {
    "de": Written(
        """
        50,90 Kaffeerösterei Hansen GmbH · Am Kai 7 · 20457 Hamburg
        50,110 Lindqvist & Töchter
        50,124 Frau Ida Lindqvist
        50,138 Mühlgasse 4
        50,152 04109 Leipzig
        380,110 Rechnungs-Nr.: 2026-118
        380,124 Rechnungsdatum: 14.03.2026
        380,138 Lieferdatum: 10.03.2026
        380,152 Ihre Bestellung: PO-4711
        50,220 Pos. | 120 Bezeichnung | 330 Menge | 400 Einzelpreis | 480 Gesamtpreis
        50,236 1 | 120 Espresso 1 kg | 330 10 | 400 19,90 € | 480 199,00 €
        330,300 Summe netto | 480 199,00 €
        330,314 zzgl. 7 % USt. | 480 13,93 €
        330,328 Rechnungsbetrag | 480 212,93 €
        50,360 Zahlbar bis zum 28.03.2026 ohne Abzug. Bei Zahlung bis zum 21.03.2026 gewähren wir 2 % Skonto.
        50,780 Kaffeerösterei Hansen GmbH | 250 Bank: Sparkasse | 430 USt-IdNr.: DE136695976
        50,792 Am Kai 7 | 250 IBAN: DE89 3704 0044 0532 0130 00 | 430 HRB 12345
        """,
        {
            "number": "2026-118", "invoice_date": "2026-03-14", "due_date": "2026-03-28", "currency": "EUR",
            "seller": "Kaffeerösterei Hansen GmbH", "buyer": "Lindqvist & Töchter", "net": "199.00", "tax": "13.93",
            "total": "212.93", "order_number": "PO-4711", "iban": "DE89370400440532013000",
            "seller_vat_id": "DE136695976", "kind": "invoice",
        },
    ),
    "fr": Written(
        """
        50,60 Librairie Bellevue SARL
        50,76 12 rue des Lilas
        50,90 69002 Lyon
        50,104 N° TVA : FR40303265045
        340,130 Facturé à :
        340,144 Lindqvist & Filles
        340,158 4 rue du Moulin
        50,200 Facture n° F-2026-0045
        50,214 Date : 05/02/2026
        50,228 Date d'échéance : 07/03/2026
        50,242 Votre commande n° : BC-778
        50,300 Désignation | 300 Qté | 360 P.U. HT | 450 Montant HT
        50,316 Atlas du monde | 300 3 | 360 49,00 € | 450 147,00 €
        360,360 Total HT | 450 147,00 €
        360,374 TVA 5,5 % | 450 8,09 €
        360,388 Total TTC | 450 155,09 €
        360,402 Acompte versé | 450 50,00 €
        360,416 Net à payer | 450 105,09 €
        """,
        {
            "number": "F-2026-0045", "invoice_date": "2026-02-05", "due_date": "2026-03-07", "currency": "EUR",
            "seller": "Librairie Bellevue SARL", "buyer": "Lindqvist & Filles", "net": "147.00", "tax": "8.09",
            "total": "155.09", "payable": "105.09", "order_number": "BC-778", "seller_vat_id": "FR40303265045",
        },
    ),
    "nl": Written(
        """
        50,60 Fietsen Van Dam B.V.
        50,74 Keizersgracht 12
        50,88 1015 CS Amsterdam
        50,102 BTW-nummer NL810433941B01
        50,140 Factuur aan:
        50,154 Lindqvist & Dochters
        360,140 Factuurnummer: 2026/0311
        360,154 Factuurdatum: 3 maart 2026
        360,168 Vervaldatum: 2 april 2026
        50,240 Omschrijving | 300 Aantal | 360 Prijs | 450 Bedrag
        50,256 Stadsfiets | 300 2 | 360 € 650,00 | 450 € 1.300,00
        360,300 Totaal excl. btw | 450 € 1.300,00
        360,314 21% btw over € 1.300,00 | 500 € 273,00
        360,328 Totaal incl. btw | 450 € 1.573,00
        50,400 Gelieve te betalen op NL91 ABNA 0417 1643 00 t.n.v. Fietsen Van Dam B.V.
        """,
        {
            "number": "2026/0311", "invoice_date": "2026-03-03", "due_date": "2026-04-02", "currency": "EUR",
            "seller": "Fietsen Van Dam B.V.", "buyer": "Lindqvist & Dochters", "net": "1300.00", "tax": "273.00",
            "total": "1573.00", "iban": "NL91ABNA0417164300", "seller_vat_id": "NL810433941B01",
        },
    ),
    "pl": Written(
        """
        50,60 Faktura VAT nr FV/12/03/2026
        360,60 Data wystawienia: 12.03.2026
        360,74 Data sprzedaży: 10.03.2026
        360,88 Termin płatności: 26.03.2026
        50,130 Sprzedawca: | 320 Nabywca:
        50,144 Piekarnia Złota Sp. z o.o. | 320 Lindqvist i Córki
        50,158 ul. Długa 5, 31-147 Kraków | 320 ul. Krótka 1, 00-001 Warszawa
        50,172 NIP: 5260250274 | 320 NIP: 1132853869
        50,240 Nazwa | 200 Ilość | 260 Cena netto | 330 Wartość netto | 410 VAT | 450 Kwota VAT | 510 Wartość brutto
        50,256 Chleb | 200 100 | 260 5,00 | 330 500,00 | 410 5% | 450 25,00 | 510 525,00
        280,280 Razem | 330 500,00 | 450 25,00 | 510 525,00
        50,320 Do zapłaty: 525,00 zł
        """,
        {
            "number": "FV/12/03/2026", "invoice_date": "2026-03-12", "due_date": "2026-03-26", "currency": "PLN",
            "seller": "Piekarnia Złota Sp. z o.o.", "buyer": "Lindqvist i Córki", "net": "500.00", "tax": "25.00",
            "total": "525.00",
        },
    ),
    "cs": Written(
        """
        50,60 Faktura č. 20260077
        50,100 Dodavatel | 320 Odběratel
        50,114 Sklárna Morava s.r.o. | 320 Lindqvist a dcery
        50,128 Hlavní 10, 602 00 Brno | 320 Krátká 1, 110 00 Praha
        50,142 DIČ: CZ25123891
        50,180 Datum vystavení: 2. 3. 2026
        50,194 Datum splatnosti: 16. 3. 2026
        50,208 Datum uskutečnění zdanitelného plnění: 28. 2. 2026
        50,260 Položka | 300 Množství | 380 Cena | 460 Celkem
        50,276 Sklenice | 300 20 | 380 100,00 | 460 2 000,00
        300,320 Základ daně | 460 2 000,00 Kč
        300,334 DPH 21 % | 460 420,00 Kč
        300,348 Celkem k úhradě | 460 2 420,00 Kč
        """,
        {
            "number": "20260077", "invoice_date": "2026-03-02", "due_date": "2026-03-16", "currency": "CZK",
            "seller": "Sklárna Morava s.r.o.", "net": "2000.00", "tax": "420.00", "total": "2420.00",
            "seller_vat_id": "CZ25123891",
        },
    ),
    "sv": Written(
        """
        50,60 Norrlands Trä AB | 400 FAKTURA
        50,74 Storgatan 3
        50,88 903 26 Umeå
        360,110 Fakturanummer | 470 88213
        360,124 Fakturadatum | 470 2026-02-11
        360,138 Förfallodatum | 470 2026-03-13
        360,152 Ert ordernummer | 470 7731
        50,124 Lindqvist & Döttrar
        50,138 Kungsgatan 1
        50,240 Benämning | 300 Antal | 360 Á-pris | 450 Belopp
        50,256 Plank 45x145 | 300 40 | 360 85,00 | 450 3 400,00
        300,320 Summa exkl. moms | 450 3 400,00
        300,334 Moms 25% | 450 850,00
        300,348 Att betala | 450 4 250,00 SEK
        50,780 Org.nr 556016-0680 | 250 Momsreg.nr SE556016068001 | 430 Bankgiro 123-4567
        """,
        {
            "number": "88213", "invoice_date": "2026-02-11", "due_date": "2026-03-13", "currency": "SEK",
            "seller": "Norrlands Trä AB", "net": "3400.00", "tax": "850.00", "total": "4250.00", "order_number": "7731",
        },
    ),
    "da": Written(
        """
        50,60 Havnens Rugbrød ApS
        50,74 Nyhavn 20, 1051 København
        50,88 CVR-nr. 13585628
        50,130 Lindqvist & Døtre
        360,130 Fakturanr. 3309
        360,144 Fakturadato 09-03-2026
        360,158 Betalingsfrist 23-03-2026
        50,240 Beskrivelse | 300 Antal | 360 Pris | 450 I alt
        50,256 Rugbrød | 300 50 | 360 30,00 | 450 1.500,00
        300,320 Subtotal | 450 1.500,00
        300,334 Moms (25%) | 450 375,00
        300,348 Total DKK | 450 1.875,00
        """,
        {
            "number": "3309", "invoice_date": "2026-03-09", "due_date": "2026-03-23", "currency": "DKK",
            "seller": "Havnens Rugbrød ApS", "net": "1500.00", "tax": "375.00", "total": "1875.00",
        },
    ),
    "nb": Written(
        """
        50,60 Fjellsport AS
        50,74 Storgata 1, 0155 Oslo
        50,88 Org.nr. 974760673 MVA
        360,110 Fakturanr: 10077
        360,124 Fakturadato: 04.02.2026
        360,138 Forfallsdato: 18.02.2026
        50,138 Lindqvist & Døtre
        50,240 Beskrivelse | 300 Antall | 360 Pris | 450 Beløp
        50,256 Ski | 300 2 | 360 2 000,00 | 450 4 000,00
        300,320 Sum eks. mva | 450 4 000,00
        300,334 Mva 25 % | 450 1 000,00
        300,348 Å betale | 450 NOK 5 000,00
        """,
        {
            "number": "10077", "invoice_date": "2026-02-04", "due_date": "2026-02-18", "currency": "NOK",
            "seller": "Fjellsport AS", "net": "4000.00", "tax": "1000.00", "total": "5000.00",
        },
    ),
    "es": Written(
        """
        50,60 Bodegas Serrano S.L. | 420 FACTURA
        50,74 Calle Mayor 8, 26001 Logroño
        50,88 CIF: ESB58378431
        360,110 Nº factura: A/2026/19
        360,124 Fecha de emisión: 20/02/2026
        360,138 Fecha de vencimiento: 22/03/2026
        50,130 Cliente:
        50,144 Lindqvist e Hijas
        50,240 Concepto | 300 Cantidad | 360 Precio | 450 Importe
        50,256 Rioja Crianza | 300 60 | 360 7,50 € | 450 450,00 €
        300,320 Base imponible | 450 450,00 €
        300,334 IVA (21%) | 450 94,50 €
        300,348 TOTAL FACTURA | 450 544,50 €
        """,
        {
            "number": "A/2026/19", "invoice_date": "2026-02-20", "due_date": "2026-03-22", "currency": "EUR",
            "seller": "Bodegas Serrano S.L.", "buyer": "Lindqvist e Hijas", "net": "450.00", "tax": "94.50",
            "total": "544.50", "seller_vat_id": "ESB58378431",
        },
    ),
    "it": Written(
        """
        50,60 Pastificio Ferri S.p.A.
        50,74 Via Roma 10, 40121 Bologna
        50,88 P.IVA IT00743110157
        50,130 Spett.le
        50,144 Lindqvist e Figlie
        360,130 Fattura n. 118/2026 del 27/02/2026
        360,158 Scadenza: 29/03/2026
        50,240 Descrizione | 300 Q.tà | 360 Prezzo | 450 Importo
        50,256 Tagliatelle | 300 100 | 360 3,10 | 450 310,00
        300,320 Imponibile | 450 310,00
        300,334 IVA 4% | 450 12,40
        300,348 Totale fattura | 450 € 322,40
        """,
        {
            "number": "118/2026", "invoice_date": "2026-02-27", "due_date": "2026-03-29", "currency": "EUR",
            "seller": "Pastificio Ferri S.p.A.", "buyer": "Lindqvist e Figlie", "net": "310.00", "tax": "12.40",
            "total": "322.40", "seller_vat_id": "IT00743110157",
        },
    ),
    "pt": Written(
        """
        50,60 Cortiça do Sul Lda
        50,74 Rua Nova 3, 7000-001 Évora
        50,88 NIF: PT501964843
        360,110 Fatura n.º FT 2026/55
        360,124 Data de emissão: 2026-03-01
        360,138 Data de vencimento: 2026-03-31
        300,320 Total líquido | 450 200,00 €
        300,334 IVA 23% | 450 46,00 €
        300,348 Total geral | 450 246,00 €
        """,
        {
            "number": "FT 2026/55", "invoice_date": "2026-03-01", "due_date": "2026-03-31", "currency": "EUR",
            "seller": "Cortiça do Sul Lda", "net": "200.00", "tax": "46.00", "total": "246.00",
            "seller_vat_id": "PT501964843",
        },
    ),
    "en-us": Written(
        """
        50,60 Prairie Seeds LLC | 430 INVOICE
        50,74 880 Grain Avenue, Lincoln, NE 68508
        50,130 BILL TO | 250 SHIP TO | 400 INVOICE # | 480 55-019
        50,144 Lindqvist & Daughters | 250 Warehouse 7 | 400 INVOICE DATE | 480 02/11/2026
        50,158 4 Mill Lane | 250 9 Dock Road | 400 P.O.# | 480 A-7781
        400,172 DUE DATE | 480 03/13/2026
        50,220 QTY | 120 DESCRIPTION | 380 UNIT PRICE | 480 AMOUNT
        50,236 12 | 120 Barley seed, 25 lb | 380 40.00 | 480 480.00
        380,300 Subtotal | 480 480.00
        380,314 Sales Tax 5.5% | 480 26.40
        380,328 TOTAL | 480 $506.40
        """,
        {
            "number": "55-019", "invoice_date": "2026-02-11", "due_date": "2026-03-13", "currency": "USD",
            "seller": "Prairie Seeds LLC", "buyer": "Lindqvist & Daughters", "net": "480.00", "tax": "26.40",
            "total": "506.40",
        },
    ),
    "en-gb-credit": Written(
        """
        50,60 Harbour Paper Ltd | 420 CREDIT NOTE
        50,74 1 Quay Street, Bristol BS1 4RB
        50,88 VAT Reg. No. GB980780684
        50,130 To:
        50,144 Lindqvist & Daughters
        360,130 Credit Note No: CN-0031
        360,144 Date: 12 March 2026
        360,158 Original invoice: HP-2026-0117
        360,172 Original invoice date: 17 January 2026
        300,320 Net total | 450 -£100.00
        300,334 VAT @ 20% | 450 -£20.00
        300,348 Total credit | 450 -£120.00
        """,
        {
            "number": "CN-0031", "invoice_date": "2026-03-12", "currency": "GBP", "seller": "Harbour Paper Ltd",
            "net": "-100.00", "tax": "-20.00", "total": "-120.00", "kind": "credit note", "due_date": None,
            "seller_vat_id": "GB980780684",
        },
    ),
    "ja": Written(
        """
        250,60 請求書
        50,100 リンドクビスト株式会社 御中
        360,100 請求書番号: INV-77
        360,114 請求日: 2026年3月5日
        360,128 支払期限: 2026年4月30日
        360,150 株式会社さくら商事
        360,164 登録番号 T1234567890123
        300,320 小計 | 450 ¥80,000
        300,334 消費税(10%) | 450 ¥8,000
        300,348 合計 | 450 ¥88,000
        """,
        {
            "number": "INV-77", "invoice_date": "2026-03-05", "due_date": "2026-04-30", "currency": "JPY",
            "net": "80000", "tax": "8000", "total": "88000",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", INVOICES)
def test_invoices_of_every_language_are_read(tmp_path: Path, language: str) -> None:
    """Labels, dates, amounts, parties and ids are found as they are written there."""
    draw(tmp_path / "a.pdf", INVOICES[language].texts)
    found = read(tmp_path / "a.pdf")
    says = INVOICES[language].says
    assert {field: getattr(found, field) for field in says} == says
