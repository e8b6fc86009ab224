"""Public CSV files, where BATCH_RUNNER_COLLECTIONS names a folder of them: read, written back, compared."""

from __future__ import annotations

import io
import json
import os
import re
from codecs import BOM_UTF8
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from csvfiles import OURS, appended, records_of

from batch_runner.errors import SheetError
from batch_runner.sheet.csv.encoding import Encoding, end_of_text, find_encoding, open_text
from batch_runner.sheet.csv.reader import open_csv
from batch_runner.sheet.csv.records import Dialect, Records, dialect_of_one_column, find_dialect, line_end, line_ends
from batch_runner.sheet.export import open_written
from batch_runner.sheet.model import Reading, RowKind
from batch_runner.sheet.snapshot import take_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.sheet.model import Sheet

pytestmark = [
    pytest.mark.collections,
    pytest.mark.skipif("BATCH_RUNNER_COLLECTIONS" not in os.environ, reason="BATCH_RUNNER_COLLECTIONS isn't set"),
]
LABELS = {"comma": ",", "semicolon": ";", "tab": "\t", "vslash": "|"}
RESULT = ("r1", "success", '{"text": "ü, 日;\t|\n"}', "=x")
READ_BACK = (*RESULT[:3], "'=x")


def files(ending: str) -> list[Path]:
    return sorted(path for path in Path(os.environ["BATCH_RUNNER_COLLECTIONS"]).rglob(f"*{ending}") if path.is_file())


def test_real_files_are_read_and_written_back(tmp_path: Path) -> None:
    """Each file is read as the stdlib's reader has it and written back with its own bytes and four columns on the
    right rows, or refused with one sentence that names it.
    """
    seen: Counter[str] = Counter()
    for path in [*files(".csv"), *files(".tsv")]:
        seen[what_became_of(path, tmp_path)] += 1
    print(*(f"{count:6} {what}" for what, count in seen.most_common()), sep="\n")
    assert seen["read"] >= 100


def what_became_of(path: Path, folder: Path) -> str:
    """ "read", or the kind of its refusal: the sentence without the file's own names and numbers."""
    try:
        sheet = open_csv(path, Reading(as_shown=True), folder)
    except SheetError as refusal:
        name, _, sentence = str(refusal).partition(": ")
        return re.sub(r"\d+|'.*'", "…", sentence.split(";", maxsplit=1)[0]) if path.name in name else str(refusal)
    with sheet:
        check(sheet, folder)
    return "read"


def check(sheet: Sheet, folder: Path) -> None:
    original = sheet.path.read_bytes()
    encoding, delimiter, preface, text, tail = decoded(sheet.path, folder)
    rows = list(sheet.rows())
    if any("a CR that ends no line" in note for note in sheet.notes):
        return  # the stdlib's reader can't have one
    for row, record in zip(rows, records_of(text, delimiter), strict=False):
        assert row.texts == tuple((record + [""] * sheet.width)[: sheet.width]), (sheet.path, row.number)
    data = [row.number for row in rows if row.kind is RowKind.DATA]
    assert sheet.row_count == len(data)

    output, notes = appended(sheet, dict.fromkeys(data, RESULT))
    is_widened = notes or output.startswith(BOM_UTF8)
    written = (
        output.removesuffix(tail)
        .decode("utf-8-sig" if is_widened else encoding.codec)
        .lstrip("\ufeff")
        .removeprefix(preface)
    )
    for old, new in zip(records(text, delimiter), records(written, delimiter), strict=True):
        end = line_end(old)
        assert new.startswith(old.removesuffix(end)), sheet.path
        assert new.endswith(end), sheet.path

    path = folder / f"out{sheet.path.suffix}"
    path.write_bytes(output)
    with open_written(path, sheet) as back:
        start = back.columns[-4].index
        for row, again in zip(rows, back.rows(), strict=True):
            assert (row.number, row.kind) == (again.number, again.kind)
            if row.kind is RowKind.DATA:
                assert again.texts[: sheet.width] == row.texts
                assert again.texts[start:] == READ_BACK
        refreshed, _notes = appended(back, dict.fromkeys(data, RESULT), OURS, 4)
    assert refreshed == output, sheet.path
    assert sheet.path.read_bytes() == original


def decoded(path: Path, folder: Path) -> tuple[Encoding, str, str, str, bytes]:
    """The file's encoding, delimiter, `sep=` line, the text below it, and what stands behind that."""
    snapshot = take_snapshot(path, folder)
    with snapshot.file:
        encoding = find_encoding(snapshot, path.name, None)
        end = end_of_text(snapshot, encoding)
        text = open_text(snapshot, encoding, end).read()
    sample = text[: 1 << 16]
    dialect = find_dialect(sample, path.name, None, is_whole=len(text) < 1 << 16)
    dialect = dialect or dialect_of_one_column([text], path.name)
    return encoding, dialect.delimiter, dialect.preface, text.removeprefix(dialect.preface), path.read_bytes()[end:]


def records(text: str, delimiter: str) -> Iterator[str]:
    lines = io.StringIO(text, newline=line_ends(text[: 1 << 16]))
    return (record for record, _size in Records(iter(lines), Dialect(delimiter)))


def test_delimiters_agree_with_the_labels(tmp_path: Path) -> None:
    """Of the labelled files whose delimiter is one of the four, at least 98 % of those that aren't refused as unclear
    are read with the labelled one; at most 5 % are refused so.
    """
    right, wrong, unclear = 0, [], []
    for path, delimiter in labelled():
        snapshot = take_snapshot(path, tmp_path)
        with snapshot.file:
            text = open_text(snapshot, Encoding("latin-1")).read(1 << 16)
        try:
            found = find_dialect(text, "any.csv", None, is_whole=len(text) < 1 << 16)
        except SheetError:
            unclear.append(path.name)
            continue
        if delimiter not in text or (found is not None and found.delimiter == delimiter):
            right += 1
        else:
            wrong.append((path.name, delimiter, found))
    if not right:
        pytest.skip("the folder holds no labelled files (ws-garcia/CSVsniffer)")
    print(right, "right,", len(wrong), "wrong:", *wrong, f"; {len(unclear)} unclear:", *unclear)
    assert right / (right + len(wrong)) >= 0.98
    assert len(unclear) <= 0.05 * (right + len(wrong) + len(unclear))


def test_the_spectrum_is_read_as_it_says(tmp_path: Path) -> None:
    """Each file of max-mapper/csv-spectrum has the rows that its JSON has (one's JSON has another phone number)."""
    pairs = [(path, path.parent.parent / "json" / f"{path.stem}.json") for path in files(".csv")]
    pairs = [(path, truth) for path, truth in pairs if path.parent.name == "csvs" and truth.is_file()]
    pairs = [pair for pair in pairs if pair[0].stem != "location_coordinates"]
    if not pairs:
        pytest.skip("the folder doesn't hold max-mapper/csv-spectrum")
    for path, truth in pairs:
        with open_csv(path, Reading(header_row=1), tmp_path) as sheet:
            names = [column.name for column in sheet.columns]
            rows = [dict(zip(names, row.texts, strict=True)) for row in sheet.rows() if row.kind is RowKind.DATA]
        is_crlf = b"\r\n" in path.read_bytes()
        text = truth.read_text("utf-8")
        expected = json.loads(text if is_crlf else text.replace("\\r\\n", "\\n"))  # as git may have stored the file
        assert rows == (expected if isinstance(expected, list) else [expected]), path.name


def labelled() -> Iterator[tuple[Path, str]]:
    """The files that CSVsniffer's annotations describe, with their delimiters."""
    folders = {"CCSV-manual_Dialect_Annotation": "CSV_Wrangling", "POLLOCK-dialect_annotations": "CSV"}
    folders["W3C-CSVW-dialect_annotations"] = "W3C-CSVW"
    for labels in files(".txt"):
        folder = folders.get(labels.stem)
        if labels.parent.name != "ground truth" or folder is None:
            continue
        for line in islice(labels.read_text("utf-8").splitlines(), 2, None):
            name, _encoding, delimiter, *_rest = line.split("|")
            path = labels.parent.parent / folder / name
            if delimiter in LABELS and path.is_file():
                yield path, LABELS[delimiter]
