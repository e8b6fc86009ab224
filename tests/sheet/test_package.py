"""The zip package of a workbook: what is refused, and what is safe to open."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from typing import TYPE_CHECKING

import pytest
from packages import PKG, changed
from workbooks import Tab, opened, read_rows, text_row, write_workbook

from batch_runner.errors import SheetError
from batch_runner.sheet.export import append_columns
from batch_runner.sheet.model import NewColumns, Reading

if TYPE_CHECKING:
    from pathlib import Path

ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 20) for n in range(10)
)
ROWS = text_row(1, "A") + text_row(2, "x")


def workbook(folder: Path) -> Path:
    return write_workbook(folder / "a.xlsx", {"S": Tab(rows=ROWS)})


def sheet_bomb(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "xl/worksheets/sheet1.xml", b"<worksheet>" + b" " * (300 << 20))
    return path


def entity_bomb(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "xl/worksheets/sheet1.xml", ENTITIES + b"]>" + Tab(rows=text_row(1, "&k;")).part)
    return path


def string_entities(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "xl/sharedStrings.xml", ENTITIES + b"]><sst><si><t>&k;</t></si></sst>")
    return path


def climbing_name(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "xl/../../etc/passwd", b"x")
    return path


def two_of_one_name(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "XL/Workbook.xml", b"x")
    return path


def encrypted(folder: Path) -> Path:
    path = folder / "a.xlsx"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4096))
    return path


def truncated(folder: Path) -> Path:
    path = workbook(folder)
    path.write_bytes(path.read_bytes()[:-200])
    return path


def broken_part(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "xl/worksheets/sheet1.xml", Tab(rows=ROWS).part[:-30])
    return path


def flipped_byte(folder: Path) -> Path:
    path = workbook(folder)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as package:
        start = package.getinfo("xl/worksheets/sheet1.xml").header_offset + 30 + len("xl/worksheets/sheet1.xml")
    data[start + 20] ^= 0xFF
    path.write_bytes(data)
    return path


def lock_file(folder: Path) -> Path:
    path = folder / "~$a.xlsx"
    path.write_bytes(b"\x05Someone" + bytes(100))
    return path


def open_document(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "mimetype", b"application/vnd.oasis.opendocument.spreadsheet")
    return path


def binary_workbook(folder: Path) -> Path:
    path = workbook(folder)
    changed(path, "xl/workbook.bin", b"x")
    with zipfile.ZipFile(path) as package:
        links = package.read("_rels/.rels").replace(b"workbook.xml", b"workbook.bin")
    changed(path, "_rels/.rels", links)
    return path


def no_workbook(folder: Path) -> Path:
    path = folder / "a.xlsx"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("readme.txt", "hello")
    return path


def text(folder: Path) -> Path:
    path = folder / "a.xlsx"
    path.write_text("A;B\n1;2\n")
    return path


HOSTILE = {
    sheet_bomb: "as no workbook does",
    entity_bomb: "document type or entities",
    string_entities: "document type or entities",
    climbing_name: "leads out of the package",
    two_of_one_name: "two parts called",
    encrypted: "encrypted, or an old .xls",
    truncated: "not a workbook, or a damaged one",
    broken_part: "is damaged",
    flipped_byte: "xl/worksheets/sheet1.xml",
    lock_file: "lock file",
    open_document: "OpenDocument",
    binary_workbook: "binary workbook",
    no_workbook: "no workbook",
    text: "not a workbook",
}


@pytest.mark.long
@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_damaged_or_hostile_package_gets_one_sentence(tmp_path: Path, make: object) -> None:
    """Whatever is wrong with a package, opening it says so in a sentence that names the file, in a second at most."""
    assert callable(make)
    path = make(tmp_path)
    begun = time.process_time()
    with pytest.raises(SheetError) as refused:
        opened(path, Reading())
    assert time.process_time() - begun < 1
    assert HOSTILE[make] in str(refused.value)
    assert path.name in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.long
def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """A process that opens a sheet of 300 MiB from 300 KiB stays under 200 MB."""
    path = sheet_bomb(tmp_path)
    program = (
        "import sys; from pathlib import Path; from batch_runner.sheet.export import open_sheet, SheetError; "
        "from batch_runner.sheet.model import Reading; path = Path(sys.argv[1])\n"
        "try: open_sheet(path, Reading(), path.parent)\n"
        "except SheetError: print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 200 << 10


def test_parts_are_found_by_relationships_in_whatever_case(tmp_path: Path) -> None:
    """A sheet's part may be called anything, and its relationship may be absolute and spelt in other letters."""
    path = workbook(tmp_path)
    with zipfile.ZipFile(path) as package:
        links = package.read("xl/_rels/workbook.xml.rels")
    changed(path, "xl/_rels/workbook.xml.rels", links.replace(b"worksheets/sheet1.xml", b"/XL/../odd%20NAME.data"))
    changed(path, "Odd name.data", Tab(rows=text_row(1, "found")).part)
    with opened(path) as sheet:
        assert (sheet.part, sheet.columns[0].name) == ("Odd name.data", "found")


def test_part_names_with_backslashes_are_read(tmp_path: Path) -> None:
    """Some programs of Windows write them so, in the package's directory and in its relationships."""
    path = workbook(tmp_path)
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    with zipfile.ZipFile(path, "w") as package:
        for name, content in parts.items():
            entry = zipfile.ZipInfo("placeholder")
            entry.filename = name if name == "[Content_Types].xml" else name.replace("/", "\\")
            package.writestr(entry, content.replace(b"worksheets/", b"worksheets\\"))
    with opened(path) as sheet:
        assert sheet.part.replace("\\", "/") == "xl/worksheets/sheet1.xml"  # zipfile has done so on Windows
        assert [row.texts for row in sheet.rows()] == [("A",), ("x",)]
        with (tmp_path / "out.xlsx").open("w+b") as target:
            append_columns(sheet, target, NewColumns(("new",)), [(2, ("x",))])
    assert read_rows(tmp_path / "out.xlsx")[0].texts[-1] == "new"


def test_a_digital_signature_is_told_of(tmp_path: Path) -> None:
    """What is written is another file: the signature won't hold for it."""
    path = workbook(tmp_path)
    with opened(path) as sheet:
        assert not any("signed" in note for note in sheet.notes)
    with zipfile.ZipFile(path) as package:
        links = package.read("_rels/.rels")
    kind = f"{PKG}/relationships/digital-signature/origin"
    link = f'<Relationship Id="s" Type="{kind}" Target="_xmlsignatures/origin.sigs"/></Relationships>'
    changed(path, "_rels/.rels", links.replace(b"</Relationships>", link.encode()))
    changed(path, "_xmlsignatures/origin.sigs", b"")
    with opened(path) as sheet:
        assert any("signed" in note and "won't hold" in note for note in sheet.notes)
