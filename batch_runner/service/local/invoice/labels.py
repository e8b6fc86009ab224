"""What stands before the fields of an invoice, by language. Where several labels fit at a place, the longest holds."""

from __future__ import annotations

import re
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


_LABELS = {
    "number": (
        "invoice number|invoice no|invoice num|invoice nr|invoice id|invoice #|invoice|tax invoice|inv no",
        "bill number",
        "rechnungsnummer|rechnungs-nr|rechnungsnr|rechnung nr|rechnung nummer|rechnung|beleg-nr|belegnummer",
        "numéro de facture|n° de facture|nº de facture|facture n°|facture nº|facture no|facture numéro",
        "facture",
        "número de factura|n.º de factura|nº de factura|nº factura|factura nº|factura n.º|factura núm",
        "factura número|factura",
        "numero fattura|fattura n|fattura nr|fattura n°|fattura numero|n. fattura|fattura",
        "factuurnummer|factuurnr|factuur nr|factuur",
        "numer faktury|nr faktury|faktura vat nr|faktura nr|faktura vat|faktura",
        "número da fatura|fatura nº|fatura n.º|fatura|fakturanummer|faktura č|číslo faktury",
        "請求書番号|請求番号|発票号码|发票号码|发票号|發票號碼",
    ),
    "invoice_date": (
        "invoice date|date of invoice|date of issue|issue date|date issued|issued on|issued|tax point|date",
        "dated",
        "rechnungsdatum|ausstellungsdatum|belegdatum|datum",
        "date de facturation|date de facture|date d'émission|date d’émission|date de la facture|émise le",
        "fecha de factura|fecha de emisión|fecha de expedición|fecha",
        "data fattura|data di emissione|data emissione|data",
        "factuurdatum|data wystawienia|data faktury|data da fatura|data de emissão|fakturadatum",
        "datum vystavení",
        "請求日|発行日|請求書発行日|开票日期|開票日期|日期",
    ),
    "due_date": (
        "due date|payment due by|payment due|due by|due on|pay by|please pay by|due",
        "fälligkeitsdatum|fällig am|zahlbar bis zum|zahlbar bis|zahlungsziel|fälligkeit",
        "date d'échéance|date d’échéance|échéance|à payer avant le|à régler avant le|payable le",
        "fecha de vencimiento|vencimiento|pagar antes del",
        "data di scadenza|scadenza pagamento|scadenza|scade il",
        "vervaldatum|uiterste betaaldatum|te betalen voor|betalen vóór|betalen voor",
        "termin płatności|termin zapłaty|płatne do|data de vencimento|data vencimento|förfallodatum",
        "datum splatnosti",
        "お支払期限|支払期限|支払期日|お支払期日|付款日期|到期日",
    ),
    "seller": (
        "seller|vendor|supplier|from|verkäufer|lieferant|rechnungssteller|vendeur|fournisseur|émetteur",
        "vendedor|emisor",
        "proveedor|venditore|fornitore|cedente|verkoper|leverancier|sprzedawca|fornecedor|dodavatel|発行者|販売者",
        "销售方",
    ),
    "net": (
        "subtotal|sub-total|sub total|net total|total net|net amount|net|total excl. vat|total excluding vat",
        "total before tax",
        "zwischensumme|nettobetrag|summe netto|gesamt netto|netto|rechnungsbetrag netto",
        "total ht|montant ht|sous-total|total hors taxes|total hors tva|base imponible|total imponible",
        "imponibile|totale netto",
        "subtotaal|totaal excl. btw|totaal exclusief btw|bedrag excl. btw|wartość netto|suma netto",
        "razem netto|kwota netto",
        "小計|税抜金額|税抜合計|不含税金额|valor líquido|základ daně",
    ),
    "tax": (
        "total vat|vat amount|vat|sales tax|tax total|total tax|tax amount|tax|gst|hst|qst|pst",
        "mehrwertsteuer|umsatzsteuer|mwst|mwst.|ust|ust.|steuerbetrag|montant tva|total tva|tva",
        "cuota de iva|cuota iva|importe iva|iva|i.v.a.|importo iva|totale iva|btw|btw-bedrag|kwota vat",
        "suma vat|podatek vat",
        "消費税額|消費税|消費税等|税额|dph|moms",
    ),
    "total": (
        "total due|amount due|balance due|grand total|invoice total|total amount due|total amount",
        "total payable|total",
        "total incl. vat|total including vat|amount payable",
        "gesamtbetrag|rechnungsbetrag|gesamtsumme|endbetrag|gesamt|zu zahlen|zahlbetrag|bruttobetrag",
        "summe brutto|brutto",
        "total ttc|montant ttc|net à payer|total à payer|montant à payer|total a pagar|total factura",
        "importe total",
        "totale da pagare|totale fattura|totale documento|totale|te betalen|totaal incl. btw",
        "totaal inclusief btw|totaal",
        "do zapłaty|razem do zapłaty|razem brutto|suma brutto|wartość brutto|kwota brutto|razem",
        "合計金額|ご請求金額|請求金額|税込合計|合計|价税合计|含税金额|total geral|att betala|celkem k úhradě|celkem",
    ),
    # These only keep the labels above from being seen in them.
    "": (
        "vat number|vat no|vat reg no|vat reg. no|vat registration number|vat registration|vat id|tax id",
        "tax number|tax no|gst no",
        "ust-idnr|ust-id|ust-id-nr|ust.-idnr|steuernummer|steuer-nr|n° tva|nº tva|tva intracommunautaire|nif",
        "cif|p. iva|p.iva",
        "partita iva|btw-nummer|btw-nr|btw nr|vat-id|nip|gst registration|ein|abn|delivery date",
        "date of supply|leistungsdatum",
        "lieferdatum|date de livraison|fecha de entrega|data sprzedaży|leverdatum|order date|order number",
        "customer number",
        "cena netto|unit price|kundennummer|invoice to|invoice address|rechnung an|facture à|facturar a",
        "fattura a|factuur aan",
        "from date|net 30|net 14|net 60|30 days net|due upon receipt|netto kasse|登録番号|nettogewicht",
        "total weight|total hours",
    ),
}

_FIELD_OF = {label: field for field, rows in _LABELS.items() for row in rows for label in row.split("|")}


_CJK = "\u2e80"
"""From here on there are scripts without blanks between words."""


def _rest_pattern(label: str) -> str:
    """All but the label's first character: any run of blanks for a blank, and no end inside a word."""
    after = r"(?!\w)" if label[-1].isalnum() and label[-1] < _CJK else ""
    return re.escape(label[1:]).replace(r"\ ", r"\s+") + after


def _any_of(labels: Iterable[str]) -> str:
    """A pattern for the longest of the labels; sorted by their first characters it is ten times as fast."""
    longest_first = sorted(labels, key=lambda label: (label[0], -len(label)))
    groups = groupby(longest_first, key=itemgetter(0))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(map(_rest_pattern, group))})" for first, group in groups)


_WORDS = _any_of(label for label in _FIELD_OF if label[0] < _CJK)
_SIGNS = _any_of(label for label in _FIELD_OF if label[0] >= _CJK)

LABEL = re.compile(rf"(?<!\w)(?:{_WORDS})|{_SIGNS}", re.IGNORECASE)
"""Finds the longest label at the first place where there is one."""

TITLE = re.compile(
    r"(?:tax |vat |pro forma )?invoice|rechnung|facture|factura|fattura|factuur|faktura(?: vat)?|fatura|"
    r"(?:御)?請\s?求\s?書|发票|增值税发票|original|duplicate|kopie|copy|page \d.*|seite \d.*",
    re.IGNORECASE,
)
"""What can stand first on an invoice without being its seller's name."""


def field_of(label: str) -> str:
    """The field that a found label stands for; empty if it is none of ours."""
    return _FIELD_OF[re.sub(r"\s+", " ", label.casefold())]
