"""Sheets that people sort, grow and edit between two nights: outcomes move with their rows, and only new rows start."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pytest
from kept_promises import HEADERS, numbered, read_output, write_sheet
from killing import run
from openpyxl import load_workbook
from program import run_program
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENDINGS = pytest.mark.parametrize("ending", ["csv", "xlsx"])


def fails_first(row: str, start: int) -> str:
    return "failure" if start == 1 else "success"


@pytest.fixture
def service() -> Iterator[Service]:
    with on_a_socket(Service(looks=1)) as service:
        yield service


def night(folder: Path, service: Service, *more: str, sheet: str = "list.csv", code: int = 0) -> str:
    """Run the sheet; gives what the program said."""
    said = folder / "said.txt"
    said.unlink(missing_ok=True)
    again = ["run", sheet, "--task", "pay", "--service", service.url, "--poll-rate", "1000/s", *more]
    assert run(folder, again) == code, said.read_text()
    return said.read_text()


@pytest.mark.long
@ENDINGS
def test_sorted_grown_shrunk_and_edited(ending: str, tmp_path: Path, service: Service) -> None:
    """The second night starts the new row and the edited one, and each other row keeps its run wherever it stands."""
    sheet, output = f"list.{ending}", tmp_path / f"list.results.{ending}"
    rows = numbered(8)
    write_sheet(tmp_path / sheet, rows)
    night(tmp_path, service, sheet=sheet)
    before = {(record.row, record.amount): record.run_id for record in read_output(output)}
    edited = [rows[7], ("new", "1.00"), *rows[4:6], ("r6", "9.99"), *rows[1:4]]
    write_sheet(tmp_path / sheet, edited)
    night(tmp_path, service, sheet=sheet)
    assert Counter(service.starts[8:]) == {"new": 1, "r6": 1}
    after = read_output(output)
    assert [(record.row, record.amount) for record in after] == edited
    for record in after:
        assert service.rows[record.run_id] == record.row
        assert record.run_id == before.get((record.row, record.amount), record.run_id)


@pytest.mark.long
def test_many_nights(tmp_path: Path, service: Service) -> None:
    """Six nights of random edits, with rows that are equal to each other: each key keeps its runs in their order."""
    chance = random.Random(7)
    runs: dict[tuple[str, str], list[str]] = defaultdict(list)
    rows = [(chance.choice("abcdef"), f"{chance.randrange(3)}.00") for _ in range(20)]
    for _ in range(6):
        write_sheet(tmp_path / "list.csv", rows)
        sent = len(service.sent)
        night(tmp_path, service)
        seen: dict[tuple[str, str], list[str]] = defaultdict(list)
        for record in read_output(tmp_path / "list.results.csv"):
            seen[record.row, record.amount].append(record.run_id)
        new = 0
        for key, run_ids in seen.items():
            shared = min(len(run_ids), len(runs[key]))
            assert run_ids[:shared] == runs[key][:shared]
            new += len(run_ids) - shared
            runs[key][shared:] = run_ids[shared:] or runs[key][shared:]
        assert len(service.sent) - sent == new
        chance.shuffle(rows)
        del rows[: chance.randrange(5)]
        rows += [(chance.choice("abcdef"), f"{chance.randrange(3)}.00") for _ in range(chance.randrange(5))]
    assert len(set(service.rows)) == len(service.sent)


@pytest.mark.long
@ENDINGS
@pytest.mark.parametrize("some", [("--rows", "3"), ("--rows", "3-4"), ("--where", "Amount > 1"), ("--rows", "2")])
def test_equal_rows_of_which_some_were_left_out(
    some: tuple[str, str], ending: str, tmp_path: Path, service: Service
) -> None:
    """With `--key` rows 2 and 3 have one key: whichever runs on the first night keeps its run on the second."""
    sheet, output = f"list.{ending}", tmp_path / f"list.results.{ending}"
    write_sheet(tmp_path / sheet, [("same", "1.00"), ("same", "2.00"), ("other", "3.00")])
    night(tmp_path, service, "--key", "Row", *some, sheet=sheet)
    first = [record.run_id for record in read_output(output)]
    assert [bool(run_id) for run_id in first].count(True) == len(service.sent)
    night(tmp_path, service, "--key", "Row", sheet=sheet)
    second = [record.run_id for record in read_output(output)]
    assert [new for old, new in zip(first, second, strict=True) if old] == [old for old in first if old]
    assert sorted(params["Amount"] for params in service.sent) == ["1.00", "2.00", "3.00"]


def test_equal_rows_of_which_one_was_hidden(tmp_path: Path, service: Service) -> None:
    """A filter that is set on the first night and not on the second gives no row another's run: each starts once."""
    sheet = tmp_path / "list.xlsx"
    write_sheet(sheet, [("same", "1.00"), ("same", "2.00")])
    book = load_workbook(sheet)
    assert book.active is not None
    book.active.row_dimensions[2].hidden = True
    book.save(sheet)
    night(tmp_path, service, "--key", "Row", "--hidden", "skip", sheet=sheet.name)
    book.active.row_dimensions[2].hidden = False
    book.save(sheet)
    night(tmp_path, service, "--key", "Row", "--hidden", "skip", sheet=sheet.name)
    assert [params["Amount"] for params in service.sent] == ["2.00", "1.00"]
    assert [record.run_id for record in read_output(tmp_path / "list.results.xlsx")] == ["run-2", "run-1"]


@pytest.mark.long
@ENDINGS
def test_a_row_that_changed_after_it_ended(ending: str, tmp_path: Path, service: Service) -> None:
    """With `--key` a row whose amount was edited is the same row: told as changed, sent only with `--retry changed`."""
    sheet, output = f"list.{ending}", tmp_path / f"list.results.{ending}"
    write_sheet(tmp_path / sheet, numbered(3))
    night(tmp_path, service, "--key", "Row", sheet=sheet)
    write_sheet(tmp_path / sheet, [("r1", "77.00"), *numbered(1), ("r2", "2.50")])
    assert "changed" in night(tmp_path, service, "--key", "Row", sheet=sheet)
    assert len(service.sent) == 3
    assert [service.rows[record.run_id] for record in read_output(output)] == ["r1", "r0", "r2"]
    night(tmp_path, service, "--key", "Row", "--retry", "changed", "--retry-wait", "0", sheet=sheet)
    assert service.sent[3:] == [{"Row": "r1", "Amount": "77.00"}]
    night(tmp_path, service, "--key", "Row", "--retry", "changed", "--retry-wait", "0", sheet=sheet)
    assert len(service.sent) == 4
    assert read_output(output)[0].run_id == "run-4"


@pytest.mark.long
def test_a_sheet_of_which_no_row_is_known(tmp_path: Path, service: Service) -> None:
    """Other columns make every row a new one: `check` says so, and `run` before the first start and at the end."""
    sheet = tmp_path / "list.csv"
    sheet.write_text("Row,Amount\nr0,1.00\nr1,2.00\n")
    command = ("list.csv", "--task", "pay", "--service", service.url)
    warning = "no row of this sheet is known to the journal, which has 2 from earlier batches"
    assert warning not in run_program("check", *command, cwd=tmp_path).stdout
    assert warning not in night(tmp_path, service) + night(tmp_path, service)
    assert warning not in run_program("check", *command, cwd=tmp_path).stdout
    sheet.write_text("Row,Sum,Note\nr0,1.00,a\nr1,2.00,b\n")
    assert warning in run_program("check", *command, cwd=tmp_path).stdout
    done = run_program("run", *command, cwd=tmp_path)
    assert warning in done.stderr
    assert f"note: {warning}" in done.stdout
    sheet.write_text("Row,Sum,Note\nr0,1.00,a\nr9,9.00,\n")
    assert warning not in night(tmp_path, service)


def test_retried_failures_are_kept_as_attempts(tmp_path: Path) -> None:
    """`--retry failure` sends the failed rows again, in another order, too; `status --row` shows both attempts."""
    with on_a_socket(Service(looks=2, ends=fails_first)) as service:
        write_sheet(tmp_path / "list.csv", numbered(3))
        night(tmp_path, service, code=3)
        write_sheet(tmp_path / "list.csv", reversed(numbered(3)))
        night(tmp_path, service, "--retry", "failure", "--retry-wait", "0")
        assert service.starts_of == {"r0": 2, "r1": 2, "r2": 2}
        first, second = (run_id for run_id, row in service.rows.items() if row == "r2")
    told = run_program("status", "pay.journal.db", "--row", "2", cwd=tmp_path).stdout
    assert "row 2: 2 attempts" in told
    assert "batch 1 of list.csv (row 4 then): failure" in told
    assert told.index(first) < told.index(second)


def edit_csv(path: Path) -> None:
    path.write_text(path.read_text().replace("r1,1.50", "r1,7.77"))


def edit_xlsx(path: Path) -> None:
    book = load_workbook(path)
    assert book.active is not None
    book.active["B3"] = "7.77"
    book.save(path)


@pytest.mark.long
@pytest.mark.parametrize("edit", [edit_csv, edit_xlsx])
def test_a_result_file_edited_and_run_again(edit: Callable[[Path], None], tmp_path: Path, service: Service) -> None:
    """In place, with the same journal: only the edited row starts, and our columns are refreshed and never sent."""
    ending = edit.__name__.removeprefix("edit_")
    write_sheet(tmp_path / f"list.{ending}", numbered(3))
    output = tmp_path / f"list.results.{ending}"
    night(tmp_path, service, sheet=f"list.{ending}")
    kept = [record.run_id for record in read_output(output)]
    edit(output)
    night(tmp_path, service, sheet=output.name)
    assert service.sent[3:] == [dict(zip(HEADERS, ("r1", "7.77"), strict=True))]
    assert [record.run_id for record in read_output(output)] == [kept[0], "run-4", kept[2]]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"list.{ending}",
        output.name,
        "pay.journal.db",
        "said.txt",
    }
