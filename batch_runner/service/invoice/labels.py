"""What stands before the fields of an invoice, by language. Where several labels fit at a place, the longest holds."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LABELS = {
    # A label that says what it stands for, in the languages en, de, fr, es, it, nl, pl, pt, cs, sv, da, nb, ja, zh.
    "number": (
        "invoice number|invoice no|invoice num|invoice nr|invoice id|invoice #|invoice reference|tax invoice no|inv no",
        "tax invoice number|tax invoice #|bill number|bill no|credit note number|credit note no|credit note #",
        "credit memo number|credit memo no|document number|document no",
        "rechnungsnummer|rechnungs-nr|rechnungsnr|rechnungs nr|rechnung nr|rechnung nummer|rechnung-nr|beleg-nr",
        "belegnummer|beleg nr|belegnr|handelsrechnung nr|gutschriftsnummer|gutschrift nr|gutschrift-nr|gutschriftnummer",
        "rechnungskorrektur nr|korrekturrechnung nr|stornorechnung nr|storno nr|dokumentnummer|rg-nr|rg.-nr|re-nr",
        "teilrechnung nr|abschlagsrechnung nr|schlussrechnung nr|rechnung #|faktura nr|fakturanr|fakturanummer",
        "numéro de facture|n° de facture|nº de facture|no de facture|facture n°|facture nº|facture no|facture numéro",
        "n° facture|nº facture|numéro facture|avoir n°|avoir nº|n° d'avoir|numéro d'avoir|facture d'avoir n°",
        "n° de l'avoir|numéro de l'avoir|n° avoir|facture num|référence facture|réf. facture|facture #",
        "número de factura|n.º de factura|nº de factura|n° de factura|nº factura|n° factura|factura nº|factura n.º",
        "factura número|factura núm|factura n°|num. factura|núm. factura|factura no|nota de crédito nº|abono nº",
        "numero fattura|fattura n|fattura nr|fattura n°|fattura numero|n. fattura|n° fattura|nr. fattura|fattura nº",
        "nota di credito n|nota di credito n°|numero documento",
        "factuurnummer|factuurnr|factuur nr|factuur nummer|factuur-nr|creditnotanummer|creditnota nr|creditfactuur nr",
        "numer faktury|nr faktury|faktura vat nr|faktura nr|faktura numer|faktura korygująca nr|faktura korygująca vat nr",
        "número da fatura|nº da fatura|fatura nº|fatura n.º|fatura n°|número da factura|nota de crédito n.º",
        "faktura č|číslo faktury|faktura číslo|č. faktury|číslo dokladu|doklad č|daňový doklad č|faktura - daňový doklad č",
        "faktura-nr|fakturanr|kreditnota nr|kreditnotanr|kreditnummer|kreditfaktura nr|fakturans nummer",
        "請求書番号|請求番号|請求書no|発票号码|发票号码|发票号|發票號碼",
    ),
    # A title that the number follows directly.
    "titled": (
        "tax invoice|commercial invoice|proforma invoice|invoice|credit note|credit memo|bill",
        "rechnung|handelsrechnung|gutschrift|rechnungskorrektur|korrekturrechnung|stornorechnung|teilrechnung",
        "abschlagsrechnung|schlussrechnung|facture|facture d'avoir|avoir|factura|factura rectificativa|fattura",
        "nota di credito|factuur|creditnota|creditfactuur|faktura|faktura vat|faktura korygująca|fatura|kreditnota",
        "kreditfaktura|faktura - daňový doklad",
    ),
    "invoice_date": (
        "invoice date|date of invoice|date of issue|issue date|date issued|issued on|issued|bill date|credit note date",
        "invoice issue date|document date",
        "rechnungsdatum|ausstellungsdatum|belegdatum|datum der rechnung|rechnungs-datum|beleg-datum|gutschriftsdatum",
        "rechnung datum|ausgestellt am|dokumentdatum",
        "date de facturation|date de facture|date facture|date d'émission|date de la facture|émise le|date de l'avoir",
        "date d'établissement|établie le|date du document|émis le|date avoir|date d'avoir",
        "fecha de factura|fecha de emisión|fecha de expedición|fecha factura|fecha de la factura|fecha emisión",
        "data fattura|data di emissione|data emissione|data documento|data della fattura",
        "factuurdatum|factuur datum|datum factuur|data wystawienia|data faktury|wystawiono dnia|data da fatura",
        "data de emissão|data da factura|fakturadatum|fakturadato|fakturans datum|faktura dato|utstedt|utskriftsdatum",
        "datum vystavení|datum faktury|vystaveno|vystaveno dne|datum vystavení dokladu",
        "請求日|発行日|請求書発行日|开票日期|開票日期",
    ),
    "date": ("date|datum|fecha|data|dato|日期",),
    "due_date": (
        "due date|payment due by|payment due date|payment due|due by|due on|pay by|please pay by|date due|due",
        "payable by|to be paid by|payment deadline|please remit until|please pay until|pay until|to be paid until|remit by",
        "fälligkeitsdatum|fällig am|fällig zum|zahlbar bis zum|zahlbar bis|zahlbar zum|zahlbar bis spätestens|spätestens bis|überweisen sie bis zum|bis zum|zahlungsziel|fälligkeit|zahlbar am",
        "fällig|zu zahlen bis|fällig bis|zahlungsfrist|zahlungstermin|bitte zahlen sie bis|bitte überweisen sie bis zum",
        "zahlbar netto bis zum|zahlbar ohne abzug bis zum|zahlbar ohne abzug bis|zahlungseingang bis zum|netto bis",
        "date d'échéance|échéance|à payer avant le|à régler avant le|payable le|date limite de paiement",
        "date échéance|à régler le|payable avant le|échéance le|à payer pour le|date de règlement|paiement avant le",
        "à échéance du|échéance au|date limite de règlement",
        "fecha de vencimiento|vencimiento|pagar antes del|fecha vencimiento|fecha límite de pago|vence el",
        "data di scadenza|scadenza pagamento|scadenza|scade il|data scadenza|pagamento entro il|da pagare entro il",
        "vervaldatum|uiterste betaaldatum|te betalen voor|betalen vóór|betalen voor|te betalen vóór|uiterlijk op",
        "te voldoen voor|betaaldatum|uiterste betaaldag",
        "termin płatności|termin zapłaty|płatne do|data de vencimento|data vencimento|vencimento|förfallodatum",
        "förfallodag|betalas senast|oss tillhanda senast|förfaller|betalingsfrist|forfaldsdato|forfallsdato|forfall",
        "betales senest|sidste rettidige betalingsdato|sidste betalingsdato|betalingsdato",
        "datum splatnosti|splatnost|splatné do|splatnost do",
        "お支払期限|支払期限|支払期日|お支払期日|付款日期|到期日",
    ),
    "order_number": (
        "order number|order no|order nr|order #|order id|purchase order number|purchase order no|purchase order|po number",
        "po no|po #|your order|your order no|your order number|customer order|customer po|p.o. number|po",
        "customer order number|order reference",
        "bestellnummer|bestell-nr|bestellnr|bestell nr|ihre bestellung|ihre bestellnummer|bestellung|ihre bestellung nr",
        "bestellung nr|auftragsnummer des kunden|kundenbestellnummer|ihre bestell-nr",
        "numéro de commande|n° de commande|nº de commande|commande n°|votre commande|n° commande|bon de commande",
        "bon de commande n°|votre commande n°|n° de bon de commande|numéro du bon de commande|numéro de bon de commande",
        "número de pedido|nº de pedido|n.º de pedido|pedido nº|su pedido|nº pedido",
        "numero ordine|ordine n|ordine nr|vostro ordine|ordine d'acquisto|n. ordine",
        "bestelnummer|uw bestelnummer|ordernummer|ordernr|uw ordernummer|inkoopordernummer",
        "numer zamówienia|nr zamówienia|zamówienie nr|zamówienie|número da encomenda|nº da encomenda",
        "objednávka č|číslo objednávky|objednávka|ert ordernummer|er ordernummer|ordre nr|ordrenummer|ordrenr",
        "inköpsordernummer|beställningsnummer|deres ordrenr|rekvisitionsnummer|bestillingsnr|bestillingsnummer",
        "注文番号|発注番号|订单号",
    ),
    "seller": (
        "seller|vendor|supplier|from|sold by|billed by|bill from|invoice from|issued by|payee|service provider",
        "supplier name|seller name",
        "verkäufer|lieferant|rechnungssteller|rechnungsersteller|leistungserbringer|absender|rechnungsaussteller|auftragnehmer",
        "vendeur|fournisseur|émetteur|prestataire|émis par|facturé par|expéditeur",
        "vendedor|emisor|proveedor|emitido por|venditore|fornitore|cedente|cedente/prestatore|mittente|emittente",
        "verkoper|leverancier|afzender|sprzedawca|wystawca|dostawca|fornecedor|emitente|dodavatel|prodávající|säljare",
        "leverantör|sælger|leverandør|selger|avsändare|avsender|afsender|fra|发行者|発行者|販売者|销售方|請求元",
    ),
    "buyer": (
        "buyer|customer|bill to|billed to|invoice to|invoiced to|sold to|client|to|bill to address|billing address",
        "invoice address|customer name|billing to|purchaser|recipient|guest name|billing details",
        "käufer|kunde|rechnungsempfänger|rechnung an|käufer/leistungsempfänger|leistungsempfänger|auftraggeber|empfänger",
        "rechnungsadresse|rechnungsanschrift",
        "acheteur|facturé à|facture à|client facturé|destinataire|adressé à|adresse de facturation|nom du client",
        "cliente|comprador|facturar a|datos del cliente|facturado a|destinatario|acquirente|fattura a|spett.le|spettabile",
        "cessionario|cessionario/committente|committente|intestatario",
        "koper|klant|afnemer|factuuradres|factuur aan|klantgegevens|nabywca|kupujący|odbiorca|adquirente|odběratel",
        "kupující|kund|köpare|fakturaadress|faktureras till|kunde|køber|kjøper|faktura til|fakturaadresse|til",
        "請求先|购买方|購買方",
    ),
    # These only keep the labels above from being seen in them.
    "": (
        "vat number|vat no|vat reg no|vat reg. no|vat registration number|vat registration|vat id|tax id|tax number|tax no",
        "gst no|gst registration|ust-idnr|ust-id|ust-id-nr|ust.-idnr|steuernummer|steuer-nr|n° tva|nº tva|nif|cif|p. iva",
        "tva intracommunautaire|p.iva|partita iva|btw-nummer|btw-nr|btw nr|vat-id|nip|ein|abn|登録番号",
        "delivery date|date of supply|order date|date of order|ship date|shipping date|date of delivery|service date",
        "tax point|period|billing period|print date|date printed|payment date|statement date|date of birth|start date",
        "end date|from date|to date|date of payment|expiry date|due upon receipt|due immediately|due within",
        "leistungsdatum|lieferdatum|liefertermin|bestelldatum|auftragsdatum|druckdatum|buchungsdatum|datum der lieferung",
        "liefer-datum|lieferschein|lieferschein-nr|lieferscheinnummer|valutadatum|sofort fällig",
        "date de livraison|date de commande|date de la commande|date de prestation|date d'exécution|date de paiement",
        "date de valeur|date de naissance|date de vente|date de début|date de fin|date des prestations|date d'expédition",
        "fecha de entrega|fecha de pedido|fecha de operación|fecha del pedido|data ordine|data consegna|data di consegna",
        "data sprzedaży|data dostawy|data zamówienia|data zapłaty|data da encomenda|data de entrega|leverdatum|orderdatum",
        "besteldatum|leveringsdato|leveransdatum|orderdatum|ordredato|bestilt dato|datum zdanitelného plnění|duzp",
        "datum uskutečnění zdanitelného plnění|datum objednávky|datum dodání",
        "customer number|customer no|customer id|customer reference|customer ref|client number|client id|client no",
        "customer vat|customer vat id|customer service|client reference|account number",
        "kundennummer|kunden-nr|kundennr|kunde nr|kunden nr|n° client|numéro client|numéro de client|code client|réf client",
        "référence client|n° tva client|cliente nº|codice cliente|klantnummer|klantnr|numer klienta|kundnummer|kundnr",
        "kundenr|číslo zákazníka|order confirmation|auftrag nr|auftragsnummer|auftragsbestätigung",
        "invoice period|invoice total|invoice amount|invoice currency|invoice summary|invoice type|invoice line",
        "rechnungsbetrag|rechnungszeitraum|rechnungssumme|montant facture|total facture|total fattura|totale fattura",
        "from address|ship to|shipping address|delivery address|lieferadresse|lieferanschrift|warenempfänger",
        "livré à|adresse de livraison|afleveradres|leveringsadres|leveringsadresse|leveransadress|dirección de entrega",
        "vat invoice|tax invoice date",
    ),
}

_LEVEL_OF_FIELD = {"titled": "number", "date": "invoice_date"}

_FIELD_OF = {label: field for field, rows in _LABELS.items() for row in rows for label in row.split("|")}

_CJK = "\u2e80"
"""From here on there are scripts without blanks between words."""

_QUOTES = str.maketrans({"’": "'", "`": "'", "´": "'"})


def plain(text: str) -> str:
    """A text to look for labels in: one form of quotation mark, and as long as before."""
    return text.translate(_QUOTES)


def _rest_pattern(label: str) -> str:
    """All but the label's first character: one or more blanks for a blank, and no end inside a word."""
    after = r"(?!\w|-\S*\d)" if label[-1].isalnum() and label[-1] < _CJK else ""
    return re.escape(label[1:]).replace(r"\ ", r"\.?[ ]+") + after


def _any_of(labels: Iterable[str]) -> str:
    """A pattern for the longest of the labels; sorted by their first characters it is ten times as fast."""
    longest_first = sorted(labels, key=lambda label: (label[0], -len(label)))
    groups = groupby(longest_first, key=itemgetter(0))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(map(_rest_pattern, group))})" for first, group in groups)


_WORDS = _any_of(label for label in _FIELD_OF if label[0] < _CJK)
_SIGNS = _any_of(label for label in _FIELD_OF if label[0] >= _CJK)
_LABEL = re.compile(rf"(?<!\w)(?<!\w[-/&'])(?:{_WORDS})|{_SIGNS}", re.IGNORECASE)


class Label(NamedTuple):
    """A label in a text. A weak one (`Date`, `Invoice`) is a word that also stands elsewhere."""

    field: str
    start: int
    end: int
    is_weak: bool


def labels_in(text: str) -> Iterator[Label]:
    """All labels in a text, in order."""
    for match in _LABEL.finditer(plain(text)):
        label = match[0].casefold()
        field = _FIELD_OF[label if label in _FIELD_OF else re.sub(r"\.?[ ]+", " ", label)]
        yield Label(_LEVEL_OF_FIELD.get(field, field), match.start(), match.end(), field in _LEVEL_OF_FIELD)


Role = Literal["net", "tax", "total", "payable", "prepaid", "other", "gross or tax"]


def _words_of(*words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W\d_])(?:{'|'.join(words)})(?![^\W\d_])")


_TAX = r"(?:mwst|m\.?w\.?st|ust|u\.?st|vat|tva|t\.v\.a|iva|i\.v\.a|igic|btw|b\.t\.w|moms|mva|dph|ptu|gst|hst|pst|qst|tax(?:es)?|taxe|sst|mehrwert\w*|umsatzs\w*|\w*steuer\w*|steuerbetr\w*|steuersumme|omzetbelasting|impuesto|imposta|impôt|merverdiavgift)"
_OTHER = _words_of(
    r"\w*rabatte?\w*", r"nachlass\w*|nachlässe", r"\w*abschl[aä]ge?n?", r"\w*zuschl[aä]ge?n?", "zu-", "discounts?", "allowances?",
    "charges?", "shipping", "delivery", "postage", "versand\\w*", "fracht\\w*", "porto", "rounding", "rundung\\w*", "skonto\\w*",
    "remises?", "escompte", "frais", "port", "livraison", "arrondi", "descuento", "envío", "sconto", "spese", "trasporto",
    "korting", "verzend\\w*", "verzendkosten", "rabat\\w*", "fragt", "frakt", "öresavrundning", "afronding", "zaokrouhlení",
    "capital", "kapital", "stammkapital", "indemnité", "penalty", "mahn\\w*", "pénalités?", "quantity", "menge", "qty", "fee",
    r"\w*preis", "price", "prix", "prezzo", "prijs", "cena", "precio", "pris", "rate", "hours", "stunden", "credit limit",
    "tip", "deposit", "kaution", "caution", "pourboire", "trinkgeld", "saldo", "übertrag", "report", "carried forward", "weight",
    "gewicht", "poids", "line", "lines", "teilzahlung", "fälligkeit", "ratenzahlung", "previous balance", "withholding", "ritenuta",
    "irpf", "retención", "einbehalt", "sicherheitseinbehalt",
)  # fmt: skip
_PREPAID = _words_of(
    r"\w*anzahlung\w*", r"vorausz\w*", "vorausbezahlter?", "bereits gezahlt\\w*", "bereits bezahlt", "gezahlt", "prepaid", "paid",
    "amount paid", "payments?", "payment received", "acomptes?", "déjà payé", "déjà réglé", "déjà versé", "payé", "réglé", "versé",
    "anticipo", "pagado", "acconto", "pagato", "betaald", "vooruitbetaald", "aanbetaling", "zapłacono", "zaliczka", "záloha",
    "zaplaceno", "betalt", "betald", "abgerechnet\\w*", "erhalten\\w*", "teilzahlungen", "previous payments?", "credit applied",
)  # fmt: skip
_PAYABLE = _words_of(
    "zahlbetrag", "zu zahlen\\w*", "zahlungsbetrag", "zahlender betrag", "offener betrag", "noch zu zahlen", "fälliger betrag", "restbetrag", "amount due",
    "balance due", "due payable", "due amount", "total due", "amount payable", "total payable", "payable", "open amount", "due",
    "balance", "to pay", "outstanding", "net à payer", "reste à payer", "à payer", "solde\\w*", "montant dû", "restant dû", "reste dû", "a pagar",
    "da pagare", "netto a pagare", "te betalen", "te voldoen", "do zapłaty", "att betala", "at betale", "å betale", "til betaling", "betala",
    "k úhradě", "zbývá uhradit", "überweisungsbetrag", "forderungsbetrag", "auszahlungsbetrag", "請求金額", "ご請求金額", "お支払金額",
)  # fmt: skip
_NET = _words_of(
    r"\w*netto\w*", "net", "ht", r"h\.t\.?", "hors taxes?", "hors tva", "excl", "excl\\.", "exkl", "excluding", "exclusive", "exclusief", "exclusive of",
    "without", "before", "ohne", "subtotal", "sub-total", "sub total", "zwischensumme", "sous-total", "subtotaal", "subtotale", "sin",
    "base imponible", "base imposable", "base ht", "base", r"basis\w*", "imponibile", "grondslag", "taxable", "tax base", "základ",
    "assiette", "bemessungsgrundlage", "uden", "utan", "ekskl", "exklusive", "eksklusive", "bez", "líquido", "warenwert", "positionssumme", "steuerbar\\w*",
    "delsumma", "delsum", "mezisoučet", "suma częściowa", "小計", "税抜\\w*", "不含税\\w*",
)  # fmt: skip
_GROSS = _words_of(
    r"\w*brutto\w*", "gross", "ttc", r"t\.t\.c\.?", "toutes taxes comprises", "incl", "incl\\.", "inkl", "including", "inclusive", "inclusief", "inklusive",
    "after", "grand total", "lordo", "compris", "comprise", "inkludert", "s dph", "včetně", "iva incluid[ao]", "iva inclusa", "com iva",
    r"endbetrag\w*", "total general", "total geral", "endsumme", "税込\\w*", "含税\\w*", "价税合计", "rechnungsendbetrag",
)  # fmt: skip
_SUM = _words_of(
    "total\\w*", "totaal\\w*", "totaux", r"summe\w*", r"\w*summe", r"gesamt\w*", r"\w*betrag", r"\w*beitrag", "montant", "amount", "importe", "importo", "bedrag", "razem",
    "suma", "celkem", "sum", "i alt", "summa", "belopp", "beløb", "beløp", "wartość", "kwota", "valor", "somme", "合計\\w*", "金額", "合计",
)  # fmt: skip
_CONTAINED = _words_of(
    "darin", "davon", "enthaltene?n?", "dont", "waarvan", "di cui", "of which", "heraf", "herav", "varav", "included", "w tym", "z toho", "thereof", "hierin",
)  # fmt: skip
_TAXED = re.compile(rf"(?<![^\W\d_]){_TAX}(?![^\W\d_])|消費税|税额|税額")
_TAX_TOTAL = _words_of(
    rf"total (?:de (?:la )?)?{_TAX}", "steuerbetrag", "steuersumme", "montant (?:de la |de )?tva", r"\w*steuerbetrag", "tax amount", "vat amount", "tax total",
    "vat total", "cuota(?: de)? iva", "cuota", "importo iva", "totale iva", "btw[ -]bedrag", "kwota vat", "suma vat", "momsbelopp", "momsbeløb", "mva-beløp",
    "ust-betrag", r"ust\.?-betrag", r"mwst\.?-betrag", "total taxes", "total tva", "impuestos", "total iva", "消費税額",
)  # fmt: skip


@lru_cache(maxsize=4096)
def role_of(text: str) -> Role | None:
    """What an amount is that stands behind a label, or under it; None where the label says nothing of it.

    It goes by the words within: `Summe inkl. USt` is a total and no tax, `Total excl. VAT` is a net amount.
    """
    words = re.sub(r"\s+", " ", plain(text.casefold()).replace("(", " ").replace(")", " ").replace("*", " ")).strip()
    if not words or _is_number_label(words):
        return None
    has_tax, has_sum = _TAXED.search(words) is not None, _SUM.search(words) is not None
    has_net, has_gross = _NET.search(words) is not None, _GROSS.search(words) is not None
    if _PAYABLE.search(words):
        return "payable"
    if _OTHER.search(words):
        return "other"
    if _PREPAID.search(words):
        return "prepaid"
    if _CONTAINED.search(words) and has_tax:
        return "tax"
    if _TAX_TOTAL.search(words) and not has_gross:
        return "tax"
    if has_tax and has_gross:
        return "total" if has_sum or has_net or re.search("ttc|grand|brutto", words) else "gross or tax"
    if has_net and has_gross:
        return None
    if has_gross:
        return "total"
    if has_net:
        return "net"
    if has_tax:
        return "tax"
    return "total" if has_sum else None


def _is_number_label(words: str) -> bool:
    """A VAT id has digits, too."""
    return re.search(rf"{_TAX}[ .-]*(?:id|reg|nr|no|num|number|ident|intra|n°|nummer)(?![^\W\d_])|steuern|ust-?id", words) is not None
