"""Row numbers that are no plain number, and sheets that lie outside the package."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from packages import SHEET
from workbooks import Tab, opened, text_row, write_workbook

from batch_runner.errors import SheetError

if TYPE_CHECKING:
    from pathlib import Path

RELATIONS = "xl/_rels/workbook.xml.rels"


def changed(path: Path, part: str, old: str, new: str) -> Path:
    with zipfile.ZipFile(path) as before:
        files = {name: before.read(name) for name in before.namelist()}
    assert old.encode() in files[part]
    files[part] = files[part].replace(old.encode(), new.encode(), 1)
    with zipfile.ZipFile(path, "w") as after:
        for name, data in files.items():
            after.writestr(name, data)
    return path


@pytest.mark.parametrize("number", ["-5", "", "4.0", "abc", " 3", "²", "+3", "1e1", "0x3", "1234567890"])
def test_a_row_number_that_is_no_plain_number_is_refused(tmp_path: Path, number: str) -> None:
    """Reader and writer would count on from it in two ways, so it is found before a row is sent."""
    path = write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=text_row(1, "A", "B") + text_row(2, "x", "y"))})
    with pytest.raises(SheetError, match="has a row whose number is"):
        opened(changed(path, SHEET, '<row r="2"', f'<row r="{number}"'))


def test_a_row_without_a_number_follows_the_one_before(tmp_path: Path) -> None:
    """As the standard says."""
    path = write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=text_row(1, "A", "B") + text_row(2, "x", "y"))})
    with opened(changed(path, SHEET, '<row r="2"', "<row")) as sheet:
        assert [row.number for row in sheet.rows()] == [1, 2]


@pytest.mark.parametrize(
    ("new", "what"),
    [
        ('Target="file:///C:/other.xlsx" TargetMode="External"', "names a sheet that lies outside the file"),
        ('Target="../../outside.xml"', "names a sheet that isn't in the file"),
        ('Target="worksheets/gone.xml"', "names a sheet that isn't in the file"),
    ],
)
def test_a_sheet_that_lies_elsewhere_is_said(tmp_path: Path, new: str, what: str) -> None:
    """It isn't passed over: another sheet would be read in its place."""
    path = write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=text_row(1, "A", "B") + text_row(2, "x", "y"))})
    with zipfile.ZipFile(path) as package:
        relations = package.read(RELATIONS).decode()
    target = next(one for one in relations.split() if one.startswith('Target="') and "sheet1" in one).rstrip("/>")
    with pytest.raises(SheetError, match=what):
        opened(changed(path, RELATIONS, target, new))
