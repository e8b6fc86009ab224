"""Draws invoices from texts and their places, and reads their fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase._glyphlist import _glyphname2unicode
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

from batch_runner.service.local.invoice.fields import fields_of
from batch_runner.service.local.invoice.pdf import opened

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.service.local.invoice.values import Fields


def _register_fonts() -> None:
    """Helvetica in the code pages of western and central Europe, by names that no sample uses; and a Japanese font."""
    names = {ord_: name for name, ord_ in _glyphname2unicode.items() if not name.startswith("afii")}
    for page in ("windows-1250", "windows-1252"):
        encoding = pdfmetrics.Encoding(page, "WinAnsiEncoding")
        for code in range(0x80, 0x100):
            char = bytes([code]).decode(page, "replace")
            if char != "\ufffd" and ord(char) in names:
                encoding[code] = names[ord(char)]
        pdfmetrics.registerEncoding(encoding)
        pdfmetrics.registerFont(pdfmetrics.Font(page, "Helvetica", page))
    pdfmetrics.registerFont(UnicodeCIDFont("HeiseiKakuGo-W5"))


def _font(text: str) -> str:
    """The first font that has all letters of a text."""
    for page in ("windows-1252", "windows-1250"):
        try:
            text.encode(page)
        except UnicodeEncodeError:
            continue
        return page
    return "HeiseiKakuGo-W5"


def draw(path: Path, texts: str) -> None:
    """Each line `X,Y text | X text | …`; a line's texts stand on one height."""
    _register_fonts()
    canvas = Canvas(str(path), pagesize=(595, 842))
    for line in filter(None, map(str.strip, texts.splitlines())):
        place, _, rest = line.partition(" ")
        x, y = map(float, place.split(","))
        for number, cell in enumerate(rest.split(" | ")):
            text = cell
            if number:
                left, _, text = cell.partition(" ")
                x = float(left)
            canvas.setFont(_font(text), 9)
            canvas.drawString(x, 842 - y, text)
    canvas.save()


def read(path: Path) -> Fields:
    """The fields of a PDF's pages."""
    with opened(path) as document:
        return fields_of(document.pages())
