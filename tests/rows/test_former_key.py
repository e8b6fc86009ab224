"""A row whose key an earlier release made otherwise is the same row: an upgrade starts nothing again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from journals import batch_info, made_night, steps_of
from openpyxl import Workbook

from batch_runner.plan.plan import Keep, Send
from batch_runner.rows.keys import key_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
@pytest.mark.parametrize(
    ("text", "former"),
    [
        ('Id,Name\n"=""007""",x\n', {"Id": '="007"', "Name": "x"}),
        ("Id,Name\n007,x\x1a", {"Id": "007", "Name": "x\x1a"}),
        ("Id,Name\n007,x\x1a\r\n", {"Id": "007", "Name": "x\x1a"}),
        ("\ufeff\ufeffId,Name\n007,x\n", {"\ufeffId": "007", "Name": "x"}),
    ],
)
def test_a_text_file_that_was_read_otherwise(tmp_path: Path, text: str, former: dict[str, str]) -> None:
    """`="007"`, a Ctrl-Z in the last cell, a second mark before a header: what ran so is carried over as changed."""
    path = tmp_path / "in.csv"
    path.write_bytes(text.encode())
    journal = made_night(tmp_path, (key_of(former), key_of(former)))
    (step,) = steps_of(journal, path, batch_info())
    assert step == Keep(2, 1, "success", changed=True)


@pytest.mark.parametrize(
    ("code", "number", "former"),
    [('"INV-"0', 5, "5"), ('0"/2026"', 17, "17"), ("#,##0,", 5000, "5"), ('"R-"00000', 123, "R-00123"),
     ("0.00E+00;0.00E+00", -5, "5.00E+00"), ("0.00", 10, "10.00"), ("dd/mm/yy", 46081, "2026-02-28")],
)  # fmt: skip
def test_a_number_that_was_sent_otherwise(tmp_path: Path, code: str, number: float, former: str) -> None:
    """A number format that an earlier release read in another way: its row is found under what was sent then."""
    path = tmp_path / "in.xlsx"
    book = Workbook()
    assert book.active is not None
    for row in (("Id", "Amount"), ("a", number), ("b", number)):
        book.active.append(row)
    book.active["B2"].number_format = code
    book.active["B3"].number_format = code
    book.save(path)
    key = key_of({"Id": "a", "Amount": former})
    info = msgspec.structs.replace(batch_info(), input=str(path))
    first, second = steps_of(made_night(tmp_path, (key, key)), path, info)
    assert isinstance(first, Keep), first
    assert isinstance(second, Send)
    assert json.dumps(first.status) == '"success"'
