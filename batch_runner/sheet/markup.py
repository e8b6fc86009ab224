"""One look through an XML part with expat, its names told by their namespaces and not by their prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAIN = (
    "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    "http://purl.oclc.org/ooxml/spreadsheetml/main",
)
"""SpreadsheetML's namespace, transitional and Strict (ECMA-376 part 1, annex A; ISO 29500-1)."""
PLAIN = (
    *MAIN,
    "http://schemas.openxmlformats.org/package/2006/relationships",
    "http://schemas.openxmlformats.org/package/2006/content-types",
)
RELATIONSHIPS = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "http://purl.oclc.org/ooxml/officeDocument/relationships",
)


class MarkupError(Exception):
    """The part is no XML that this program reads; the text completes "the part …"."""


def parse(
    chunks: Iterable[bytes],
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None = None,
    text: Callable[[str], None] | None = None,
) -> None:
    """Feed an XML part to callbacks: `start(name, attributes)`, `end(name)`, `text(characters)`.

    Names of the spreadsheet's own namespaces come bare (`row`), those of the relationships' as `r:id`, all others as
    `URI local`. Raises `MarkupError` for what isn't well-formed, and for any document type declaration: no spreadsheet
    has one, and entities are how a small file becomes a large one.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    known: dict[str, str] = {}

    def named(name: str) -> str:
        bare = known.get(name)
        if bare is None:
            bare = known[name] = _bare(name)
        return bare

    def begin(name: str, attributes: dict[str, str]) -> None:
        start(named(name), {named(key): value for key, value in attributes.items()})

    parser.StartElementHandler = begin
    parser.StartDoctypeDeclHandler = _refuse_doctype
    if end:
        parser.EndElementHandler = lambda name: end(named(name))
    if text:
        parser.CharacterDataHandler = text
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise MarkupError(f"is damaged: {error}") from error


def _bare(name: str) -> str:
    uri, _, local = name.rpartition(" ")
    if uri in PLAIN:
        return local
    return f"r:{local}" if uri in RELATIONSHIPS else name


def _refuse_doctype(*_declaration: object) -> None:
    raise MarkupError("declares a document type or entities, which no spreadsheet does")
