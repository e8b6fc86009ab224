"""Measures the task `invoice` over public invoices: python tests/support/measure_invoices.py [FOLDER] [--fetch]

Without FOLDER it is the one that the environment variable BATCH_RUNNER_COLLECTIONS names. `--fetch` clones the
collections into it first. What the XML within the PDFs says is the truth, read here in a way of its own. A value counts
for a page only where the page shows it: some pages show another invoice than their XML. The rules were built on one
half of the collections; the other half only measures. Pages that both have count for the first alone.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from batch_runner.service.local.context import Context
from batch_runner.service.local.invoice import invoice
from batch_runner.service.local.invoice.fields import fields_of
from batch_runner.service.local.invoice.pdf import opened
from batch_runner.service.local.result import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILT_ON = ("ZUGFeRD/corpus", "ahelmberger/factur-x-kit", "invoice-x/invoice2data", "thomasIemaire/sardine")
MEASURED = ("stephanstapel/ZUGFeRD-csharp", "VALENTINDML/facturx-cas-limites")

FOLDER_VARIABLE = "BATCH_RUNNER_COLLECTIONS"

AMOUNTS = ("net", "tax", "total")
_SUMS = ("SpecifiedTradeSettlementHeaderMonetarySummation", "SpecifiedTradeSettlementMonetarySummation")
_PATHS = {
    "number": ("{*}ExchangedDocument/{*}ID", "{*}HeaderExchangedDocument/{*}ID"),
    "invoice_date": (".//{*}IssueDateTime/{*}DateTimeString",),
    "due_date": (".//{*}DueDateDateTime/{*}DateTimeString",),
    "seller": (".//{*}SellerTradeParty/{*}Name",),
    "currency": (".//{*}InvoiceCurrencyCode",),
    "net": tuple(f".//{{*}}{sums}/{{*}}TaxBasisTotalAmount" for sums in _SUMS),
    "tax": tuple(f".//{{*}}{sums}/{{*}}TaxTotalAmount" for sums in _SUMS),
    "total": tuple(f".//{{*}}{sums}/{{*}}GrandTotalAmount" for sums in _SUMS),
}


def truth_of(path: Path) -> dict[str, str]:
    """What the XML within a PDF says; empty where there is none that is an invoice."""
    try:
        attached = [
            content
            for name, contents in PdfReader(path).attachments.items()
            if name.lower().endswith(".xml")
            for content in contents
        ]
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, OSError):
        return {}
    for content in attached:
        try:
            root = ET.fromstring(content)
        except ET.ParseError:
            continue
        if root.tag.endswith(("}CrossIndustryInvoice", "}CrossIndustryDocument")):
            found = {field: _found(root, paths) for field, paths in _PATHS.items()}
            return {field: text for field, text in found.items() if text}
    return {}


def _found(root: ET.Element, paths: tuple[str, ...]) -> str:
    for path in paths:
        elements = [element for element in root.iterfind(path) if (element.text or "").strip()]
        if elements:
            code = root.findtext(".//{*}InvoiceCurrencyCode")
            own = [element for element in elements if element.get("currencyID") == code]
            text = " ".join("".join((own or elements)[0].itertext()).split())
            is_date = re.fullmatch(r"\d{8}", text) and "Date" in path
            return f"{text[:4]}-{text[4:6]}-{text[6:]}" if is_date else text
    return ""


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def is_same(field: str, one: str, other: str) -> bool:
    """Amounts by their value without the sign's convention of credit notes, all else by letters and figures."""
    if field in AMOUNTS:
        try:
            return abs(Decimal(one)) == abs(Decimal(other))
        except InvalidOperation:
            return False
    return _letters(one) == _letters(other)


def is_shown(field: str, value: str, text: str) -> bool:
    """Whether a page shows a value in any of the usual ways."""
    flat = _letters(text)
    if field in AMOUNTS:
        whole, _, decimals = f"{abs(Decimal(value)):.2f}".partition(".")
        return whole + decimals in flat or (decimals == "00" and whole in flat)
    if field.endswith("date"):
        year, month, day = value.split("-")
        return any(form in flat for form in (year + month + day, day + month + year, month + day + year)) or (
            year in flat and str(int(day)) in flat
        )
    return field == "currency" or _letters(value) in flat


def invoices(folder: Path, names: tuple[str, ...], seen: set[str]) -> Iterator[tuple[Path, dict[str, str], str]]:
    """Every PDF with XML whose pages weren't seen yet: its truth and its text."""
    for name in names:
        for path in sorted((folder / name.replace("/", "+")).rglob("*.pdf")):
            if path.is_file() and (truth := truth_of(path)):
                try:
                    with opened(path) as document:
                        text = "\n".join(page.text for page in document.pages())
                except TaskFailed:
                    text = ""
                if (key := text + repr(truth)) not in seen:
                    seen.add(key)
                    yield path, truth, text


def measure(folder: Path, names: tuple[str, ...], seen: set[str]) -> dict[str, Counter[str]]:
    """Counts of `right`, `wrong`, `missing` and `amounts`, with XML and by the pages only."""
    counts = {"xml": Counter[str](), "page": Counter[str]()}
    times = []
    for path, truth, text in invoices(folder, names, seen):
        started = time.process_time()
        try:
            by_xml = invoice(path.name, "extract_fields", context=Context("run_1", "session_1", str(path.parent)))
        except TaskFailed:
            by_xml = {}
        times.append(time.process_time() - started)
        try:
            with opened(path) as document:
                fields = fields_of(document.pages())
            by_page = {field: getattr(fields, field) for field in truth}
        except TaskFailed:
            by_page = {}
        for way, found in (("xml", by_xml), ("page", by_page)):
            for field, value in truth.items():
                if way == "page" and not is_shown(field, value, text):
                    continue
                said = found.get(field)
                verdict = "missing" if said is None else "right" if is_same(field, value, said) else "wrong"
                counts[way][verdict] += 1
                counts[way]["amounts"] += field in AMOUNTS and said is not None
                counts[way]["wrong amounts"] += field in AMOUNTS and verdict == "wrong"
                if verdict == "wrong":
                    print(f"  {way}: {path.name}: {field} is {value}, not {said}")
    counts["xml"]["ms"] = round(1000 * sorted(times)[len(times) // 2]) if times else 0
    return counts


def recall_and_precision(counts: Counter[str]) -> tuple[float, float]:
    """Of all values how many are right, and of those given."""
    given = counts["right"] + counts["wrong"]
    return counts["right"] / max(given + counts["missing"], 1), counts["right"] / max(given, 1)


def fetch(folder: Path) -> None:
    """Clone what isn't there yet."""
    for name in (*BUILT_ON, *MEASURED):
        place = folder / name.replace("/", "+")
        if not place.exists():
            subprocess.run(["git", "clone", "--depth", "1", f"https://github.com/{name}", str(place)], check=True)


def main() -> None:
    """Print a table of both halves."""
    named = [argument for argument in sys.argv[1:] if argument != "--fetch"] or [os.environ.get(FOLDER_VARIABLE, "")]
    if not named[0]:
        sys.exit(f"Name the folder of the collections, as an argument or in {FOLDER_VARIABLE}.")
    folder = Path(named[0])
    logging.disable(logging.CRITICAL)
    if "--fetch" in sys.argv:
        fetch(folder)
    seen: set[str] = set()
    for title, names in (("built on", BUILT_ON), ("measured", MEASURED)):
        counts = measure(folder, names, seen)
        for way, found in counts.items():
            recall, precision = recall_and_precision(found)
            print(f"{title:9} {way:5} recall {recall:.1%} precision {precision:.1%}", dict(found))


if __name__ == "__main__":
    main()
