"""Rows with one key and other values: in one night both can't be one, and on a later night it is an edit.

The starts are counted at the service; `check` is asked before each command, and each is said with `--quiet`, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from killing import Moment, run
from program import run_program
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[False, True], ids=["told", "quiet"])
def sheets(request: pytest.FixtureRequest, tmp_path: Path, impatient: None) -> Iterator[Sheets]:
    with on_a_socket(Service(looks=1)) as service:
        yield Sheets(tmp_path, service, quiet=bool(request.param))


class Sheets:
    """Two sheets, and the program on them."""

    def __init__(self, folder: Path, service: Service, *, quiet: bool = False) -> None:
        self.folder = folder
        self.service = service
        self.quiet = ("--quiet",) if quiet else ()
        self.said = ""

    def write(self, name: str, *rows: str) -> str:
        (self.folder / name).write_text("\n".join(["Row,Amount,Due", *rows, ""]))
        return name

    def words(self, sheet: str, *more: str, key: tuple[str, ...] = ("--key", "Row")) -> list[str]:
        where = ("--task", "pay", "--service", self.service.url, "--poll-rate", "1000/s", "--concurrency", "1")
        return [sheet, *where, *key, *more]

    def run(self, sheet: str, *more: str, code: int = 0, key: tuple[str, ...] = ("--key", "Row")) -> list[str]:
        """The amounts that were sent; `check` has told how many."""
        before = len(self.service.sent)
        checked = run_program("check", *self.words(sheet, *more, "--json", key=key), cwd=self.folder)
        pages = json.loads(checked.stdout)
        plans = [page["plan"] for page in pages.get("batches", [pages])]
        done = run_program("run", *self.words(sheet, *more, key=key), *self.quiet, cwd=self.folder)
        self.said = done.stdout + done.stderr
        assert done.returncode == code, self.said
        started = [params["Amount"] for params in self.service.sent[before:]]
        assert sum(plan["start"] + plan["retried"] for plan in plans) == len(started), (plans, started)
        return started

    def result(self, sheet: str) -> list[list[str]]:
        """Run id, status and error of each row."""
        lines = (self.folder / sheet).read_text().splitlines()[1:]
        return [[line.split(",")[3], line.split(",")[4], line.rpartition('",')[2]] for line in lines]


@pytest.mark.long
def test_the_second_sheet_of_a_night_is_held(sheets: Sheets) -> None:
    """`error` and exit 3, naming both and what differs; the next night the same again."""
    sheets.write("north.csv", "No 1,10,")
    sheets.write("south.csv", "No 1,999,")
    for expected in (["10"], [], []):
        assert sheets.run("*th.csv", code=3) == expected
        assert sheets.result("north.results.csv")[0][1] == "success"
        assert sheets.result("south.results.csv")[0][:2] == ["", "error"]
        assert "the same key stands in row 2 of north.csv, with other Amount" in sheets.said
    assert sheets.run("*th.csv", "--retry", "all", "--retry-wait", "0", code=3) == ["10"]


@pytest.mark.long
def test_same_carries_the_second_over_and_remembers_it(sheets: Sheets) -> None:
    """Both rows are the one run, on later nights as well."""
    sheets.write("north.csv", "No 1,10,")
    sheets.write("south.csv", "No 1,999,")
    assert sheets.run("*th.csv", "--same") == ["10"]
    assert sheets.run("*th.csv") == []
    assert [row[:2] for row in sheets.result("south.results.csv")] == [["run-1", "success"]]


@pytest.mark.long
def test_again_starts_the_second_as_a_row_of_its_own(sheets: Sheets) -> None:
    """From then on each sheet has its own result, and neither runs again, whatever is retried as changed."""
    sheets.write("north.csv", "No 1,10,")
    sheets.write("south.csv", "No 1,999,")
    assert sheets.run("*th.csv", "--again") == ["10", "999"]
    assert sheets.run("*th.csv", "--retry", "changed") == []
    assert [row[:2] for row in sheets.result("north.results.csv")] == [["run-1", "success"]]
    assert [row[:2] for row in sheets.result("south.results.csv")] == [["run-2", "success"]]


@pytest.mark.long
def test_on_a_later_night_it_is_an_edit(sheets: Sheets) -> None:
    """Carried over, counted, and started by `--retry changed`; two sheets can't take turns with it."""
    sheets.write("north.csv", "No 1,10,")
    sheets.write("south.csv", "No 1,999,")
    assert sheets.run("north.csv") == ["10"]
    assert sheets.run("south.csv") == []
    assert "1 of them edited since it ran" in sheets.said
    assert sheets.run("south.csv", "--retry", "changed") == ["999"]
    for name in ("north.csv", "south.csv", "north.csv"):
        assert sheets.run(name, "--retry", "changed") == []


@pytest.mark.long
@pytest.mark.parametrize("column", [("--total", "Amount"), ("--unique", "Row", "--unique-conflict", "Amount")])
def test_an_edited_amount_is_held(sheets: Sheets, column: tuple[str, ...]) -> None:
    """Where a column that money hangs on differs, `--retry changed` doesn't start it; a person says which it is."""
    sheets.write("in.csv", "No 1,10,", "No 2,20,")
    assert sheets.run("in.csv", *column) == ["10", "20"]
    sheets.write("in.csv", "No 1,12,", "No 2,20,5")
    for words in ((), ("--retry", "changed")):
        before = len(sheets.service.sent)
        sheets.run("in.csv", *column, *words, code=3)
        assert all(params["Row"] == "No 2" for params in sheets.service.sent[before:])
    assert "with another Amount: success, run-1" in sheets.said
    assert sheets.run("in.csv", *column, "--same") == []
    assert sheets.run("in.csv", *column, "--retry", "changed") == []
    sheets.write("in.csv", "No 1,13,", "No 2,20,5")
    assert sheets.run("in.csv", *column, "--again") == ["13"]
    assert sheets.run("in.csv", *column) == []


def test_a_failed_row_with_another_amount_runs(tmp_path: Path, impatient: None) -> None:
    """Only what succeeded, runs or is unknown holds another."""

    def ends(_: str, start: int) -> str:
        return "failure" if start == 1 else "success"

    with on_a_socket(Service(looks=1, ends=ends)) as service:
        sheets = Sheets(tmp_path, service)
        sheets.write("in.csv", "No 1,10,")
        assert sheets.run("in.csv", "--total", "Amount", code=3) == ["10"]
        sheets.write("in.csv", "No 1,12,")
        assert sheets.run("in.csv", "--total", "Amount", "--retry", "changed") == ["12"]


def test_ignored_columns_are_not_compared(sheets: Sheets) -> None:
    """Days overdue differ every night: no edit, nothing to retry."""
    sheets.write("in.csv", "No 1,10,5")
    assert sheets.run("in.csv", "--ignore", "Due") == ["10"]
    sheets.write("in.csv", "No 1,10,6")
    assert sheets.run("in.csv", "--ignore", "Due", "--retry", "changed") == []
    assert "edited" not in sheets.said
    sheets.write("in.csv", "No 1,12,7")
    assert sheets.run("in.csv", "--ignore", "Due", "--retry", "changed") == ["12"]


def test_ignored_columns_are_no_part_of_the_default_key(sheets: Sheets) -> None:
    """Without `--key` all params but those are the key; a row that ran before they were named is known, too."""
    sheets.write("in.csv", "No 1,10,5")
    assert sheets.run("in.csv", key=()) == ["10"]
    assert sheets.run("in.csv", "--ignore", "Due", key=()) == []
    sheets.write("in.csv", "No 1,10,6")
    assert sheets.run("in.csv", "--ignore", "Due", key=()) == []


def test_an_edited_row_is_told_on_the_night_of_its_edit(sheets: Sheets) -> None:
    """It has the result of what was sent before: with `--quiet` that is said once, and later nights are silent."""
    sheets.write("in.csv", "No 1,10,")
    assert sheets.run("in.csv") == ["10"]
    sheets.write("in.csv", "No 1,15,")
    assert sheets.run("in.csv") == []
    assert "1 of them edited since it ran" in sheets.said
    assert sheets.run("in.csv") == []
    assert not (sheets.quiet and sheets.said)


@pytest.mark.long
@pytest.mark.parametrize("boundary", ["intent commit", "send", "run-id commit", "outcome commit", "last commit"])
@pytest.mark.parametrize("words", [(), ("--same",)], ids=["held", "same"])
def test_killed_at_any_instant_nothing_starts_twice(tmp_path: Path, boundary: str, words: tuple[str, ...]) -> None:
    """Two sheets of one key, and a second folder that has the first one's rows: each row is started once at most."""
    with on_a_socket(Service(looks=1)) as service:
        first, second = (Sheets(tmp_path / name, service) for name in ("a", "b"))
        for sheets in (first, second):
            sheets.folder.mkdir()
            sheets.write("north.csv", "No 1,10,", "No 2,20,")
            sheets.write("south.csv", "No 1,999,", "No 3,30,")
        for folder in (first, second):
            arguments = ["run", *folder.words("*th.csv", *words)]
            run(folder.folder, arguments, Moment("after", boundary, 1))
            run(folder.folder, arguments)
        assert max(service.starts_of.values()) == 1, service.sent
