"""The hidden name `_xlnm._FilterDatabase` that a sheet's autofilter has in the workbook's own part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.splice.tags import Edit, edited, elements

if TYPE_CHECKING:
    from batch_runner.sheet.splice.ranges import Range

NAME = "_xlnm._FilterDatabase"


def sheet_position(workbook: bytes, name: str) -> int:
    """A sheet's position among all sheets of the workbook, from 0. Raises `ValueError` where there is none."""
    sheets = [element for element in elements(workbook) if element.path == ("workbook", "sheets", "sheet")]
    return [sheet.attributes.get("name") for sheet in sheets].index(name)


def grown_name(workbook: bytes, position: int, new: Range) -> bytes | None:
    """The workbook's part with the name over the filter's new range; None where the sheet has no such name.

    `position` is the sheet's among all sheets of the workbook, from 0: `localSheetId` counts so (ECMA-376 part 1,
    18.2.5). What stands before the range (`'My sheet'!`) stays to the letter.
    """
    for element in elements(workbook):
        marks = element.attributes
        if (
            element.path[-1] == "definedName"
            and marks.get("name") == NAME
            and marks.get("localSheetId") == str(position)
        ):
            close = workbook.rindex(b"</", element.opened, element.end)
            sheet, mark, _old = workbook[element.opened : close].rpartition(b"!")
            return edited(workbook, [Edit(element.opened, close, sheet + mark + new.absolute.encode())])
    return None
