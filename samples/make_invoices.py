"""Draws the sample invoices of invoices.toml into invoices/, and the PDFs with problems into invoices/problems/.

Run again, it writes the same bytes: pages aren't compressed, since not every zlib does that alike.
Needs reportlab (in the extra `test`): python samples/make_invoices.py [FOLDER]
"""

from __future__ import annotations

import sys
import tomllib
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, NamedTuple

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

HERE = Path(__file__).parent
WIDTH, HEIGHT = A4
LEFT, RIGHT, BOTTOM = 56, WIDTH - 56, 90
BOLD = {"Helvetica": "Helvetica-Bold", "Times-Roman": "Times-Bold", "Courier": "Courier-Bold"}
EASTERN_EUROPE = {
    0xA3: "Lslash", 0xA5: "Aogonek", 0xAF: "Zdotaccent", 0xB3: "lslash", 0xB9: "aogonek", 0xBF: "zdotaccent",
    0x8C: "Sacute", 0x8F: "Zacute", 0x9C: "sacute", 0x9F: "zacute", 0xC6: "Cacute", 0xCA: "Eogonek", 0xD1: "Nacute",
    0xE6: "cacute", 0xEA: "eogonek", 0xF1: "nacute",
}  # fmt: skip
"""Where cp1250 differs from the encoding that PDF knows as WinAnsi, as far as Polish needs it."""


class Money(NamedTuple):
    """How a seller writes amounts."""

    form: str
    group: str
    point: str
    decimals: int

    def rounded(self, amount: Decimal) -> Decimal:
        return amount.quantize(Decimal(1).scaleb(-self.decimals), ROUND_HALF_UP)

    def text(self, amount: Decimal) -> str:
        whole, _, decimals = f"{self.rounded(amount):,}".partition(".")
        return self.form.format(whole.replace(",", self.group) + (self.point + decimals if decimals else ""))


class Line(NamedTuple):
    """One line of an invoice."""

    description: str
    quantity: int
    price: Decimal

    @property
    def amount(self) -> Decimal:
        return self.quantity * self.price


class Invoice:
    """An invoice as its table in invoices.toml describes it."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table
        self.money = Money(*table["money"])
        self.lines = [Line(text, quantity, Decimal(price)) for text, quantity, price in _lines(table)]

    @property
    def net(self) -> Decimal:
        return sum((self.money.rounded(line.amount) for line in self.lines), Decimal())

    @property
    def totals(self) -> list[tuple[str, str]]:
        """The labels and amounts under the lines; the last one is what has to be paid."""
        taxes = [
            (label, self.money.rounded(self.net * Decimal(str(rate)) / 100)) for label, rate in self.table["taxes"]
        ]
        total = self.net + sum((amount for _, amount in taxes), Decimal())
        amounts = [(self.table["net"], self.net), *taxes, (self.table["total"], total)]
        return [(label, self.money.text(amount)) for label, amount in amounts]


def _lines(table: dict[str, Any]) -> list[list[Any]]:
    if "repeat" not in table:
        return list(table["lines"])
    text, times, quantity, price = table["repeat"]
    return [[text.format(number), quantity + number, price] for number in range(1, times + 1)]


class Sheet:
    """The pages of one invoice, with a pen that moves down."""

    def __init__(self, path: Path, font: str, encrypt: str | None = None) -> None:
        self.canvas = Canvas(str(path), pagesize=A4, invariant=1, pageCompression=0, encrypt=encrypt)
        self.font = font
        self.y = HEIGHT - 60.0

    def write(self, x: float, text: str, size: float = 10, *, bold: bool = False) -> None:
        self.canvas.setFont(BOLD.get(self.font, self.font) if bold else self.font, size)
        self.canvas.drawString(x, self.y, text)

    def write_right(self, x: float, text: str, size: float = 10, *, bold: bool = False) -> None:
        self.canvas.setFont(BOLD.get(self.font, self.font) if bold else self.font, size)
        self.canvas.drawRightString(x, self.y, text)

    def down(self, by: float = 14) -> None:
        self.y -= by
        if self.y < BOTTOM:
            self.canvas.showPage()
            self.y = HEIGHT - 60.0

    def rule(self) -> None:
        self.canvas.line(LEFT, self.y + 10, RIGHT, self.y + 10)

    def block(self, x: float, lines: list[str], y: float) -> None:
        """Lines under one another, from a height of their own."""
        self.y = y
        for number, line in enumerate(lines):
            self.write(x, line, bold=number == 0)
            self.down(13)


def classic(sheet: Sheet, invoice: Invoice) -> None:
    """Seller left, title right; the buyer left, number and dates right of it."""
    table = invoice.table
    sheet.write(LEFT, table["seller"][0], 15, bold=True)
    sheet.write_right(RIGHT, table["title"], 18, bold=True)
    sheet.block(LEFT, ["", *table["seller"][1:]], sheet.y - 4)
    top = sheet.y - 20
    sheet.block(LEFT, table["buyer"], top)
    bottom, sheet.y = sheet.y, top
    for label, value in table["meta"]:
        sheet.write(330, label)
        sheet.write_right(RIGHT, value)
        sheet.down()
    sheet.y = min(bottom, sheet.y) - 24
    _lines_and_totals(sheet, invoice)


def banner(sheet: Sheet, invoice: Invoice) -> None:
    """A coloured band with the seller's name; number and dates under their labels, side by side."""
    table = invoice.table
    sheet.canvas.setFillColor(HexColor("#1f4e79"))
    sheet.canvas.rect(0, HEIGHT - 90, WIDTH, 90, stroke=0, fill=1)
    sheet.canvas.setFillColor(HexColor("#ffffff"))
    sheet.write(LEFT, table["seller"][0], 16, bold=True)
    sheet.write_right(RIGHT, table["title"], 16)
    sheet.canvas.setFillColor(HexColor("#000000"))
    sheet.block(LEFT, ["", *table["seller"][1:], "", *table["buyer"]], HEIGHT - 98)
    sheet.down(20)
    for row in range(2):
        for column, pair in enumerate(table["meta"]):
            sheet.write(LEFT + column * 122, pair[row], bold=row == 0)
        sheet.down(15)
    sheet.down(20)
    _lines_and_totals(sheet, invoice)


def letter(sheet: Sheet, invoice: Invoice) -> None:
    """A letter: everything from the left margin, label, colon, value."""
    table = invoice.table
    sheet.block(LEFT, table["seller"], sheet.y)
    sheet.block(LEFT, ["", *table["buyer"]], sheet.y - 10)
    sheet.down(20)
    sheet.write(LEFT, table["title"], 14, bold=True)
    sheet.down(22)
    for label, value in table["meta"]:
        sheet.write(LEFT, f"{label}: {value}")
        sheet.down()
    sheet.down(20)
    _lines_and_totals(sheet, invoice)


def parties(sheet: Sheet, invoice: Invoice) -> None:
    """The title first, then both parties side by side under their headings."""
    table = invoice.table
    sheet.write(LEFT, table["title"], 18, bold=True)
    top = sheet.y - 34
    sheet.block(330, table["buyer"], top)
    sheet.block(LEFT, table["seller"], top)
    sheet.down(10)
    for label, value in table["meta"]:
        sheet.write(LEFT, label)
        sheet.write(200, value)
        sheet.down()
    sheet.down(20)
    _lines_and_totals(sheet, invoice)


def _lines_and_totals(sheet: Sheet, invoice: Invoice) -> None:
    description, *others = invoice.table["columns"]
    _row(sheet, description, others, bold=True)
    sheet.rule()
    for line in invoice.lines:
        money = invoice.money
        _row(sheet, line.description, [str(line.quantity), money.text(line.price), money.text(line.amount)])
    sheet.rule()
    sheet.down(10)
    *others, last = invoice.totals
    for label, amount in others:
        _total(sheet, label, amount)
    _total(sheet, *last, bold=True)
    sheet.down(26)
    sheet.write(LEFT, invoice.table["note"], 9)


def _row(sheet: Sheet, description: str, others: list[str], *, bold: bool = False) -> None:
    sheet.write(LEFT, description, bold=bold)
    for x, text in zip((350, 440, RIGHT), others, strict=True):
        sheet.write_right(x, text, bold=bold)
    sheet.down(16)


def _total(sheet: Sheet, label: str, amount: str, *, bold: bool = False) -> None:
    sheet.write(330, label, bold=bold)
    sheet.write_right(RIGHT, amount, bold=bold)
    sheet.down(16)


LAYOUTS = {"classic": classic, "banner": banner, "letter": letter, "parties": parties}


def draw(table: dict[str, Any], path: Path, *, password: str | None = None) -> None:
    """One invoice as a PDF."""
    sheet = Sheet(path, table["font"], password)
    sheet.canvas.setTitle(f"{table['title']} {table['seller'][0]}")
    LAYOUTS[table["layout"]](sheet, Invoice(table))
    sheet.canvas.save()


def draw_problems(table: dict[str, Any], folder: Path) -> None:
    """PDFs that can't be read, each for a reason of its own."""
    draw(table, folder / "encrypted.pdf", password="0117")  # noqa: S106  it locks a sample
    draw(table, folder / "broken.pdf")
    whole = (folder / "broken.pdf").read_bytes()
    (folder / "broken.pdf").write_bytes(whole[: len(whole) // 3])
    (folder / "empty.pdf").write_bytes(b"")
    (folder / "letter.pdf").write_text("Dear Sirs, the invoice follows by post.\n", encoding="utf-8", newline="\n")
    scan = Canvas(str(folder / "scan.pdf"), pagesize=A4, invariant=1, pageCompression=0)
    scan.drawInlineImage(_grey_image(), LEFT, 300, 400, 400)
    scan.save()


def _grey_image() -> Any:
    from PIL import Image

    return Image.new("L", (40, 40), 200)


def _register_fonts() -> None:
    encoding = pdfmetrics.Encoding("cp1250", "WinAnsiEncoding")
    for code, glyph in EASTERN_EUROPE.items():
        encoding[code] = glyph
    pdfmetrics.registerEncoding(encoding)
    pdfmetrics.registerFont(pdfmetrics.Font("cp1250", "Helvetica", "cp1250"))
    pdfmetrics.registerFont(UnicodeCIDFont("HeiseiKakuGo-W5"))


def make(folder: Path) -> None:
    """Write all sample PDFs into a folder."""
    (folder / "problems").mkdir(parents=True, exist_ok=True)
    _register_fonts()
    tables = tomllib.loads((HERE / "invoices.toml").read_text(encoding="utf-8"))["invoice"]
    for table in tables:
        draw(table, folder / table["file"])
    draw_problems(tables[0], folder / "problems")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "invoices")
