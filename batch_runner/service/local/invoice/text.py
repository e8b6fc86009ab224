"""The text of a PDF. Whatever can be wrong with the file is a TaskFailed with a sentence."""

from __future__ import annotations

import logging
import struct
import zlib
from typing import TYPE_CHECKING, Literal, NamedTuple

from pypdf import PdfReader
from pypdf.errors import DependencyError, PyPdfError

from batch_runner.service.local.result import TaskFailed

if TYPE_CHECKING:
    from pathlib import Path


PAGE_LIMIT = 1_000
"""Pages of one PDF; what has more is no invoice."""

SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes of one PDF."""

_DAMAGE = (
    PyPdfError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    struct.error,
    TypeError,
    ValueError,
    zlib.error,
)
"""What pypdf, and what it calls, raise for damaged files, besides its own errors."""

_SIGNATURE = b"%PDF-"
_SIGNATURE_WITHIN = 1024  # readers accept so much before it (ISO 32000-1, Annex H)


class PdfText(NamedTuple):
    """The text of all pages, one after another."""

    text: str
    pages: int


def text_of(path: Path, *, as_laid_out: bool = False) -> PdfText:
    """Read a PDF: in the order in which its text was drawn, or with what is side by side on paper in one line."""
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its remarks name neither file nor run
    _refuse_what_is_no_pdf(path)
    try:
        with PdfReader(path) as reader:
            found = _read(path.name, reader, "layout" if as_laid_out else "plain")
    except _DAMAGE as error:
        raise TaskFailed(f"{path.name} is damaged and can't be read as a PDF ({type(error).__name__}).") from error
    if not found.text.strip():
        raise TaskFailed(f"{path.name} holds no text, only images: a scan has to go through OCR first.")
    return found


def _read(name: str, reader: PdfReader, mode: Literal["plain", "layout"]) -> PdfText:
    _refuse_locked(name, reader)
    _refuse_too_long(name, reader)
    texts = [page.extract_text(extraction_mode=mode).strip("\n") for page in reader.pages]
    return PdfText("\n".join(texts), len(texts))


def _refuse_what_is_no_pdf(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise TaskFailed(f"{path.name} is empty: 0 bytes.")
    if size > SIZE_LIMIT:
        raise TaskFailed(f"{path.name} is {size} bytes long, and {SIZE_LIMIT} is the limit.")
    try:
        with path.open("rb") as file:
            beginning = file.read(_SIGNATURE_WITHIN)
    except OSError as error:
        raise TaskFailed(f"{path.name} can't be opened: {error.strerror}.") from error
    if _SIGNATURE not in beginning:
        raise TaskFailed(f"{path.name} is no PDF: it does not begin like one.")


def _refuse_locked(name: str, reader: PdfReader) -> None:
    """A PDF that opens with the empty password can be read by anyone, and so by us."""
    try:
        is_locked = reader.is_encrypted and not reader.decrypt("")
    except (NotImplementedError, DependencyError) as error:
        raise TaskFailed(f"{name} is encrypted in a way that can't be read.") from error
    if is_locked:
        raise TaskFailed(f"{name} is encrypted and needs a password; save it without one.")


def _refuse_too_long(name: str, reader: PdfReader) -> None:
    """The count that the file states is looked at first: to count the pages oneself, all must be visited."""
    stated = reader.root_object["/Pages"].get_object().get("/Count", 0)  # type: ignore[union-attr]  # damage is caught above
    pages = stated if isinstance(stated, int) and stated > PAGE_LIMIT else len(reader.pages)
    if pages > PAGE_LIMIT:
        raise TaskFailed(f"{name} has {pages} pages, and {PAGE_LIMIT} is the limit.")
    if not pages:
        raise TaskFailed(f"{name} has no pages.")
