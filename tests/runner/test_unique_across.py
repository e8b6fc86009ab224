"""`--unique` sees all journals of its task, and two journals of one night see each other's rows.

The starts are counted at the service; `check` is asked before each command, and each is said with `--quiet`, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from counted_nights import Night
from killing import Moment, run
from remembering_service import Service, on_a_socket

from batch_runner.rows.keys import plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNIQUE = ("--unique", "No", "--unique-conflict", "Amount")


@pytest.fixture(params=[False, True], ids=["told", "quiet"])
def night(request: pytest.FixtureRequest, tmp_path: Path, impatient: None) -> Iterator[Night]:
    with on_a_socket(Service(looks=1)) as service:
        yield Night(tmp_path / "work", service, quiet=bool(request.param))


def write(night: Night, name: str, *rows: str) -> str:
    (night.folder / name).write_text("\n".join(["Row,No,Amount", *rows, ""]))
    return name


def other_folder(night: Night) -> Night:
    return Night(night.folder.with_name("other"), night.service, quiet=bool(night.quiet))


def error_of(night: Night, name: str, row: int = 0) -> str:
    return night.rows(name)[row]["error"]


@pytest.mark.long
def test_a_number_that_ran_in_another_journal_is_held(night: Night) -> None:
    """However it was typed and whatever its key; the sentence names sheet, row, run, journal and what differs."""
    night.run(write(night, "in.csv", "A,RE-0042,10"), *UNIQUE)
    other = other_folder(night)
    sheet = write(other, "new.csv", "X,re 42,10", "Y,RE/0042,12", "Z,RE-43,10")
    assert other.run(sheet, *UNIQUE, code=3) == ["Z"]
    assert other.held == 2
    assert "as row 2 of in.csv" in error_of(other, "new.results.csv")
    assert f"(run run-1: success) (journal {night.folder / 'pay.journal.db'})" in error_of(other, "new.results.csv")
    assert "with another Amount" in error_of(other, "new.results.csv", 1)
    assert "duplicates: 2 rows not sent because of --unique" in other.said


@pytest.mark.long
@pytest.mark.parametrize("words", [("--retry", "all"), ("--retry", "error,changed"), ("--on-unknown", "resend")])
def test_no_value_of_retry_releases_it(night: Night, words: tuple[str, ...]) -> None:
    """On the next night as on the first."""
    night.run(write(night, "in.csv", "A,RE-0042,10"), *UNIQUE)
    other = other_folder(night)
    sheet = write(other, "new.csv", "X,re 42,10")
    assert other.run(sheet, *UNIQUE, *words, code=3) == []
    assert other.run(sheet, *UNIQUE, *words, code=3) == []


@pytest.mark.long
@pytest.mark.parametrize("word", ["--allow-duplicates", "--again"])
def test_a_word_of_its_own_releases_it(night: Night, word: str) -> None:
    """For one batch; afterwards it is this journal's own."""
    night.run(write(night, "in.csv", "A,RE-0042,10"), *UNIQUE)
    other = other_folder(night)
    sheet = write(other, "new.csv", "X,re 42,10")
    assert other.run(sheet, *UNIQUE, word) == ["X"]
    assert other.run(sheet, *UNIQUE) == []


def test_what_failed_there_holds_nobody(tmp_path: Path, impatient: None) -> None:
    """A failed one that was mended runs."""
    with on_a_socket(Service(looks=1, ends=lambda row, _: "failure" if row == "A" else "success")) as service:
        night = Night(tmp_path / "work", service)
        night.run(write(night, "in.csv", "A,RE-0042,10"), *UNIQUE, code=3)
        other = other_folder(night)
        assert other.run(write(other, "new.csv", "X,re 42,10"), *UNIQUE) == ["X"]


def test_a_journal_that_was_never_asked_learns_from_tonights_sheet(night: Night) -> None:
    """What ran there under a key of this sheet holds the rows above and below it that are alike."""
    night.run(write(night, "in.csv", "A,RE-0042,10"))
    other = other_folder(night)
    sheet = write(other, "new.csv", "X,re 42,10", "A,RE-0042,10", "Y,RE/42,10")
    assert other.run(sheet, *UNIQUE, code=3) == []
    assert "can't know them" not in other.said


@pytest.mark.long
def test_rows_that_unique_can_not_know_are_told_if_quiet_too(night: Night) -> None:
    """In another journal: named, with how many; told by `check` as well, and gone when its sheet was asked once."""
    night.run(write(night, "in.csv", "A,RE-0042,10"))
    other = other_folder(night)
    sheet = write(other, "new.csv", "X,re 43,10")
    told = f"{night.folder / 'pay.journal.db'}: rows that ran in this journal, and of which it isn't known"
    assert told in other.call("check", sheet, *UNIQUE).stdout
    assert other.run(sheet, *UNIQUE) == ["X"]
    assert told in other.said
    assert "--unique can't know them" in other.said
    night.run("in.csv", *UNIQUE)
    assert other.run(sheet, *UNIQUE) == []
    assert "can't know them" not in other.said


def test_rows_of_this_journal_that_left_the_sheet_are_told_if_quiet_too(night: Night) -> None:
    """They ran before anybody asked for `--unique`, and no sheet has them any more."""
    night.run(write(night, "in.csv", "A,RE-0042,10"))
    assert night.run(write(night, "in.csv", "B,RE-43,10"), *UNIQUE) == ["B"]
    assert "rows that ran before, but are not in the sheet as they were then: 1; --unique can't know them" in night.said


SLOW = ("--concurrency", "4", "--rate", "1/s")
"""The next sheet finds its places while the last row of the one before waits for its turn."""


def old_journals(night: Night) -> None:
    """Two sheets with a journal of their own each, as an earlier release left them."""
    for name in ("a", "b"):
        night.run(write(night, f"{name}.csv", f"{name},{name},1"))
        (night.folder / "pay.journal.db").rename(night.folder / f"{name}.journal.db")


@pytest.mark.long
def test_two_old_journals_of_one_night_start_a_row_once(night: Night) -> None:
    """The row stands in both sheets, and its start isn't recorded when the second is looked at; `check` says so."""
    old_journals(night)
    write(night, "a.csv", "a,a,1", "L,l,1", "N,n,1")
    write(night, "b.csv", "b,b,1", "N,n,1")
    assert night.run("?.csv", *SLOW, code=3) == ["L", "N"]
    assert night.held == 1
    assert error_of(night, "b.results.csv", 1).startswith("is started tonight from a.csv, row 4")
    assert night.run("?.csv", code=3) == []
    assert "a.csv, row 4: success, run-4" in error_of(night, "b.results.csv", 1)
    assert night.run("?.csv", "--same") == []


@pytest.mark.long
def test_two_old_journals_of_one_night_start_a_number_once(night: Night) -> None:
    """The same for rows with other keys that are alike."""
    old_journals(night)
    write(night, "a.csv", "a,a,1", "L,l,1", "M,RE-7,1")
    write(night, "b.csv", "b,b,1", "N,re 07,1")
    assert night.run("?.csv", *UNIQUE, *SLOW, code=3) == ["L", "M"]
    assert "is started tonight, as row 4 of a.csv" in error_of(night, "b.results.csv", 1)
    assert night.run("?.csv", *UNIQUE, code=3) == []


@pytest.mark.long
def test_a_damaged_journal_of_the_index_stops_the_night(night: Night) -> None:
    """It was this task's, so what ran in it would run again; nothing is sent until it is back."""
    night.run(write(night, "in.csv", "A,RE-0042,10"))
    journal = night.folder / "pay.journal.db"
    whole = journal.read_bytes()
    journal.write_text("garbage")
    other = other_folder(night)
    sheet = write(other, "new.csv", "A,RE-0042,10")
    assert other.run(sheet, code=2) == []
    assert f"{journal}: " in other.said
    assert "can't be held: restore it from a backup (rows that ran since" in other.said
    journal.write_bytes(whole)
    assert other.run(sheet, code=3) == []


def test_what_is_held_is_said_before_the_first_start(night: Night) -> None:
    """On stderr, with the reason; with `--quiet` when the night has ended, and nothing where nothing is held."""
    night.run(write(night, "in.csv", "A,RE-1,10"))
    other = other_folder(night)
    done = other.call("run", write(other, "new.csv", "A,RE-1,10", "B,RE-2,10"), *other.quiet)
    assert "new.csv: 1 to start, 1 held (ran on " in done.stderr
    assert " from in.csv)" in done.stderr
    assert not night.call("run", "in.csv", *night.quiet).stderr


@pytest.mark.long
@pytest.mark.parametrize("boundary", ["intent commit", "send", "run-id commit", "outcome commit", "last commit"])
def test_killed_at_any_instant_no_number_starts_twice(tmp_path: Path, impatient: None, boundary: str) -> None:
    """Two old journals in one night, killed and gone on with; then another folder has the same numbers."""
    with on_a_socket(Service(looks=1)) as service:
        first = Night(tmp_path / "a", service)
        old_journals(first)
        write(first, "a.csv", "a,a,1", "L,RE-1,1", "M,RE-7,1")
        write(first, "b.csv", "b,b,1", "M,RE-7,1", "N,re 01,1")
        other = other_folder(first)
        write(other, "new.csv", "X,re-1,1", "Y,RE/007,1")
        where = ("--task", "pay", "--service", service.url, "--poll-rate", "1000/s", "--key", "Row", *UNIQUE)
        for folder, sheet in ((first.folder, "?.csv"), (other.folder, "new.csv")):
            arguments = ["run", sheet, *where]
            run(folder, arguments, Moment("after", boundary, 1))
            run(folder, arguments)
        numbers = [plain(params["No"]) for params in service.sent]
        assert sorted(numbers) == sorted({*numbers}), service.sent
