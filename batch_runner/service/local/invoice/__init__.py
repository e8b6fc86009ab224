"""The built-in task `invoice`: reads a PDF, or an invoice as XML, in the files folder.

Params `File Name` and `Operation` (exactly these names): `extract_text`, which also holds where there is no Operation,
gives `{"text", "pages"}`; `extract_fields` gives the Fields of values.py; `extract_lines` gives these and `lines`,
where there is XML. Whatever is wrong with the file ends the run as a failure with one sentence. It only reads, so a run
that was cut off may be run again.

einvoice.py  invoices as data: XML alone, or embedded in a PDF
pdf.py       the words of a PDF with their places, its text and attachments
layout.py    lines and cells of these words, and what stands before a field, by language
values.py    the fields and lines; amounts, currencies, dates, account and VAT ids as text
amounts.py   net, tax and total: what adds up decides
parties.py   seller and buyer
fields.py    the fields of a page, and where it contradicts the XML
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from batch_runner.service.local.context import file_within, param, task
from batch_runner.service.local.result import TaskFailed

if TYPE_CHECKING:
    from batch_runner.service.local.context import Context
    from batch_runner.service.local.invoice.pdf import Document
    from batch_runner.service.local.invoice.values import Fields, InvoiceLine

SIZE_LIMIT = 256 * 1024 * 1024
"""Bytes of one file."""

PAGES_AT_ENDS = 10
"""Fields are looked for on so many pages at the beginning and at the end: mere lists stand between."""

_SIGNATURE = b"%PDF-"
_SIGNATURE_WITHIN = 1024  # readers accept so much before it (ISO 32000-1, Annex H)


@task(repeatable=True)
def invoice(
    file_name: Annotated[str, param("File Name")],
    operation: Annotated[
        Literal["extract_text", "extract_fields", "extract_lines"], param("Operation")
    ] = "extract_text",
    *,
    context: Context,
) -> dict[str, Any]:
    """Read the invoice that the params name; `text` is that of all pages, one after another."""
    from batch_runner.service.local.invoice.pdf import opened

    path = file_within(Path(context.files), file_name)
    if _is_xml(path):
        return _read_xml_file(path, operation)
    with opened(path) as document:
        if operation == "extract_text":
            pages = document.pages()
            return {"text": "\n".join(page.text for page in pages), "pages": len(pages)}
        fields, lines = _read_pdf(document)
    if operation == "extract_fields":
        return _as_result(fields)
    if fields.source == "page":
        raise TaskFailed("The PDF holds no invoice as XML, and lines are read from XML only; use extract_fields.")
    return _as_result(fields) | {"lines": [msgspec.structs.asdict(line) for line in lines]}


def _is_xml(path: Path) -> bool:
    """Whether it is XML rather than a PDF. Raises TaskFailed for what is neither, for nothing, and for too much."""
    from batch_runner.service.local.invoice.einvoice import is_xml

    size = path.stat().st_size
    if size == 0:
        raise TaskFailed("The file is empty: 0 bytes.")
    if size > SIZE_LIMIT:
        raise TaskFailed(f"The file is longer than {SIZE_LIMIT} bytes, the limit for an invoice.")
    try:
        with path.open("rb") as file:
            beginning = file.read(_SIGNATURE_WITHIN)
    except OSError as error:
        raise TaskFailed(f"The file can't be opened: {error.strerror}.") from error
    if _SIGNATURE in beginning:
        return False
    if is_xml(beginning):
        return True
    raise TaskFailed("The file is neither a PDF nor XML: it does not begin like one.")


def _read_xml_file(path: Path, operation: str) -> dict[str, Any]:
    from batch_runner.service.local.invoice.einvoice import XML_LIMIT, NoInvoice, read_xml

    if path.stat().st_size > XML_LIMIT:
        raise TaskFailed(f"The XML is longer than {XML_LIMIT} bytes, the limit for an invoice.")
    try:
        fields, lines = read_xml(path.read_bytes())
    except NoInvoice as error:
        raise TaskFailed(f"The XML is no invoice that can be read: {error}.") from error
    if operation == "extract_text":
        raise TaskFailed("The file is an invoice as XML, which has no pages; use extract_fields.")
    result = _as_result(fields)
    if operation == "extract_lines":
        result["lines"] = [msgspec.structs.asdict(line) for line in lines]
    return result


def _read_pdf(document: Document) -> tuple[Fields, tuple[InvoiceLine, ...]]:
    """The embedded XML, told apart from the pages where they contradict it; without XML, the pages."""
    from batch_runner.service.local.invoice.einvoice import NoInvoice, read_xml
    from batch_runner.service.local.invoice.fields import contradictions, fields_of

    unread = []
    for xml in document.xml_attachments():
        try:
            fields, lines = read_xml(xml)
        except NoInvoice as error:
            unread.append(f"source: an embedded XML file is no invoice that can be read: {error}.")
            continue
        try:
            differing = contradictions(fields, document, PAGES_AT_ENDS)
        except TaskFailed:  # the pages are a scan, or empty; the data says it all
            differing = ()
        return msgspec.structs.replace(fields, warnings=(*fields.warnings, *differing)), lines
    fields = fields_of(document.pages(PAGES_AT_ENDS))
    return msgspec.structs.replace(fields, warnings=(*fields.warnings, *unread)), ()


def _as_result(fields: Fields) -> dict[str, Any]:
    """The fields as JSON. Raises TaskFailed where none of them says anything."""
    if not any((fields.number, fields.invoice_date, fields.due_date, fields.seller, fields.total, fields.net)):
        raise TaskFailed(
            "No field of an invoice was found: neither number nor date, seller or amount stands there with its label. "
            "Is it an invoice? extract_text shows what was read."
        )
    return msgspec.structs.asdict(fields) | {"warnings": list(fields.warnings)}
