"""What must hold of a batch that was killed, whenever it was: asserted on the service's side and in the output."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import msgspec
from openpyxl import Workbook, load_workbook

from batch_runner.journal.view import JournalView

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from remembering_service import Service

HEADERS = ("Row", "Amount")
FIRST = 2
"""The number of the first data row."""


class Record(msgspec.Struct, frozen=True):
    """A row of the output."""

    row: str
    amount: str
    run_id: str
    status: str
    result: str
    error: str


def write_sheet(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """A sheet with the columns `HEADERS`, as CSV or workbook."""
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([HEADERS, *rows])
        return
    book = Workbook()
    assert book.active is not None
    for row in (HEADERS, *rows):
        book.active.append(list(row))
    book.save(path)


def numbered(count: int) -> list[tuple[str, str]]:
    """So many rows: `r0`, `r1`, …, each with an amount."""
    return [(f"r{number}", f"{number}.50") for number in range(count)]


def read_output(path: Path) -> list[Record]:
    """The rows of an output, checked to have our four columns at its end."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            table: list[tuple[object, ...]] = [tuple(row) for row in csv.reader(file)]
    else:
        book = load_workbook(path)
        assert book.active is not None
        table = list(book.active.iter_rows(values_only=True))
    assert table[0] == (*HEADERS, "run_id", "status", "result", "error")
    return [Record(*("" if cell is None else str(cell) for cell in row)) for row in table[1:]]


def lost_rows(journal: Path) -> set[int]:
    """Rows (by their place, from 0) whose intent is in the journal, and neither an answer nor an end."""
    if not journal.exists():
        return set()
    with JournalView.open(journal) as view:
        batches = view.batches()
        placed = view.outcomes(batches[-1].id) if batches else ()
        return {row.number - FIRST for row in placed if row.status == "unknown"}


def known_runs(journal: Path) -> set[str]:
    """The run ids that the journal has recorded."""
    if not journal.exists():
        return set()
    with JournalView.open(journal) as view:
        return {row.run_id for batch in view.batches() for row in view.outcomes(batch.id)} - {""}


def assert_kept(output: Path, rows: Sequence[Sequence[str]], service: Service, lost: set[int]) -> None:
    """Every row once, in order, with its own run; no row started twice; `unknown` where the answer was lost only."""
    records = read_output(output)
    assert [(record.row, record.amount) for record in records] == [tuple(row) for row in rows]
    assert max(service.starts_of.values(), default=0) <= 1
    assert {place for place, record in enumerate(records) if record.status == "unknown"} == lost
    for record in records:
        if record.status == "unknown":
            assert (record.run_id, record.result) == ("", "")
            assert "a run may exist" in record.error
        else:
            assert (record.status, record.error) == ("success", "")
            assert service.rows[record.run_id] == record.row
            assert json.loads(record.result) == {"row": record.row}


def assert_really_lost(lost: set[int], rows: list[tuple[str, str]], known: set[str], service: Service) -> None:
    """What the service has started is either known by its run id, or lost; and what is lost has no known run."""
    known_names = {service.rows[run_id] for run_id in known}
    lost_names = {rows[place][0] for place in lost}
    assert lost_names.isdisjoint(known_names)
    assert set(service.starts) <= known_names | lost_names
