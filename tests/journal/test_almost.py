"""A row that is new by its key, and yet almost one that ran, is held: nobody knows whether it is the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from journals import batch_info, steps_of
from program import run_program

from batch_runner.journal.view import JournalView
from batch_runner.plan.plan import Keep, Send

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.plan.plan import Step

TASK = """
def pay(params):
    with open("paid.txt", "a") as paid:
        paid.write(params["No"][-1])
    if params["Note"] == "fails":
        raise ValueError("no")
    return {}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    write(tmp_path, "ACME,RE-1,10.00,first", "Bolt,RE-2,20.00,fails", "ACME,RE-3,30.00,x")
    assert run(tmp_path)[0] == 3
    return tmp_path


def write(folder: Path, *rows: str) -> None:
    (folder / "in.csv").write_text("\n".join(("Vendor,No,Amount,Note", *rows, "")))


def run(folder: Path, *more: str, command: str = "run") -> tuple[int, str]:
    words = ("in.csv", "--task", "task.py:pay", "--journal", "j.db", "--retry-wait", "0")
    done = run_program(command, *words, *more, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def paid(folder: Path) -> str:
    return "".join(sorted((folder / "paid.txt").read_text()))


def test_an_edited_note_is_held_and_both_are_named(folder: Path) -> None:
    """Without --key any edit makes a new row; the number says that it may be the old one. --quiet says so, too."""
    write(folder, "ACME,RE-1,10.00,edited", "Bolt,RE-2,20.00,mended", "ACME,RE-3,30.00,x", "ACME,RE-4,10.00,new")
    checked = json.loads(run(folder, "--json", command="check")[1])["plan"]
    assert (checked["held"], checked["start"], checked["carried_over"]) == (1, 2, 1)
    code, said = run(folder, "--quiet")
    assert code == 3
    assert "almost a row that ran on" in said
    assert "from in.csv, row 2: success" in said
    assert "the same No, with another Note" in said
    assert paid(folder) == "12234"


def test_no_value_of_retry_releases_it(folder: Path) -> None:
    """`all` starts again what ran by its own key, and not what is almost that."""
    write(folder, "ACME,RE-1,10.00,edited", "ACME,RE-3,30.00,x")
    assert run(folder, "--retry", "all")[0] == 3
    assert paid(folder) == "1233"


@pytest.mark.parametrize(("word", "kind"), [("again", Send), ("repeatable", Send), ("same", Keep)])
def test_a_word_of_its_own_releases_it(folder: Path, word: str, kind: type[Step]) -> None:
    """--again and a repeatable task start it, --same carries it over."""
    write(folder, "ACME,RE-1,10.00,edited", "ACME,RE-3,30.00,x")
    with JournalView.open(folder / "j.db") as view:
        task = view.batches()[0].task
    info = batch_info(task=task)
    info = msgspec.structs.replace(info, policy=msgspec.structs.replace(info.policy, **{word: True}))
    first, second = steps_of(folder / "j.db", folder / "in.csv", info)
    assert (type(first), type(second)) == (kind, Keep)


def test_what_differs_in_most_is_another_row(folder: Path) -> None:
    """A list that counts from 1 each month has other rows; and a number that is new is a new row."""
    write(folder, "Dunn,RE-1,77.00,other", "ACME,RE-5,10.00,first")
    assert run(folder)[0] == 0
    assert paid(folder) == "11235"


def test_one_more_column_starts_nothing_again(folder: Path) -> None:
    """Every row is new by its key then; each is held, and no warning says that all are sent."""
    (folder / "in.csv").write_text("Vendor,No,Amount,Note,Paid\nACME,RE-1,10.00,first,no\nACME,RE-3,30.00,x,no\n")
    code, said = run(folder)
    assert (code, paid(folder)) == (3, "123")
    assert "no row of this sheet is known" not in said


def test_another_header_starts_nothing_again(folder: Path) -> None:
    """Without --key the header is part of it: a row with all the same texts is held, whatever they are called now."""
    (folder / "in.csv").write_text("Vendor,Number,Amount,Note\nACME,RE-1,10.00,first\nACME,RE-4,30.00,x\n")
    code, said = run(folder, "--quiet", "--rename", "Number=No")
    assert (code, paid(folder)) == (0, "1234")
    (folder / "in.csv").write_text("Supplier,Nummer,Amount,Memo\nACME,RE-1,10.00,first\nfirst,RE-4,10.00,ACME\n")
    code, said = run(folder, "--quiet", "--rename", "Nummer=No", "--rename", "Memo=Note")
    assert (code, paid(folder)) == (3, "12344")
    assert "the same texts, with another header: Supplier" in said


@pytest.mark.long
def test_a_number_alone_makes_no_row_the_same(tmp_path: Path) -> None:
    """Where all else is another, it may be a list that counts from 1."""
    (tmp_path / "task.py").write_text(TASK)
    for amount in ("10.00", "11.00"):
        (tmp_path / "in.csv").write_text(f"No,Note\nRE-1,{amount}\nRE-2,x{amount}\n")
        assert run(tmp_path)[0] == 0
    assert paid(tmp_path) == "1122"
