"""The zip package around a changed part: every other entry stays byte for byte."""

from __future__ import annotations

import struct
import sys
import zipfile
import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.errors import SheetError
from batch_runner.sheet.xlsx_append import sheet_xml
from batch_runner.sheet.xlsx_append.sheet_xml import Change, copy_package


class Unseekable(BytesIO):
    """A stream that makes `zipfile` write data descriptors: sizes that follow the data."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError

    def seek(self, *_place: int) -> int:
        raise OSError


def copied(source: bytes, part: str, *chunks: bytes) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(source)) as package:
        change = Change(package.getinfo(part), chunks)
    copy_package(BytesIO(source), target, [change])
    return target.getvalue()


def local_entry(package: bytes, name: str) -> bytes:
    """An entry's local header, data and descriptor: all bytes up to what follows it."""
    with zipfile.ZipFile(BytesIO(package)) as opened:
        places = sorted([entry.header_offset for entry in opened.infolist()] + [opened.start_dir])
        begin = opened.getinfo(name).header_offset
    return package[begin : places[places.index(begin) + 1]]


def facts(package: bytes) -> dict[str, tuple[object, ...]]:
    """What the directory says of each entry, but for its place."""
    with zipfile.ZipFile(BytesIO(package)) as opened:
        return {
            entry.filename: (
                entry.date_time, entry.compress_type, entry.flag_bits, entry.comment, entry.extra, entry.CRC,
                entry.create_system, entry.external_attr, entry.internal_attr, entry.file_size, entry.compress_size,
            )
            for entry in opened.infolist()
        }  # fmt: skip


def odd_package(*, descriptors: bool) -> bytes:
    """A package with stored, deflated and empty entries, a folder, comments, extra fields and non-ASCII names."""
    stream = Unseekable() if descriptors else BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        package.comment = b"made by hand"
        for number, name in enumerate(("z.xml", "sheet.xml", "döc/a.bin", "empty/", "a.xml")):
            entry = zipfile.ZipInfo(name, (1999, 12, 31, 23, 59, 2 * number))
            entry.comment = f"comment {number}".encode()
            entry.extra = struct.pack("<2H3s", 0xCAFE, 3, b"abc")
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            package.writestr(entry, b"" if name.endswith("/") else bytes(range(256)) * number * 10)
    return stream.getvalue()


@pytest.mark.parametrize("descriptors", [False, True])
def test_other_entries_keep_bytes_order_date_method_and_flags(descriptors: bool) -> None:
    """Whatever wrote the package, an entry that isn't changed is copied as it stands, directory record included."""
    source = odd_package(descriptors=descriptors)
    out = copied(source, "sheet.xml", b"new ", b"bytes" * 9999)
    with zipfile.ZipFile(BytesIO(out)) as package:
        assert package.testzip() is None
        assert package.read("sheet.xml") == b"new " + b"bytes" * 9999
        assert package.comment == b"made by hand"
    before, after = facts(source), facts(out)
    assert list(before) == list(after)
    for name in set(before) - {"sheet.xml"}:
        assert before[name] == after[name]
        assert local_entry(source, name) == local_entry(out, name)


def test_the_changed_entry_keeps_what_isnt_its_size() -> None:
    """Date, name, comment, extra fields and attributes of the changed part stay; its method is deflate."""
    out = copied(odd_package(descriptors=True), "sheet.xml", b"new")
    with zipfile.ZipFile(BytesIO(out)) as package:
        entry = package.getinfo("sheet.xml")
    assert entry.date_time == (1999, 12, 31, 23, 59, 2)
    assert entry.comment == b"comment 1"
    assert entry.extra == struct.pack("<2H3s", 0xCAFE, 3, b"abc")
    assert entry.compress_type == zipfile.ZIP_DEFLATED
    assert not entry.flag_bits & 8


def test_nothing_changed_is_the_same_file() -> None:
    """With no changes at all, the copy is the file."""
    source, target = odd_package(descriptors=False), BytesIO()
    copy_package(BytesIO(source), target, [])
    assert target.getvalue() == source


def test_entries_out_of_order_and_bytes_before_them() -> None:
    """The directory's order isn't the file's, and something stands before the first entry: both orders stay."""
    source = odd_package(descriptors=False)
    with zipfile.ZipFile(BytesIO(source)) as package:
        start, end = package.start_dir, source.rindex(b"PK\5\6")
    records = source[start:end].split(b"PK\1\2")[1:]
    turned = source[:start] + b"".join(b"PK\1\2" + record for record in reversed(records)) + source[end:]
    out = copied(b"leading bytes" + turned, "sheet.xml", b"new")
    assert list(facts(out)) == list(reversed(facts(source)))
    assert local_entry(out, "z.xml") == out[: len(local_entry(out, "z.xml"))] == local_entry(source, "z.xml")


def test_zip64_sizes_stay_where_they_are_used() -> None:
    """An entry whose sizes stand in a zip64 extra field without need keeps them there."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as package:
        package.writestr("sheet.xml", "old")
        with package.open("big.bin", "w", force_zip64=True) as part:
            part.write(b"x" * 1000)
    source = stream.getvalue()
    out = copied(source, "sheet.xml", b"new" * 50)
    assert local_entry(source, "big.bin") == local_entry(out, "big.bin")
    assert facts(source)["big.bin"] == facts(out)["big.bin"]


def test_a_large_part_gets_room_for_64_bit_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that may pass 4 GiB has its sizes in a zip64 extra field of its local header."""
    monkeypatch.setattr(sheet_xml, "ROOM_FROM", 2)
    out = copied(odd_package(descriptors=False), "sheet.xml", b"new")
    assert local_entry(out, "sheet.xml")[18:26] == b"\xff" * 8
    with zipfile.ZipFile(BytesIO(out)) as package:
        assert package.read("sheet.xml") == b"new"


def test_a_part_that_becomes_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there was no room for 64-bit sizes, a part of 4 GiB is an error, not a damaged file."""
    monkeypatch.setattr(sheet_xml, "WIDE", 100)
    with pytest.raises(SheetError, match="larger than 4 GiB"):
        copied(odd_package(descriptors=False), "sheet.xml", bytes(101))


@given(st.lists(st.binary(max_size=2000), max_size=5), st.integers(0, 3))
def test_any_parts(contents: list[bytes], changed: int) -> None:
    """Whatever the parts hold, all come back, the changed one with its new bytes."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as package:
        for number, content in enumerate(contents):
            package.writestr(f"{number}.xml", content)
    if changed < len(contents):
        out = copied(stream.getvalue(), f"{changed}.xml", b"a", b"", b"b")
        with zipfile.ZipFile(BytesIO(out)) as package:
            read = [package.read(f"{number}.xml") for number in range(len(contents))]
        assert read == [*contents[:changed], b"ab", *contents[changed + 1 :]]


@pytest.mark.long
@pytest.mark.parametrize("fast", [False, True])
def test_a_changed_part_is_whole_and_small_with_and_without_the_extra_fast(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever library deflates it, the standard library reads it back; both come near to zlib's own level."""
    if not fast:
        monkeypatch.setitem(sys.modules, "isal", None)
    rows = [b'<c r="A%d" s="3"><v>%d.%02d</v></c>' % (n, n * n, n % 100) for n in range(20_000)]
    written = copied(odd_package(descriptors=False), "sheet.xml", *rows, b"")
    with zipfile.ZipFile(BytesIO(written)) as package:
        assert package.testzip() is None
        assert package.read("sheet.xml") == b"".join(rows)
        assert package.getinfo("sheet.xml").compress_size < 1.5 * len(zlib.compress(b"".join(rows)))
