"""The words of a PDF with their places, its text and its attachments, by PDFium.

What is wrong with a file is a TaskFailed. Its sentence doesn't name the file, so that one cause in a hundred rows is
one line of the summary; the row itself says which file it is.
"""

from __future__ import annotations

import ctypes
import math
import re
from contextlib import closing, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from batch_runner.service.local.invoice.einvoice import XML_LIMIT
from batch_runner.service.local.result import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PAGE_LIMIT = 1_000
"""Pages of one PDF; what has more is no invoice."""

CHARACTER_LIMIT = 2_000_000
"""Characters of one PDF."""

_STAMP = 120  # characters: a stamp, a fax header or a page number, but no invoice
_MOST_OF_A_PAGE = 0.5
_AN_IMAGE = 0.05  # where there is no text at all, a logo is still none

_ONE_AT_A_TIME = Lock()  # PDFium isn't made for threads, and a cluster may run tasks in several


class Word(NamedTuple):
    """A run of characters without a gap; places in points from the upper left corner of the page as it is shown."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


class PageText(NamedTuple):
    """What a page shows: its words where they stand, and its text in the order in which it was drawn."""

    words: list[Word]
    text: str


class _Drawn(NamedTuple):
    """What the pages hold altogether, to judge whether they can be read."""

    characters: int = 0
    letters: int = 0
    scans: int = 0

    def __add__(self, other: tuple[int, ...]) -> _Drawn:  # type: ignore[override]
        return _Drawn(*map(sum, zip(self, other, strict=True)))


class Document:
    """An open PDF."""

    def __init__(self, pdf: pdfium.PdfDocument) -> None:
        self._pdf = pdf
        if pdf.get_formtype() != pdfium_c.FORMTYPE_NONE:
            pdf.init_forms()

    def xml_attachments(self) -> Iterator[bytes]:
        """The contents of the XML files in the PDF's own list of attachments."""
        for number in range(self._pdf.count_attachments()):
            attachment = self._pdf.get_attachment(number)
            size = ctypes.c_ulong()
            if attachment.get_name().lower().endswith(".xml"):
                pdfium_c.FPDFAttachment_GetFile(attachment, None, 0, size)
                if 0 < size.value <= XML_LIMIT:
                    yield bytes(attachment.get_data())

    def pages(self, ends: int | None = None) -> list[PageText]:
        """All pages, or so many at both ends.

        Raises TaskFailed where there is nothing to read, or nothing that would be read rightly.
        """
        pages, drawn = [], _Drawn()
        for number in self._numbers(ends):
            page, on_page = self._page(number)
            pages.append(page)
            drawn += on_page
            if drawn.characters > CHARACTER_LIMIT:
                raise TaskFailed(f"The PDF holds more than {CHARACTER_LIMIT} characters; no invoice is so long.")
        _refuse_unreadable(drawn, len(pages))
        return pages

    def text(self, ends: int | None = None) -> str:
        """The text of all pages, or so many at both ends, as `pages` has it; nothing judges whether it is right."""
        texts: list[str] = []
        for number in self._numbers(ends):
            with self._loaded(number) as (page, textpage):
                notes = _annotations(page, _placing(page), self._pdf.formenv)
                texts.append(_text(_characters(textpage), notes))
            if sum(map(len, texts)) > CHARACTER_LIMIT:
                break
        return "\n".join(texts)

    def _numbers(self, ends: int | None) -> Iterator[int]:
        count = len(self._pdf)
        return (number for number in range(count) if ends is None or not ends <= number < count - ends)

    @contextmanager
    def _loaded(self, number: int) -> Iterator[tuple[pdfium.PdfPage, pdfium.PdfTextPage]]:
        try:
            page = self._pdf[number]
        except pdfium.PdfiumError as error:
            raise TaskFailed(f"The PDF is damaged: page {number + 1} can't be read.") from error
        with closing(page), closing(page.get_textpage()) as textpage:
            yield page, textpage

    def _page(self, number: int) -> tuple[PageText, _Drawn]:
        with self._loaded(number) as (page, textpage):
            place = _placing(page)
            chars = _characters(textpage)
            notes = list(_annotations(page, place, self._pdf.formenv))
            words = [*_words(textpage, chars, place), *notes]
            text = _text(chars, notes)
            characters = sum(len(word.text) for word in words)
            is_scan = characters < _STAMP and _image_share(page) > (_MOST_OF_A_PAGE if characters else _AN_IMAGE)
            return PageText(words, text), _Drawn(characters, len(_LETTERS.findall(text)), is_scan)


def _text(chars: str, notes: Iterable[Word]) -> str:
    drawn = chars.replace("\r", "").replace(_SECOND, "")
    return "\n".join([drawn.strip("\n"), *(word.text for word in notes)]).strip("\n")


@contextmanager
def opened(path: Path) -> Iterator[Document]:
    """Open a PDF, one at a time. A password that is empty keeps nobody out, so not us either."""
    with _ONE_AT_A_TIME:
        try:
            pdf = pdfium.PdfDocument(path)
        except pdfium.PdfiumError as error:
            raise TaskFailed(_REFUSALS.get(error.err_code or 0, _DAMAGED)) from error
        with closing(pdf):
            if len(pdf) > PAGE_LIMIT:
                raise TaskFailed(f"The PDF has more than {PAGE_LIMIT} pages; no invoice is so long.")
            if not len(pdf):
                raise TaskFailed("The PDF has no pages.")
            yield Document(pdf)


_DAMAGED = "The PDF is damaged and can't be read; ask for it again."
_REFUSALS = {
    pdfium_c.FPDF_ERR_PASSWORD: "The PDF is encrypted and needs a password; save it without one.",
    pdfium_c.FPDF_ERR_SECURITY: "The PDF is encrypted in a way that can't be read; save it without encryption.",
}


def _refuse_unreadable(drawn: _Drawn, pages: int) -> None:
    if drawn.scans == pages:
        raise TaskFailed(
            "The PDF is a scan: its pages are images, with no text or little more than a stamp. "
            "Send it through an OCR program first."
        )
    if not drawn.characters:
        raise TaskFailed(
            "The PDF's pages hold no text: they are empty or damaged, or the letters are drawn as lines. "
            "An OCR program can read what can be seen."
        )
    if drawn.letters * 2 < drawn.characters:
        raise TaskFailed(
            "The PDF's fonts don't say which letters they draw, so its text can't be read. "
            "Send it through an OCR program first."
        )


_LETTERS = re.compile(r"[^\W_\ue000-\uf8ff]")
"""Letters and figures; private characters are none. Two of three characters on any page of text are."""


def _placing(page: pdfium.PdfPage) -> _Placing:
    left, bottom, right, top = page.get_bbox()
    return _Placing(left, bottom, right, top, page.get_rotation())


class _Placing(NamedTuple):
    """From PDF's coordinates, upwards and before the page is turned, to those of the page as it is shown."""

    left: float
    bottom: float
    right: float
    top: float
    rotation: int

    def box(self, left: float, bottom: float, right: float, top: float) -> tuple[float, float, float, float]:
        """Left, top, right and bottom as shown."""
        if self.rotation == 90:
            return bottom - self.bottom, left - self.left, top - self.bottom, right - self.left
        if self.rotation == 180:
            return self.right - right, bottom - self.bottom, self.right - left, top - self.bottom
        if self.rotation == 270:
            return self.top - top, self.right - right, self.top - bottom, self.right - left
        return left - self.left, self.top - top, right - self.left, self.top - bottom


def _characters(textpage: pdfium.PdfTextPage) -> str:
    """All characters in the order in which they were drawn, with the blanks and line ends that PDFium sees between.

    Each stands at the place that PDFium counts it at: one that takes two of its places is followed by _SECOND.
    """
    raw, code = textpage.raw, pdfium_c.FPDFText_GetUnicode
    count = min(pdfium_c.FPDFText_CountChars(raw), CHARACTER_LIMIT + 1)
    units = (ctypes.c_ushort * (count + 1))()
    if pdfium_c.FPDFText_GetText(raw, 0, count, units) == count + 1:
        text = "".join(map(chr, units[:count]))
        text = _HYPHEN.sub(lambda match: chr(code(raw, match.start())), text)
    else:  # it leaves out what it has no text for, so only one by one they keep their places
        text = "".join(chr(code(raw, index)) for index in range(count))
    return _SURROGATES.sub(_joined_surrogates, text)


def _joined_surrogates(match: re.Match[str]) -> str:
    """The character of both halves; one that has lost its other half says nothing."""
    char = match[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return char + _SECOND * (len(match[0]) - 1)


_HYPHEN = re.compile("\ufffe")  # the text of a hyphen at a line's end, which has a code of its own as a character
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")
_SECOND = "\udfff"


def _words(textpage: pdfium.PdfTextPage, text: str, place: _Placing) -> Iterator[Word]:
    """The runs without a blank. A run's place is that of its first and last character: each one costs a call."""
    raw, rect, box_of = textpage.raw, pdfium_c.FS_RECTF(), pdfium_c.FPDFText_GetLooseCharBox
    at = ctypes.byref(rect)

    def box(index: int) -> tuple[float, float, float, float]:
        box_of(raw, index, at)
        return place.box(rect.left, rect.bottom, rect.right, rect.top)

    last, end = None, 0
    for run in _RUN.finditer(text):
        first = box(run.start())
        final = box(run.end() - 1) if run.end() - run.start() > 1 else first
        if final[0] < first[0] or min(first[3], final[3]) <= max(first[1], final[1]):  # it runs up the margin
            continue
        top, bottom = min(first[1], final[1]), max(first[3], final[3])
        word = Word(run[0].translate(_NOTHING), first[0], top, max(first[2], final[2]), bottom)
        if last and run.start() == end + 1 and _is_kerned(last, word) and pdfium_c.FPDFText_IsGenerated(raw, end) == 1:
            last = Word(last.text + word.text, last.left, last.top, word.right, last.bottom)
        else:
            if last:
                yield last
            last = word
        end = run.end()
    if last:
        yield last


def _is_kerned(last: Word, word: Word) -> bool:
    """Whether letters only stand a little apart, where PDFium sees a blank that isn't written."""
    height = last.bottom - last.top
    return abs(word.top - last.top) < 0.2 * height and -0.2 * height < word.left - last.right < _KERNING * height


_KERNING = 0.12  # of the letters' height; a blank has a quarter
_RUN = re.compile(r"[^\s\ufffe]+")
_NOTHING = dict.fromkeys(map(ord, f"\0\u00ad\u200b\u200d\ufeff{_SECOND}"))


def _annotations(page: pdfium.PdfPage, place: _Placing, formenv: pdfium.PdfFormEnv | None) -> Iterator[Word]:
    """What is filled into form fields, and what is written onto the page as a note of free text."""
    for number in range(pdfium_c.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium_c.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            if text := _annotated(annotation, formenv):
                yield from _within(text, annotation, place)
        finally:
            pdfium_c.FPDFPage_CloseAnnot(annotation)


_HIDDEN = pdfium_c.FPDF_ANNOT_FLAG_HIDDEN | pdfium_c.FPDF_ANNOT_FLAG_NOVIEW
_FILLED = (pdfium_c.FPDF_FORMFIELD_TEXTFIELD, pdfium_c.FPDF_FORMFIELD_COMBOBOX)


def _annotated(annotation: object, formenv: pdfium.PdfFormEnv | None) -> str:
    if pdfium_c.FPDFAnnot_GetFlags(annotation) & _HIDDEN:
        return ""
    subtype = pdfium_c.FPDFAnnot_GetSubtype(annotation)
    if subtype == pdfium_c.FPDF_ANNOT_FREETEXT:
        return _utf16(pdfium_c.FPDFAnnot_GetStringValue, annotation, b"Contents")
    is_field = subtype == pdfium_c.FPDF_ANNOT_WIDGET and formenv is not None
    if is_field and pdfium_c.FPDFAnnot_GetFormFieldType(formenv, annotation) in _FILLED:
        return _utf16(pdfium_c.FPDFAnnot_GetFormFieldValue, formenv, annotation)
    return ""


def _utf16(function: object, *arguments: object) -> str:
    """The text that one of PDFium's functions writes into a buffer, of which it first says how long it has to be."""
    size = function(*arguments, None, 0)  # type: ignore[operator]
    if not 2 < size <= 2 * CHARACTER_LIMIT:
        return ""
    buffer = ctypes.create_string_buffer(size)
    function(*arguments, ctypes.cast(buffer, ctypes.POINTER(pdfium_c.FPDF_WCHAR)), size)  # type: ignore[operator]
    return buffer.raw.decode("utf-16-le", "replace").rstrip("\0")


def _within(text: str, annotation: object, place: _Placing) -> Iterator[Word]:
    """The words of a text in the rectangle of its annotation, line under line."""
    rect = pdfium_c.FS_RECTF()
    pdfium_c.FPDFAnnot_GetRect(annotation, ctypes.byref(rect))
    left, top, right, bottom = place.box(rect.left, rect.bottom, rect.right, rect.top)
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    height = min((bottom - top) / max(len(lines), 1), 14.0)
    for number, line in enumerate(lines):
        width = (right - left) / max(len(line), 1)
        for word in re.finditer(r"\S+", line):
            upper = top + number * height
            yield Word(word[0], left + word.start() * width, upper, left + word.end() * width, upper + height)


def _image_share(page: pdfium.PdfPage) -> float:
    """How much of the page its largest image covers."""
    width, height = page.get_size()
    areas = [0.0]
    for image in page.get_objects(filter=[pdfium_c.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        left, bottom, right, top = image.get_bounds()
        areas.append((right - left) * (top - bottom))
    return max(areas) / (width * height) if width * height else math.inf
