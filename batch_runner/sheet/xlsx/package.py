"""The zip package of a workbook, its parts, and their XML read with expat."""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote
from xml.parsers import expat

import msgspec

from batch_runner.errors import SheetError

quick_zlib: Any = zlib
with suppress(ImportError):  # without the extra `fast`
    from isal import isal_zlib as quick_zlib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


def may_have_computed(data: bytes) -> bool:
    """Whether the words of a formula stand there that fills other cells, too: an array's or a data table's.

    A character written as a number could hide them. In UTF-16 each letter has a zero beside it.
    """
    data = data.replace(b"\0", b"") if b"\0" in data else data
    return b"array" in data or b"dataTable" in data or b"&#" in data


class Mark(msgspec.Struct, frozen=True):
    """What a cell's attributes say: `s` its place in the cell formats, `t` its type, `vm` its place in the metadata."""

    style: int = 0
    type: str = "n"
    metadata: int = 0


_ATTRIBUTE = re.compile(rb' ([a-z]+)="([^"]*)"')


def read_mark(mark: bytes) -> Mark:
    """The attributes of a cell, from `b' s="5" t="s"'`."""
    known = dict(_ATTRIBUTE.findall(mark))
    return Mark(
        _row_number(known.get(b"s")),
        (known.get(b"t") or b"n").decode("ascii", "replace"),
        _row_number(known.get(b"vm")),
    )


def _row_number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0


UNPACKING = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)
"""What zipfile raises where a part is damaged."""
_INFLATING = type(zlib.decompressobj())
"""What zipfile inflates with: half of the time goes if it is another's. It checks what comes out."""
STEP = 1 << 18
"""How many bytes of a part are inflated at a time."""
BOMB_SIZE = 64 << 20
BOMB_RATIO = 200
"""Deflate gets 5–30 to 1 out of a sheet; who says 200 to 1 in a package of more than 64 MiB is up to no good."""
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How an OLE compound file begins: an .xls, or an encrypted workbook ([MS-CFB] 2.2)."""
SIGNATURE = "origin"
"""The last word of the type by which a package leads to its signatures: `…/digital-signature/origin`."""
SMALL = 256 << 20
"""The largest part that is read whole."""
WORKBOOK_TYPES = ("spreadsheetml.sheet.main+xml", "excel.sheet.macroEnabled.main+xml", "template.main+xml",
                  "template.macroEnabled.main+xml", "addin.macroEnabled.main+xml")  # fmt: skip


class Relation(msgspec.Struct, frozen=True):
    """A relationship of a part (ECMA-376 part 2, 9.3): its id, the last word of its type, the part that it leads to."""

    id: str
    kind: str
    part: str


class Package:
    """A workbook's zip package. Part names have no leading slash and are found without regard to case.

    `file` is any seekable binary file, `name` what messages call it. Raises `SheetError` for what is no workbook or
    not safe to open. Nothing is inflated before it is asked for; `by_zlib` does it as other programs do, else `isal`
    where it is installed.
    """

    def __init__(self, file: BinaryIO, name: str, *, by_zlib: bool = False) -> None:
        self.file = file
        self.name = name
        self._by_zlib = by_zlib
        self._zip = _open_zip(file, name)
        self.entries: tuple[zipfile.ZipInfo, ...] = tuple(self._zip.infolist())
        """Every zip entry, in the order of the directory, folders included."""
        self._parts: dict[str, zipfile.ZipInfo] = {}
        for entry in self.entries:
            self._admit(entry)
        self._refuse_bomb()
        self._defaults: dict[str, str] = {}
        self._overrides: dict[str, str] = {}
        self._read_content_types()
        self.main = self._find_main()
        """The workbook's own part, usually `xl/workbook.xml`."""

    def find(self, part: str) -> str | None:
        """The part's name as the package spells it; None where there is no such part."""
        entry = self._parts.get(_key(part))
        return entry.filename if entry else None

    def entry(self, part: str) -> zipfile.ZipInfo:
        """The zip entry of a part. Raises `SheetError` where there is none."""
        entry = self._parts.get(_key(part))
        if entry is None:
            raise SheetError(
                f"{self.name}: the part {part} is missing; open and save the workbook in Excel, then try again"
            )
        return entry

    def content_type(self, part: str) -> str:
        """The content type of a part, or "" (ECMA-376 part 2, 10.1.2.4)."""
        key = _key(part)
        return self._overrides.get(key) or self._defaults.get(key.rpartition(".")[2], "")

    def relations(self, part: str) -> tuple[Relation, ...]:
        """The relationships of a part ("" for the package's own) that lead to parts which exist, in their order.

        Raises `SheetError` for a sheet that lies elsewhere: outside the package, or in none of its parts.
        """
        folder, base = posixpath.split(part.replace("\\", "/"))
        own = self.find(posixpath.join(folder, "_rels", f"{base}.rels"))
        found: list[Relation] = []
        if own is None:
            return ()

        def start(name: str, attributes: dict[str, str]) -> None:
            if name != "Relationship":
                return
            kind, path = attributes.get("Type", "").rpartition("/")[2], attributes.get("Target", "")
            is_external = attributes.get("TargetMode") == "External"
            target = None if is_external else self._resolve(folder, path)
            if target:
                found.append(Relation(attributes.get("Id", ""), kind, target))
            elif kind == "worksheet":
                where = "lies outside the file" if is_external else "isn't in the file"
                raise self.damaged(own or "", f"names a sheet that {where}: {path[:80]!r}")

        self.parse(own, start)
        return tuple(found)

    def related(self, part: str, kind: str) -> tuple[str, ...]:
        """The parts that a part leads to by relationships of one kind, such as `worksheet`, `styles`, `table`."""
        return tuple(relation.part for relation in self.relations(part) if relation.kind == kind)

    @property
    def is_signed(self) -> bool:
        """Whether it is digitally signed (ECMA-376 part 2, 13.2.4)."""
        return any(relation.kind == SIGNATURE for relation in self.relations(""))

    def open_part(self, part: str) -> Iterator[bytes]:
        """Inflate a part, 256 KiB at a time. Raises `SheetError` where it is damaged."""
        entry = self.entry(part)
        try:
            with self._zip.open(entry) as stream:
                if not self._by_zlib and isinstance(getattr(stream, "_decompressor", None), _INFLATING):
                    stream._decompressor = quick_zlib.decompressobj(-zlib.MAX_WBITS)  # type: ignore[attr-defined]
                while chunk := stream.read(STEP):
                    yield chunk
        except (*UNPACKING, quick_zlib.error) as error:
            raise self.damaged(part, f"can't be unpacked: {error}") from error

    def read_part(self, part: str) -> bytes:
        """A whole part. Raises `SheetError` where it is damaged, or larger than any small part is."""
        if self.entry(part).file_size > SMALL:
            raise self.damaged(part, "is larger than any workbook needs")
        return b"".join(self.open_part(part))

    def parse(
        self,
        part: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        """Feed a part to the callbacks of a `markup.Parser`. Raises `SheetError`."""
        parser = Parser(start, end, text)
        try:
            for chunk in self.open_part(part):
                parser.feed(chunk)
            parser.feed(b"", last=True)
        except MarkupError as error:
            raise self.damaged(part, str(error)) from error

    def damaged(self, part: str, what: str) -> SheetError:
        """The error for a part in which something is wrong: `what` completes "the part …"."""
        return SheetError(f"{self.name}: the part {part} {what}; open and save the workbook in Excel, then try again")

    def close(self) -> None:
        """Let go of the zip directory; the file stays its owner's."""
        self._zip.close()

    def _admit(self, entry: zipfile.ZipInfo) -> None:
        key = _key(entry.filename)
        if ".." in key.split("/"):
            raise SheetError(
                f"{self.name}: a part is called {entry.filename!r}, which leads out of the package; not opened"
            )
        if entry.is_dir():
            return
        if key in self._parts:
            raise SheetError(f"{self.name}: the package has two parts called {entry.filename}; save it again in Excel")
        if entry.flag_bits & 1:
            raise SheetError(f"{self.name}: the package is protected by a password; save it without one")
        self._parts[key] = entry

    def _refuse_bomb(self) -> None:
        unpacked = sum(entry.file_size for entry in self.entries)
        packed = sum(entry.compress_size for entry in self.entries)
        worst = max((e.file_size for e in self.entries if e.file_size > BOMB_RATIO * e.compress_size), default=0)
        if worst > BOMB_SIZE or (unpacked > BOMB_SIZE and unpacked > BOMB_RATIO * packed):
            raise SheetError(
                f"{self.name}: unpacks to {unpacked >> 20} MiB from {packed >> 10} KiB, as no workbook does; not opened"
            )

    def _read_content_types(self) -> None:
        if "mimetype" in self._parts and b"opendocument" in self.read_part("mimetype")[:200]:
            raise SheetError(f"{self.name}: this is an OpenDocument file; save it as .xlsx")
        if "[content_types].xml" not in self._parts:
            raise SheetError(f"{self.name}: a zip file, but no workbook; name an .xlsx or .xlsm file")

        def start(name: str, attributes: dict[str, str]) -> None:
            if name == "Default":
                self._defaults[attributes.get("Extension", "").lower()] = attributes.get("ContentType", "")
            elif name == "Override":
                self._overrides[_key(attributes.get("PartName", ""))] = attributes.get("ContentType", "")

        self.parse("[Content_Types].xml", start)

    def _find_main(self) -> str:
        main = next(iter(self.related("", "officeDocument")), None)
        if main is None:
            raise SheetError(f"{self.name}: the package has no workbook in it; name an .xlsx or .xlsm file")
        kind = self.content_type(main)
        if "sheet.binary" in kind or main.lower().endswith(".bin"):
            raise SheetError(f"{self.name}: this is a binary workbook (.xlsb); save it as .xlsx")
        if kind and not kind.endswith(WORKBOOK_TYPES) and kind.rpartition("/")[2] != "xml":
            raise SheetError(f"{self.name}: an Office file, but no workbook; name an .xlsx or .xlsm file")
        return main

    def _resolve(self, folder: str, target: str) -> str | None:
        """The part that a relationship's target names, relative to its source's folder (RFC 3986, 5.2)."""
        path = target.replace("\\", "/").partition("#")[0]
        whole = posixpath.normpath(posixpath.join("/", folder, path))
        return self.find(whole) or self.find(unquote(whole))


def _key(part: str) -> str:
    """Under what a part is found: part names are equal without regard to case (ECMA-376 part 2, 9.1.1.2)."""
    return part.replace("\\", "/").lstrip("/").lower()


def _open_zip(file: BinaryIO, name: str) -> zipfile.ZipFile:
    if name.startswith("~$"):
        raise SheetError(
            f"{name}: this is the lock file that Excel leaves beside an open workbook; name the workbook itself"
        )
    file.seek(0)
    start = file.read(8)
    if not start:
        raise SheetError(f"{name}: the file is empty; name a workbook")
    if start == OLE:
        raise SheetError(f"{name}: the workbook is encrypted, or an old .xls; save it as .xlsx without a password")
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise SheetError(f"{name}: not a workbook, or a damaged one ({error}); save it again as .xlsx") from error
