"""The output is hers, too: what a person changes in it since it was written is carried over, named, or kept aside."""

from __future__ import annotations

import csv
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept_promises import numbered
from openpyxl import Workbook, load_workbook
from program import run_program
from remembering_service import Service, on_a_socket
from systems import slashes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADERS = ("Row", "Amount")
ENDINGS = pytest.mark.parametrize("ending", ["csv", "xlsx"])
Table = list[list[str]]


@pytest.fixture
def service() -> Iterator[Service]:
    with on_a_socket(Service(looks=1)) as service:
        yield service


def read(path: Path) -> Table:
    """Every cell of a sheet."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file))
    page = load_workbook(path).active
    assert page is not None
    return [["" if cell is None else str(cell) for cell in row] for row in page.iter_rows(values_only=True)]


def write(path: Path, table: Table) -> None:
    """As a person's program saves it."""
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(table)
        return
    book = Workbook()
    assert book.active is not None
    for row in table:
        book.active.append(row)
    book.save(path)


def night(folder: Path, service: Service, *words: str, code: int = 0) -> str:
    """Run; gives what was printed. What the folder's index knows is its own: ports, and so services, come again."""
    command = ("run", *words, "--task", "pay", "--service", service.url, "--key", "Row", "--poll-rate", "1000/s")
    done = run_program(*command, cwd=folder, BATCH_RUNNER_STATE=str(folder / "state"))
    assert done.returncode == code, done.stderr
    return done.stdout


def column(table: Table, name: str) -> list[str]:
    place = table[0].index(name)
    return [row[place] if place < len(row) else "" for row in table[1:]]


@ENDINGS
def test_her_notes_in_other_columns_are_carried_over_by_key(tmp_path: Path, service: Service, ending: str) -> None:
    """Night for night, wherever the rows stand then; nothing is started again."""
    sheet, output = tmp_path / f"in.{ending}", tmp_path / f"in.results.{ending}"
    rows = [list(row) for row in numbered(4)]
    write(sheet, [list(HEADERS), *rows])
    night(tmp_path, service, sheet.name)
    table = read(output)
    write(output, [[*row, note] for row, note in zip(table, ["Seen by", "Ann", "", "Bob", "-1+1"], strict=True)])
    write(sheet, [list(HEADERS), *reversed(rows), ["new", "1.00"]])
    for _night in range(3):
        night(tmp_path, service, sheet.name)
        table = read(output)
        assert column(table, "Row") == ["r3", "r2", "r1", "r0", "new"]
        assert [text.lstrip("'") for text in column(table, "Seen by")] == ["-1+1", "Bob", "", "Ann", ""]
    assert len(service.starts) == 5


@ENDINGS
def test_a_mended_cell_is_named_and_its_file_kept_aside(tmp_path: Path, service: Service, ending: str) -> None:
    """It would be overwritten from the sheet: a person is told which cell, also with `--quiet`, and keeps the file."""
    sheet, output = tmp_path / f"in.{ending}", tmp_path / f"in.results.{ending}"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(3))])
    night(tmp_path, service, sheet.name)
    table = read(output)
    table[2][1] = "7.77"
    write(output, table)
    said = night(tmp_path, service, sheet.name, "--quiet")
    assert "B3 was edited in the result file, not in the sheet: to send it, correct the sheet, or run the file" in said
    assert "a row that ran is then told as edited" in said
    assert f"it is kept as in.edited.results.{ending}" in said
    assert column(read(tmp_path / f"in.edited.results.{ending}"), "Amount") == ["0.50", "7.77", "2.50"]
    assert column(read(output), "Amount") == ["0.50", "1.50", "2.50"]
    assert night(tmp_path, service, sheet.name, "--quiet") == ""
    assert len(service.starts) == 3


@ENDINGS
def test_what_the_sheet_changed_is_no_mended_cell(tmp_path: Path, service: Service, ending: str) -> None:
    """The sheet was edited, and she wrote a note into the output: nobody says that she mended the cell."""
    sheet, output = tmp_path / f"in.{ending}", tmp_path / f"in.results.{ending}"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(3))])
    night(tmp_path, service, sheet.name)
    write(output, [[*row, note] for row, note in zip(read(output), ["Note", "a", "b", "c"], strict=True)])
    write(sheet, [list(HEADERS), ["r0", "0.50"], ["r1", "9.99"], ["r2", "2.50"]])
    said = night(tmp_path, service, sheet.name)
    assert "in the result file" not in said
    assert column(read(output), "Note") == ["a", "b", "c"]


@ENDINGS
@pytest.mark.parametrize("edit", ["result", "row", "own column", "left"])
def test_what_can_not_be_carried_over_is_kept_aside(tmp_path: Path, service: Service, ending: str, edit: str) -> None:
    """A cell of ours, a row of hers, a header of the sheet's, a note at a row that has left the sheet."""
    sheet, output = tmp_path / f"in.{ending}", tmp_path / f"in.results.{ending}"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(3))])
    night(tmp_path, service, sheet.name)
    table = read(output)
    if edit == "result":
        table[1][4] = "checked"
    elif edit == "row":
        table.append(["sum", "", "", "", "", ""])
    elif edit == "own column":
        table[1][1] = "0.51"
    else:
        table = [[*row, note] for row, note in zip(table, ["Note", "a", "b", "c"], strict=True)]
        write(sheet, [list(HEADERS), *(list(row) for row in numbered(2))])
    write(output, table)
    night(tmp_path, service, sheet.name)
    assert read(tmp_path / f"in.edited.results.{ending}") == table


@ENDINGS
def test_her_own_column_right_of_ours_is_not_deleted(tmp_path: Path, service: Service, ending: str) -> None:
    """In place: `result.checked by` is no column of `--expand`, whatever it is called; nor is it sent."""
    sheet = tmp_path / f"in.{ending}"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(2))])
    words = (sheet.name, "--output", sheet.name, "--expand")
    night(tmp_path, service, *words)
    write(sheet, [[*row, note] for row, note in zip(read(sheet), ["result.checked by", "Ann", ""], strict=True)])
    night(tmp_path, service, *words)
    assert column(read(sheet), "result.checked by") == ["Ann", ""]
    assert len(service.starts) == 2
    assert set(service.sent[0]) == set(HEADERS)


def capitals(table: Table) -> Table:
    return [[name.upper() if name in ("status", "error") else name for name in table[0]], *table[1:]]


def no_run_id(table: Table) -> Table:
    place = table[0].index("run_id")
    return [[*row[:place], *row[place + 1 :]] for row in table]


def a_comment(table: Table) -> Table:
    return [[*row, note] for row, note in zip(table, ["Comment", "a", "b", "c"], strict=True)]


def between(table: Table) -> Table:
    return [[*row[:3], note, *row[3:]] for row, note in zip(table, ["Seen", "a", "b", "c"], strict=True)]


@ENDINGS
@pytest.mark.parametrize("touch", [capitals, no_run_id, a_comment, between])
@pytest.mark.parametrize("key", [("--key", "Row"), ()], ids=["key", "all params"])
def test_in_place_a_person_touches_our_columns(
    tmp_path: Path, service: Service, ending: str, touch: object, key: tuple[str, ...]
) -> None:
    """In capitals, in part, with columns between and behind: they are known by what the journal wrote, none runs."""
    assert callable(touch)
    sheet = tmp_path / f"in.{ending}"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(3))])
    command = ("in." + ending, "--output", sheet.name, "--task", "pay", "--service", service.url, *key)
    assert run_program("run", *command, cwd=tmp_path).returncode == 0
    before = read(sheet)
    write(sheet, touch(before))
    checked = run_program("check", *command, cwd=tmp_path)
    assert "plan:    3 carried over" in checked.stdout, checked.stdout + checked.stderr
    assert run_program("run", *command, "--quiet", cwd=tmp_path).returncode == 0
    assert len(service.starts) == 3
    after = read(sheet)
    for name in ("run_id", "status", "result", "error"):
        assert column(after, name) == column(before, name)
    for name in set(touch(before)[0]) - {"run_id", "STATUS", "ERROR", "status", "result", "error"}:
        assert column(after, name) == column(touch(before), name)


@ENDINGS
def test_our_headers_are_gone_and_our_cells_are_not(tmp_path: Path, service: Service, ending: str) -> None:
    """Nobody can tell them any more: refused (2), naming the cell; a fresh export in the same place is none of that."""
    sheet = tmp_path / f"in.{ending}"
    rows = [list(row) for row in numbered(3)]
    write(sheet, [list(HEADERS), *rows])
    words = (sheet.name, "--output", sheet.name)
    night(tmp_path, service, *words)
    table = read(sheet)
    write(sheet, [["Row", "Amount", "one", "two", "three", "four"], *table[1:]])
    command = ("run", *words, "--task", "pay", "--service", service.url, "--key", "Row")
    done = run_program(*command, cwd=tmp_path)
    assert done.returncode == 2
    assert "C2: a run of an earlier night stands there" in done.stderr
    write(sheet, [list(HEADERS), *rows])
    night(tmp_path, service, *words)
    assert len(service.starts) == 3
    assert column(read(sheet), "status") == ["success"] * 3


@ENDINGS
@pytest.mark.parametrize("part", [("--limit", "1"), ("--where", "Amount < 1"), ("--rows", "2")])
@pytest.mark.parametrize("copied", [False, True])
def test_an_outcome_belongs_to_a_key(
    tmp_path: Path, service: Service, ending: str, part: tuple[str, ...], *, copied: bool
) -> None:
    """In place, with rows left out: one whose key was edited, or copied and edited, loses the other invoice's run."""
    sheet = tmp_path / f"in.{ending}"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(3))])
    words = (sheet.name, "--output", sheet.name)
    night(tmp_path, service, *words)
    table = read(sheet)
    edited = ["other", *table[3][1:]]
    table = [*table, edited] if copied else [*table[:3], edited]
    write(sheet, table)
    said = night(tmp_path, service, *words, *part)
    after = read(sheet)
    place = column(after, "Row").index("other")
    assert (column(after, "run_id")[place], column(after, "status")[place]) == ("", "")
    assert column(after, "status")[: len(table) - 2] == ["success"] * (len(table) - 2)
    assert f"row {place + 2}: what stood there belongs to another row" in said
    assert len(service.starts) == 3
    night(tmp_path, service, *words)
    assert service.starts[3:] == ["other"]


@ENDINGS
def test_a_row_that_was_copied_as_it_is_has_no_outcome(tmp_path: Path, service: Service, ending: str) -> None:
    """In place with `--limit`: one run is not two rows'."""
    sheet = tmp_path / f"in.{ending}"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(2))])
    words = (sheet.name, "--output", sheet.name)
    night(tmp_path, service, *words)
    table = read(sheet)
    write(sheet, [*table, table[2]])
    night(tmp_path, service, *words, "--limit", "1")
    assert column(read(sheet), "status") == ["success", "success", ""]


def test_a_neighbour_is_never_the_input_nor_a_persons_file(tmp_path: Path, service: Service) -> None:
    """The output is read-only, and what has its neighbours' names is hers: the next free one is taken."""
    write(tmp_path / "in-2.csv", [list(HEADERS), *(list(row) for row in numbered(2))])
    (tmp_path / "in-3.csv").write_text("hers")
    night(tmp_path, service, "in-2.csv", "--output", "in.csv")
    before = (tmp_path / "in-2.csv").read_bytes()
    (tmp_path / "in.csv").chmod(0o444)
    for _night in range(2):
        said = night(tmp_path, service, "in-2.csv", "--output", "in.csv")
        assert "see in-4.csv" in said
    assert (tmp_path / "in-2.csv").read_bytes() == before
    assert (tmp_path / "in-3.csv").read_text() == "hers"
    assert not (tmp_path / "in-5.csv").exists()


def test_a_neighbour_is_never_another_sheets_output(tmp_path: Path, service: Service) -> None:
    """Two sheets of one night whose outputs' names are neighbours."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.csv", [list(HEADERS), [name, "1.00"]])
    night(tmp_path, service, "b.csv", "--output", "x-2.csv", "--journal", "one.db")
    night(tmp_path, service, "a.csv", "--output", "x.csv", "--journal", "one.db")
    (tmp_path / "x.csv").chmod(0o444)
    said = night(tmp_path, service, "a.csv", "--output", "x.csv", "--journal", "one.db")
    assert "see x-3.csv" in said
    assert column(read(tmp_path / "x-2.csv"), "Row") == ["b"]


def test_a_journal_of_todays_release_goes_on(tmp_path: Path, service: Service) -> None:
    """It noted no outputs: nothing runs again, and nothing is kept aside where nobody changed anything."""
    sheet, output = tmp_path / "in.csv", tmp_path / "in.results.csv"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(2))])
    night(tmp_path, service, sheet.name)
    with closing(sqlite3.connect(next(tmp_path.glob("*.journal.db")))) as connection:
        connection.execute("DELETE FROM output")
        connection.commit()
    os.utime(output)
    assert night(tmp_path, service, sheet.name, "--quiet") == ""
    assert not (tmp_path / "in.edited.results.csv").exists()
    assert len(service.starts) == 2


TEXTS = st.text(st.sampled_from("ab=é\"',;\n 0"), max_size=5)
EDITS = st.tuples(st.sampled_from(["note", "own", "ours", "row", "column"]), st.integers(0, 3), TEXTS.filter(str.strip))


@pytest.mark.long
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.lists(EDITS, max_size=3), min_size=1, max_size=3))
def test_no_edit_of_hers_is_lost_in_so_many_nights(
    tmp_path_factory: pytest.TempPathFactory, nights: list[list[tuple[str, int, str]]]
) -> None:
    """Whatever she writes between two nights stands in the output afterwards, or in a file that was kept aside."""
    folder = tmp_path_factory.mktemp("nights")
    sheet, output = folder / "in.csv", folder / "in.results.csv"
    write(sheet, [list(HEADERS), *(list(row) for row in numbered(4))])
    written: list[str] = []
    with on_a_socket(Service(looks=1)) as service:
        night(folder, service, sheet.name)
        for number, edits in enumerate(nights):
            table = read(output)
            for place, (kind, row, text) in enumerate(edits):
                mine = f"{text} {number}.{place}"
                if kind == "column":
                    table[0].append(f"Note {number}.{place}")
                    table[row + 1].append(mine)
                elif kind == "row":
                    table.append([mine])
                else:
                    table[row + 1][{"note": -1, "own": 1, "ours": 4}[kind]] = mine
                written.append(mine)
            table = [row + [""] * (len(table[0]) - len(row)) for row in table]
            write(output, table)
            night(folder, service, sheet.name)
            kept = {cell.lstrip("'") for path in folder.glob("in.*results.csv") for row in read(path) for cell in row}
            stood = {cell.lstrip("'") for row in table for cell in row}
            assert not [mine for mine in written if mine.lstrip("'") in stood - kept]
        assert len(service.starts) == 4


def test_a_job_runs_the_file_that_was_kept_by_the_command_that_is_told(tmp_path: Path, service: Service) -> None:
    """The job has all other options; what she mended is sent once, beside the output of the night, and nothing else."""
    for folder in ("in", "done"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "in" / "a.csv", [list(HEADERS), *(list(row) for row in numbered(3))])
    lines = [
        'input = "in/*.csv"',
        'output = "done/{stem}.csv"',
        f'task = "pay"\nservice = "{service.url}"',
        'key = "Row"',
    ]
    (tmp_path / "job.toml").write_text("\n".join(lines))

    def run(*words: str) -> str:
        done = run_program("run", "job.toml", *words, cwd=tmp_path, BATCH_RUNNER_STATE=str(tmp_path / "state"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    run()
    table = read(tmp_path / "done" / "a.csv")
    table[2][1] = "7.77"
    write(tmp_path / "done" / "a.csv", table)
    told = slashes(run()).partition("to run that: batch-runner run job.toml ")[2].splitlines()[0]
    assert told == "--input done/a.edited.results.csv"
    for _night in range(2):
        run(*told.split(), "--retry", "changed")
    assert len(service.starts) == 4
    assert column(read(tmp_path / "done" / "a.edited.csv"), "Amount") == ["0.50", "7.77", "2.50"]
    assert [path.name for path in tmp_path.rglob("*.db") if "state" not in path.parts] == ["pay.journal.db"]
