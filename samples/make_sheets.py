"""Writes the sample sheets: invoices.xlsx, invoices.csv and problems.xlsx, as a bookkeeper would keep them.

python samples/make_sheets.py [FOLDER]
"""

from __future__ import annotations

import csv
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.table import Table, TableStyleInfo

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

HERE = Path(__file__).parent
COLUMNS = ("Id", "Received", "Supplier", "File Name", "Operation", "Amount", "Due", "Status")
WIDTHS = (9, 13, 30, 48, 16, 16, 13, 12)
MONEY = {
    "EUR": '#,##0.00\\ "€"',
    "GBP": '"£"#,##0.00',
    "USD": "[$$-409]#,##0.00",
    "JPY": "[$¥-411]#,##0",
    "PLN": '#,##0.00\\ "zł"',
    "CHF": '"CHF"\\ #,##0.00',
    "CAD": '"CAD"\\ #,##0.00',
    "NOK": '"NOK"\\ #,##0.00',
}
TITLE_ROW, HEADER_ROW = 1, 3


class Entry(NamedTuple):
    """One invoice that has come in."""

    received: date
    supplier: str
    file: str
    operation: str
    amount: float
    currency: str
    due: date
    status: str


def _day(month: int, day: int) -> date:
    return date(2026, month, day)


FIELDS, TEXT = "extract_fields", "extract_text"
ENTRIES = (
    Entry(_day(1, 19), "Harbour Paper Ltd", "harbour-paper-2026-0117", FIELDS, 337.20, "GBP", _day(2, 16), "paid"),
    Entry(_day(2, 2), "Stadtwerke Neuburg", "stadtwerke-neuburg-900417", FIELDS, 5923.06, "EUR", _day(2, 14), "paid"),
    Entry(_day(2, 5), "Prairie Tool & Supply", "prairie-tools-10482", FIELDS, 1598.56, "USD", _day(3, 5), "approved"),
    Entry(_day(2, 10), "Weber Metallbau", "weber-metallbau-2026-0042", FIELDS, 3522.40, "EUR", _day(2, 23), "paid"),
    Entry(_day(2, 13), "Atelier Moreau", "atelier-moreau-F2026-031", FIELDS, 1499.88, "EUR", _day(3, 14), "approved"),
    Entry(_day(2, 16), "Maple Data Services", "maple-data-0099", TEXT, 1566.75, "CAD", _day(3, 16), "approved"),
    Entry(_day(2, 20), "Bloemen De Vries", "bloemen-de-vries-20260033", FIELDS, 580.75, "EUR", _day(3, 5), "approved"),
    Entry(_day(2, 23), "Drukarnia Wisła", "drukarnia-wisla-FV-2026-02-015", FIELDS, 4784.70, "PLN", _day(3, 6), "open"),
    Entry(_day(3, 2), "Alpenblick Reinigung", "alpenblick-ag-2026-2207", FIELDS, 5065.57, "CHF", _day(3, 29), "open"),
    Entry(_day(3, 2), "Officina Bianchi", "officina-bianchi-54", FIELDS, 1323.94, "EUR", _day(3, 30), "open"),
    Entry(_day(3, 3), "さくら商事", "sakura-shoji-INV-000318", FIELDS, 93060, "JPY", _day(3, 31), "open"),
    Entry(_day(3, 4), "Feinkost Bauer", "feinkost-bauer-77", TEXT, 420.72, "EUR", _day(3, 17), "open"),
    Entry(_day(3, 6), "Aceites del Sur", "aceites-del-sur-2026-A-118", FIELDS, 2985.18, "EUR", _day(4, 4), "open"),
    Entry(_day(3, 9), "Fjord Kaffebrenneri", "fjord-kaffe-2026-611", FIELDS, 46105.00, "NOK", _day(4, 5), "disputed"),
)

PROBLEMS = (
    ("a good one, to compare", "invoices/harbour-paper-2026-0117.pdf", FIELDS),
    ("there is no such file", "invoices/harbour-paper-2026-0118.pdf", FIELDS),
    ("needs a password", "invoices/problems/encrypted.pdf", FIELDS),
    ("half of it is missing", "invoices/problems/broken.pdf", FIELDS),
    ("0 bytes", "invoices/problems/empty.pdf", TEXT),
    ("a scan, no text", "invoices/problems/scan.pdf", TEXT),
    ("a letter with the wrong ending", "invoices/problems/letter.pdf", TEXT),
    ("out of the folder", "../pyproject.toml", TEXT),
    ("an absolute path", "/etc/hostname", TEXT),
    ("the lookup found nothing", "#N/A", FIELDS),
    ("a typing error", "invoices/maple-data-0099.pdf", "extract_txt"),
)


def write_invoices(path: Path) -> None:
    """A title, and under it an Excel table with filter buttons."""
    book, sheet = _new("Invoices")
    sheet.cell(TITLE_ROW, 1, "Invoices received, first quarter of 2026").font = Font(size=14, bold=True)
    _header(sheet, COLUMNS, WIDTHS)
    for number, entry in enumerate(ENTRIES, 1):
        row = HEADER_ROW + number
        sheet.append(_values(number, entry))
        sheet.cell(row, 1).number_format = "00000"
        sheet.cell(row, 2).number_format = sheet.cell(row, 7).number_format = "dd/mm/yyyy"
        sheet.cell(row, 6).number_format = MONEY[entry.currency]
    _table(sheet, "Invoices", len(COLUMNS), len(ENTRIES))
    book.save(path)


def write_csv(path: Path) -> None:
    """The same without the column Status, as an export for another program."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS[:-1])
        for number, entry in enumerate(ENTRIES, 1):
            _, received, *middle, amount, due, _ = _values(number, entry)
            decimals = 0 if entry.currency == "JPY" else 2
            rows.writerow([f"{number:05}", received, *middle, f"{amount:.{decimals}f}", due])


def write_problems(path: Path) -> None:
    """One row for each thing that can be wrong with an invoice's file."""
    book, sheet = _new("Problems")
    sheet.cell(TITLE_ROW, 1, "Invoices that could not be processed").font = Font(size=14, bold=True)
    _header(sheet, ("Id", "Remark", "File Name", "Operation"), (9, 32, 44, 16))
    for number, (remark, file, operation) in enumerate(PROBLEMS, 1):
        row = HEADER_ROW + number
        sheet.append((900 + number, remark, file, operation))
        sheet.cell(row, 1).number_format = "00000"
    _table(sheet, "Problems", 4, len(PROBLEMS))
    book.save(path)


def _values(number: int, entry: Entry) -> tuple[int, date, str, str, str, float, date, str]:
    file = f"invoices/{entry.file}.pdf"
    return (
        number, entry.received, entry.supplier, file, entry.operation, entry.amount, entry.due, entry.status
    )  # fmt: skip


def _new(title: str) -> tuple[Workbook, Worksheet]:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = title
    return book, sheet


def _header(sheet: Worksheet, columns: tuple[str, ...], widths: tuple[int, ...]) -> None:
    for column, (name, width) in enumerate(zip(columns, widths, strict=True), 1):
        sheet.cell(HEADER_ROW, column, name).alignment = Alignment(vertical="center")
        sheet.column_dimensions[get_column_letter(column)].width = width
    sheet.row_dimensions[HEADER_ROW].height = 20
    sheet.freeze_panes = f"A{HEADER_ROW + 1}"


def _table(sheet: Worksheet, name: str, columns: int, rows: int) -> None:
    table = Table(displayName=name, ref=f"A{HEADER_ROW}:{get_column_letter(columns)}{HEADER_ROW + rows}")
    table.tableStyleInfo = TableStyleInfo(name="TableStyleMedium2", showRowStripes=True)
    sheet.add_table(table)


def make(folder: Path) -> None:
    """Write all sample sheets into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_invoices(folder / "invoices.xlsx")
    write_csv(folder / "invoices.csv")
    write_problems(folder / "problems.xlsx")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
