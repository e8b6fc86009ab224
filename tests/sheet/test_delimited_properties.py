"""What holds for any table, in any dialect and encoding."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from csvfiles import OURS, appended, kinds_of, records_of, sheet_of
from hypothesis import assume, given
from hypothesis import strategies as st

from batch_runner.errors import SheetError
from batch_runner.sheet.csv.records import Dialect, OpenQuote, Records, whole_fields
from batch_runner.sheet.csv.writer import field, harmless
from batch_runner.sheet.export import open_written
from batch_runner.sheet.model import Reading, RowKind, column_letter, refuse_ambiguity

CELLS = st.text(st.sampled_from('ab1é€ ,;\t|"\r\n=-\u2028\x0b'), max_size=6)
CODECS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "gb18030"])
DELIMITERS = st.sampled_from(",;\t|")
RAW = st.text(st.sampled_from('a1 ,"\r\n'), max_size=40)
LINES = st.lists(st.sampled_from(["a", "1", " ", ",", '"', "\n", "\r\n"]), max_size=40).map("".join)
NEW = st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=8)] * 4)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """A header of distinct names and records no wider than it, blank ones included."""
    width = draw(st.integers(1, 5))
    header = [f"h{index}{draw(CELLS)}" for index in range(width)]
    return [header, *draw(st.lists(st.lists(CELLS, max_size=width), max_size=8))]


def written_as(table: list[list[str]], delimiter: str, end: str, all_quoted: bool) -> str:
    """The stdlib's writer leaves a LF unquoted where lines end in CR, so this one stands here."""

    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if all_quoted or set(text) & set(delimiter + '"\r\n') else text

    return "".join(delimiter.join(map(quoted, record)) + end for record in table)


@given(
    tables(),
    DELIMITERS,
    CODECS,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.data(),
)
def test_any_table_reads_and_writes_back(
    table: list[list[str]], delimiter: str, codec: str, end: str, all_quoted: bool, data: st.DataObject
) -> None:
    """Every table reads as the stdlib's reader has it; with new columns every old record keeps its bytes and its
    cells, and the new ones come back on the right rows; a refresh with the same cells gives the same bytes.
    """
    text = written_as(table, delimiter, end, all_quoted)
    expected = records_of(text, delimiter)
    reading = Reading(header_row=1, delimiter=delimiter, encoding=codec.removesuffix("-sig"))
    with tempfile.TemporaryDirectory() as folder, sheet_of(Path(folder), text.encode(codec), reading=reading) as sheet:
        rows = list(sheet.rows())
        assert [row.texts for row in rows] == [tuple(pad(one, sheet.width)) for one in expected[: len(rows)]]
        assert not "".join(map("".join, expected[len(rows) :])).strip()
        numbers = [row.number for row in rows if row.kind is RowKind.DATA]
        assert sheet.row_count == len(numbers)

        cells = {number: data.draw(NEW) for number in numbers}
        output, _notes = appended(sheet, cells)
        (Path(folder) / "out.csv").write_bytes(output)
        with open_written(Path(folder) / "out.csv", sheet) as back:
            assert kinds_of(back) == kinds_of(sheet)
            start = back.columns[-4].index
            for row, again in zip(rows, back.rows(), strict=True):
                assert again.texts[: len(row.texts)] == row.texts
                if row.number in cells:
                    assert again.texts[start:] == tuple(map(harmless, cells[row.number]))
            assert appended(back, cells, OURS, 4)[0] == output


def pad(fields: list[str], width: int) -> list[str]:
    return (fields + [""] * width)[:width]


@given(RAW)
def test_records_are_the_readers(text: str) -> None:
    """Joined, the records are the text; each parses to what the stdlib's reader makes of it, as many fields as said."""
    if is_open(text):
        with pytest.raises(OpenQuote) as opened:
            list(records_in(text))
        assert 1 <= opened.value.line <= len(list(io.StringIO(text, newline="")))
        return
    records = list(records_in(text))
    assert "".join(record for record, _size in records) == text
    assert [records_of(record)[0] for record, _size in records] == records_of(text)
    assert [size for _record, size in records] == [len(fields) for fields in records_of(text)]


def records_in(text: str) -> Records:
    return Records(iter(io.StringIO(text, newline="")), Dialect(","))


def is_open(text: str) -> bool:
    """Whether the stdlib's reader is still inside a quote at the end: then it takes in a line that is added."""
    return list(csv.reader([*io.StringIO(text, newline=""), "x,y"]))[-1] != ["x", "y"]


@given(LINES)
def test_the_survey_agrees_with_a_full_reading(text: str) -> None:
    """What the cheap look at the records counts and refuses is what a full reading by the stdlib's reader finds."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with sheet_of(Path(folder), "x" + text, reading=Reading(header_row=1, delimiter=",")) as sheet:
                found = f"{sheet.row_count} rows of {sheet.width}"
                refuse_ambiguity(sheet, sheet.columns, sheet.strays)
        except SheetError as refusal:
            found = str(refusal)
            assume("quotes nothing" not in found)
    assert expected_of("x" + text) in found


def expected_of(text: str) -> str:
    """The counts, or the part of the refusal that names the place."""
    if is_open(text):
        return "" if stray_in(text) else "never closes"
    headers = headers_in(text)
    names = [header for header in headers if header]
    if len(set(names)) < len(names):
        return "two headers"
    data = [record for record in records_of(text)[1:] if "".join(record).strip()]
    return stray_in(text) or f"{len(data)} rows of {len(headers)}"


def headers_in(text: str) -> list[str]:
    headers = [header if header.strip() else "" for header in records_of(text)[0]]
    return headers[: max(index + 1 for index, header in enumerate(headers) if header)]


def stray_in(text: str) -> str:
    """The name of the first cell with text under no header, or ""."""
    headers = headers_in(text)
    for number, record in enumerate(records_of(text)[1:], 2):
        for index, cell in enumerate(record):
            if cell.strip() and not "".join(headers[index : index + 1]):
                return f"and {column_letter(index)}{number}: there is text"
    return ""


@given(RAW, st.integers(1, 4))
def test_the_first_fields_of_a_record_can_be_cut_off(text: str, count: int) -> None:
    """The pattern that cuts a record after some fields agrees with the reader on where they end."""
    if is_open(text):
        return
    for record, size in records_in(text):
        if size > count:
            match = whole_fields(",", count).match(record)
            assert match is not None
            assert records_of(match[0][:-1] + "\n")[0] == records_of(record)[0][:count] or match[0] == ","


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), DELIMITERS)
def test_a_new_field_reads_back(text: str, delimiter: str) -> None:
    """A new text is one field that the reader gives back as it was made harmless, and never starts a formula."""
    record = records_of(f"x{delimiter}{field(text, delimiter)}{delimiter}y\r\n", delimiter)
    assert record == [["x", harmless(text), "y"]]
    assert not harmless(text).startswith(("=", "@", "\t", "\r"))
