"""One look through an XML part with expat, its names told by their namespaces and not by their prefixes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Callable

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


class OddMarkup(Exception):  # noqa: N818  it is a state of the part: another way of reading takes over
    """What only a full XML parser can judge stands here."""


class Parser:
    """Feeds an XML part to callbacks: `start(name, attributes)`, `end(name)`, `text(characters)`.

    Names of the spreadsheet's own namespaces come bare (`row`), those of the relationships' as `r:id`, all others as
    `URI local`. Raises `MarkupError` for what isn't well-formed, and for any document type declaration: no spreadsheet
    has one, and entities are how a small file becomes a large one.
    """

    def __init__(
        self,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        self._bare: dict[str, str] = {}
        self._start = start
        self._expat = expat.ParserCreate(namespace_separator=" ")
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._begin
        self._expat.StartDoctypeDeclHandler = _refuse_doctype
        if end:
            self._expat.EndElementHandler = lambda name: end(self._named(name))
        if text:
            self._expat.CharacterDataHandler = text

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Take the next bytes of the part; `last` says that it ends with them."""
        try:
            self._expat.Parse(chunk, last)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise MarkupError(f"is damaged: {error}") from error

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._start(self._named(name), {self._named(key): value for key, value in attributes.items()})

    def _named(self, name: str) -> str:
        bare = self._bare.get(name)
        if bare is None:
            bare = self._bare[name] = _bare(name)
        return bare


def _bare(name: str) -> str:
    uri, _, local = name.rpartition(" ")
    if uri in PLAIN:
        return local
    return f"r:{local}" if uri in RELATIONSHIPS else name


def _refuse_doctype(*_declaration: object) -> None:
    raise MarkupError("declares a document type or entities, which no spreadsheet does")


def plain_start(root: str) -> re.Pattern[bytes]:
    """Matches how a plain part begins: UTF-8, and its root's start tag (group 1) in the spreadsheet's namespace."""
    uris = b"|".join(re.escape(uri.encode()) for uri in MAIN)
    return re.compile(
        rb'(?:\xef\xbb\xbf)?(?:<\?xml(?: version="1\.0"| encoding="(?:UTF|utf)-8"| standalone="(?:yes|no)")* ?\?>)?\s*'
        rb"(<" + root.encode() + rb'(?: [^<>]*)? xmlns="(?:' + uris + rb')"[^<>]*>)'
    )


def plain(block: bytes) -> bytes:
    """A block of elements and text with its line ends made LF, as a parser does (XML 1.0, 2.11).

    Raises `OddMarkup` for comments, CDATA, instructions and broken UTF-8.
    """
    if has_more_than_elements(block):
        raise OddMarkup
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            raise OddMarkup from None
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block


def has_more_than_elements(block: bytes) -> bool:
    """Whether comments, CDATA, declarations or instructions may stand in a block.

    One sign is found ten times as fast as two among so many `<`, and most sheets have neither `!` nor `?`.
    """
    return (b"!" in block and b"<!" in block) or (b"?" in block and b"<?" in block)
