"""What a PDF shows is read, however its author put it there; and what can't be read rightly is said to be so."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from drawn_invoices import read
from pypdf import PdfWriter
from pypdf.annotations import FreeText
from pypdf.generic import DictionaryObject, StreamObject
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from batch_runner.service.local.invoice.fields import fields_of
from batch_runner.service.local.invoice.pdf import opened
from batch_runner.service.local.result import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = (
    (60, "Harbour Paper Ltd", ""),
    (100, "Invoice No.", "HP-7"),
    (114, "Invoice date", "17 January 2026"),
    (300, "Net", "281.00"),
    (314, "VAT 20%", "56.20"),
    (328, "Total", "£337.20"),
)
SAYS = ("HP-7", "2026-01-17", "281.00", "56.20", "337.20", "GBP")


def write_rows(canvas: Canvas, font: str = "Helvetica") -> None:
    canvas.setFont(font, 10)
    for y, label, value in ROWS:
        canvas.drawString(60, 842 - y, label)
        canvas.drawString(300, 842 - y, value)


def said(path: Path) -> tuple[Any, ...]:
    found = read(path)
    return found.number, found.invoice_date, found.net, found.tax, found.total, found.currency


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_page_is_read_as_it_is_shown(tmp_path: Path, rotation: int) -> None:
    """A page may be drawn sideways and turned for showing."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(842, 842))
    x, y = {90: (842, 0), 180: (842, 842), 270: (0, 842)}[rotation]
    canvas.setPageRotation(rotation)
    canvas.translate(x, y)
    canvas.rotate(rotation)
    write_rows(canvas)
    canvas.save()
    assert said(tmp_path / "a.pdf") == SAYS


def test_text_within_a_form_is_read(tmp_path: Path) -> None:
    """Programs that fill a letterhead, or stamp a page, put the text into a form XObject."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(595, 842))
    canvas.beginForm("inner")
    write_rows(canvas)
    canvas.endForm()
    canvas.beginForm("outer")
    canvas.doForm("inner")
    canvas.endForm()
    canvas.doForm("outer")
    canvas.save()
    assert said(tmp_path / "a.pdf") == SAYS


def test_filled_fields_and_notes_are_text(tmp_path: Path) -> None:
    """What is typed into a form, and what is written onto the page as a note of free text."""
    canvas = Canvas(str(tmp_path / "form.pdf"), pagesize=(595, 842))
    for y, label, value in ROWS[:-1]:
        canvas.drawString(60, 842 - y, label)
        if value:
            canvas.acroForm.textfield(name=label, value=value, x=300, y=838 - y, width=120, height=14, fontSize=10)
    canvas.drawString(60, 842 - 328, "Total")
    canvas.save()
    writer = PdfWriter(clone_from=tmp_path / "form.pdf")
    writer.add_annotation(0, FreeText(text="£337.20", rect=(300, 510, 400, 524)))
    writer.write(tmp_path / "a.pdf")
    assert said(tmp_path / "a.pdf") == SAYS
    with opened(tmp_path / "a.pdf") as document:
        assert "£337.20" in document.pages()[0].text


def test_kerning_splits_no_words(tmp_path: Path) -> None:
    """Letters that stand a little apart are one word; a blank is wider."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(595, 842))
    text = canvas.beginText(60, 742)
    text.setFont("Helvetica", 10)
    canvas.drawText(text)
    for x, part in ((60, "Rech"), (60 + pdfmetrics.stringWidth("Rech", "Helvetica", 10) + 1.0, "nungsnummer:  77")):
        canvas.setFont("Helvetica", 10)
        canvas.drawString(x, 742, part)
    canvas.save()
    assert read(tmp_path / "a.pdf").number == "77"


def scanned(canvas: Canvas) -> None:
    """A page that is an image."""
    import PIL.Image

    canvas.drawImage(ImageReader(PIL.Image.new("RGB", (40, 60), "grey")), 0, 0, 595, 842)


def test_a_scan_under_a_stamp_is_still_a_scan(tmp_path: Path) -> None:
    """A page that is mostly an image isn't read by what a stamp on it says."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(595, 842))
    scanned(canvas)
    canvas.drawString(60, 800, "Received 2026-02-03, booked, No. 4711")
    canvas.save()
    with pytest.raises(TaskFailed, match=r"is a scan: .* OCR"):
        read(tmp_path / "a.pdf")


def test_a_scan_that_went_through_ocr_is_read(tmp_path: Path) -> None:
    """The image with its text above it is text."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(595, 842))
    scanned(canvas)
    write_rows(canvas)
    canvas.drawString(60, 400, "Thank you for your order. Please pay within thirty days to the account below.")
    canvas.save()
    assert said(tmp_path / "a.pdf") == SAYS


def mapped(tmp_path: Path, unicode_of: Callable[[int], int]) -> Path:
    """A page whose font says of each code that it stands for another character."""
    canvas = Canvas(str(tmp_path / "font.pdf"), pagesize=(595, 842))
    pdfmetrics.registerFont(TTFont("Mapped", "Vera.ttf"))
    write_rows(canvas, "Mapped")
    canvas.save()
    writer = PdfWriter(clone_from=tmp_path / "font.pdf")
    head = "/CIDInit /ProcSet findresource begin\nbegincmap\n1 begincodespacerange\n<00> <ff>\nendcodespacerange\n"
    lines = [f"1 beginbfchar\n<{code:02x}> <{unicode_of(code):04x}>\nendbfchar" for code in range(256)]
    for written in list(writer._objects):
        font = written.get_object() if written else None
        if isinstance(font, DictionaryObject) and "/ToUnicode" in font:
            stream = font["/ToUnicode"].get_object()
            assert isinstance(stream, StreamObject)
            stream.set_data("\n".join([head, *lines, "endcmap end"]).encode())
    writer.write(tmp_path / "a.pdf")
    return tmp_path / "a.pdf"


@pytest.mark.parametrize(
    "unicode_of",
    [lambda code: 0xE000 + code, lambda code: 1 + code % 8, lambda code: 33 + code % 14],
    ids=["private", "control", "marks"],
)
def test_fonts_that_hide_their_letters_are_said_to(tmp_path: Path, unicode_of: Callable[[int], int]) -> None:
    """Where a font maps its letters to private or control characters, or to mere marks, what comes out is no text."""
    with pytest.raises(TaskFailed, match="fonts don't say which letters they draw"):
        read(mapped(tmp_path, unicode_of))


def test_half_a_surrogate_spoils_no_text(tmp_path: Path) -> None:
    """A font of icons may map a glyph to half of a pair: all else is read, and the text can be written."""
    path = mapped(tmp_path, lambda code: 0xD83D if chr(code) == "H" else code)
    with opened(path) as document:
        text = document.pages()[0].text
    assert "arbour Paper Ltd" in text
    assert text.encode()


@pytest.mark.parametrize("ends", [None, 1])
def test_the_text_alone_is_that_of_the_pages(tmp_path: Path, ends: int | None) -> None:
    """Whatever a glyph is mapped to (a letter, half of a pair, nothing), both ways of reading say the same."""
    path = mapped(tmp_path, lambda code: {"H": 0xD83D, "a": 0xDE00, "r": 0}.get(chr(code), code))
    writer = PdfWriter(path)
    for _ in range(2):
        writer.append(path)
    writer.write(tmp_path / "three.pdf")
    with opened(tmp_path / "three.pdf") as document:
        pages = document.pages(ends)
        assert len(pages) == (3 if ends is None else 2)
        assert document.text(ends) == "\n".join(page.text for page in pages)
        assert "\U0001f600" in pages[0].text
    assert "Ltd" in {word.text for word in pages[0].words}


def test_a_long_invoice_is_read_at_both_ends(tmp_path: Path) -> None:
    """The number stands on the first page and the total on the last; a page between says another total."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(595, 842))
    for number in range(60):
        canvas.setFont("Helvetica", 10)
        rows = {0: ROWS[:3], 30: ((100, "Total", "£900.00"),), 59: ROWS[3:]}.get(number, ((100, "Page", ""),))
        for y, label, value in rows:
            canvas.drawString(60, 842 - y, label)
            canvas.drawString(300, 842 - y, value)
        canvas.showPage()
    canvas.save()
    with opened(tmp_path / "a.pdf") as document:
        assert len(document.pages()) == 60
        found = fields_of(document.pages(10))
    assert (found.number, found.total) == ("HP-7", "337.20")


@pytest.mark.long
def test_a_crowded_page_is_read_in_time(tmp_path: Path) -> None:
    """Thousands of amounts in one line, and thousands of lines: the work grows with them, and no faster."""
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(20_000, 842))
    canvas.setFont("Helvetica", 4)
    canvas.drawString(10, 800, "Total 1.00 VAT 2.00 Net 3.00 " * 400)
    for number in range(1_500):
        canvas.drawString(10, 790 - number / 2, f"Invoice No. {number} total {number}.00 from: to: IBAN")
    canvas.save()
    started = time.process_time()
    with opened(tmp_path / "a.pdf") as document:
        fields_of(document.pages())
    assert time.process_time() - started < 10
