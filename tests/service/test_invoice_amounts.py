"""Net, tax and total on a page: what adds up is given, and what doesn't is left out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from drawn_invoices import draw, read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

SUMS = {
    "a heading that names the tax is no label": (
        """
        50,200 USt. Satz | 200 Nettopreis | 300 Ust.-Betrag
        50,214 7% | 200 160,00 € | 300 11,20 €
        50,228 19% | 200 198,00 € | 300 37,62 €
        200,242 USt. Gesamt: | 300 48,82 €
        50,256 Nettobetrag: | 200 358,00 €
        50,270 Gesamtbetrag: | 200 406,82 €
        """,
        ("358.00", "48.82", "406.82"),
    ),
    "a total that includes the tax isn't the tax": (
        """
        300,200 Summe exkl. USt | 450 100,00
        300,214 Summe inkl. USt | 450 119,00
        300,228 USt 19 % | 450 19,00
        """,
        ("100.00", "19.00", "119.00"),
    ),
    "lines in another order": (
        """
        300,200 VAT total: | 450 75.04
        300,214 Due payable: | 450 571.04
        300,228 Net total: | 450 496.00
        """,
        ("496.00", "75.04", "571.04"),
    ),
    "two labels in one line": (
        """
        50,200 Exclusief BTW € 593,36 Subtotaal € 717,97
        50,214 BTW 21% € 124,61
        50,228 Totaal € 717,97
        """,
        ("593.36", "124.61", "717.97"),
    ),
    "kerned decimals": (
        """
        300,200 Summe netto | 450 1.420,00
        300,214 USt. 19 % | 450 269,80
        300,228 Rechnungsbetrag | 450 1.689,   80
        """,
        ("1420.00", "269.80", "1689.80"),
    ),
    "a VAT id is no tax": (
        """
        50,100 VAT 123.456.789
        300,200 Net | 450 80.00
        300,214 VAT 20% | 450 16.00
        300,228 Total | 450 96.00
        """,
        ("80.00", "16.00", "96.00"),
    ),
    "each rate adds up, but the invoice is all of them": (
        """
        300,200 Netto 7 % | 450 100,00
        300,214 USt 7 % | 450 7,00
        300,228 Brutto 7 % | 450 107,00
        300,242 Netto 19 % | 450 200,00
        300,256 USt 19 % | 450 38,00
        300,270 Brutto 19 % | 450 238,00
        300,284 Summe Netto | 450 300,00
        300,298 Summe USt | 450 45,00
        300,312 Summe Brutto | 450 345,00
        """,
        ("300.00", "45.00", "345.00"),
    ),
    "columns without labels in their rows": (
        """
        50,200 Nettobetrag | 150 MwSt-Betrag | 250 MwSt-% | 350 Endbetrag
        50,214 4,85 | 150 0,92 | 250 19,0 | 350 5,77
        50,228 2,82 | 150 0,20 | 250 7,0 | 350 3,02
        50,242 7,67 | 150 1,12 | 350 8,79
        """,
        ("7.67", "1.12", "8.79"),
    ),
    "a discount under the subtotal": (
        """
        300,200 Zwischensumme | 450 200,00 €
        300,214 Rabatt 10 % | 450 -20,00 €
        300,228 MwSt. 19 % | 450 34,20 €
        300,242 Gesamtbetrag | 450 214,20 €
        """,
        ("180.00", "34.20", "214.20"),
    ),
    "a tax that the total includes": (
        """
        300,200 Total | 450 CHF 107.70
        300,214 incl. 7.7% VAT | 450 CHF 7.70
        """,
        ("100.00", "7.70", "107.70"),
    ),
    "a credit note has its minus": (
        """
        300,200 Total HT | 450 -218,48 €
        300,214 Total taxes | 450 -14,99 €
        300,228 Total TTC | 450 -233,47 €
        """,
        ("-218.48", "-14.99", "-233.47"),
    ),
    "a minus behind": (
        """
        300,200 Nettobetrag | 450 100,00-
        300,214 19 % MwSt. | 450 19,00-
        300,228 Gutschriftsbetrag | 450 119,00-
        """,
        ("-100.00", "-19.00", "-119.00"),
    ),
    "a part is paid": (
        """
        300,200 Gesamtbetrag Netto | 450 121,50 €
        300,214 Umsatzsteuer (19,00 %) | 450 23,09 €
        300,228 Gesamtbetrag Brutto | 450 144,59 €
        300,242 Vorausbezahlter Betrag | 450 10,00 €
        300,256 Offener Betrag | 450 134,59 €
        """,
        ("121.50", "23.09", "144.59"),
    ),
    "no tax at all": (
        """
        300,200 Gesamtbetrag Netto | 450 14,90 €
        300,214 Gesamtbetrag Brutto | 450 14,90 €
        50,240 Gemäß § 19 UStG wird keine Umsatzsteuer berechnet.
        """,
        ("14.90", None, "14.90"),
    ),
    "what doesn't add up is left out": (
        """
        300,200 Netto | 450 1.420,00
        300,214 USt. 19 % | 450 269,80
        300,228 Rechnungsbetrag | 450 1.589,80
        """,
        (None, None, None),
    ),
    "a part that adds up is not the whole": (
        """
        300,200 Netto 7 % | 450 100,00
        300,214 USt 7 % | 450 7,00
        300,228 Brutto 7 % | 450 107,00
        300,242 Gesamtbetrag | 450 350,00
        """,
        (None, None, None),
    ),
    "two totals and nothing that decides": (
        """
        300,200 Total | 450 100.00
        300,214 Total | 450 150.00
        """,
        (None, None, None),
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_what_adds_up_is_given(tmp_path: Path, name: str) -> None:
    """The labels propose, the sum decides; nothing is given where nothing adds up."""
    texts, (net, tax, total) = SUMS[name]
    draw(tmp_path / "a.pdf", "50,60 Rechnung Nr. 7\n" + texts)
    found = read(tmp_path / "a.pdf")
    assert (found.net, found.tax, found.total) == (net, tax, total)


def test_what_is_left_to_pay_is_told(tmp_path: Path) -> None:
    """`payable` is given where the page says what makes the difference to the total, and only there."""
    texts = SUMS["a part is paid"][0]
    draw(tmp_path / "a.pdf", texts)
    assert read(tmp_path / "a.pdf").payable == "134.59"
    draw(tmp_path / "a.pdf", texts.replace("134,59", "133,59"))
    assert read(tmp_path / "a.pdf").payable is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(net=st.integers(1, 10**7), tax=st.integers(1, 10**7), total=st.integers(1, 10**7))
def test_amounts_that_do_not_add_up_are_never_given_together(tmp_path: Path, net: int, tax: int, total: int) -> None:
    """Whatever three amounts are labelled net, tax and total: given together, they add up."""
    rows = zip((200, 214, 228), ("Net", "VAT", "Total"), (net, tax, total), strict=True)
    draw(tmp_path / "a.pdf", "\n".join(f"300,{y} {label} | 450 {Decimal(cents) / 100:.2f}" for y, label, cents in rows))
    found = read(tmp_path / "a.pdf")
    if found.net and found.tax and found.total:
        assert Decimal(found.net) + Decimal(found.tax) == Decimal(found.total)
