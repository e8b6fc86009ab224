"""What makes a row unique, asked of the sheets after their rows have run: before that, nobody wanted to know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
from claims import kinds, night, row, unique
from journals import batch_info
from program import run_program

from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import DUPLICATE, Entry, Keep, Policy, Refuse, Send

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.journal.batches import BatchInfo

TASK = """
async def pay(params):
    return "paid"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal.db"


def test_rows_that_ran_before_anybody_asked(path: Path) -> None:
    """`--unique` on the second night knows the runs of the first by the rows that still stand in the sheet as then."""
    plain = [Entry(2, b"A", b"A"), Entry(3, b"B", b"B")]
    anyio.run(night, path, plain, batch_info(key=("Id",)))
    assert kinds(anyio.run(night, path, [row(2, "C", "x"), row(3, "A", "x")], unique())) == [Refuse, Keep]


def over(info: BatchInfo, name: str) -> BatchInfo:
    return msgspec.structs.replace(info, input=name)


def test_each_sheet_of_a_journal_is_asked(path: Path) -> None:
    """Two sheets ran before anybody asked: the first one's turn leaves what only the second can tell."""
    plain = batch_info(key=("Id",))
    anyio.run(night, path, [Entry(2, b"A", b"A")], over(plain, "/in/a.csv"))
    anyio.run(night, path, [Entry(2, b"B", b"B")], over(plain, "/in/b.csv"))
    anyio.run(night, path, [row(2, "A", "x")], over(unique(), "/in/a.csv"))
    plans = anyio.run(night, path, [row(2, "B", "y"), row(3, "C", "y")], over(unique(), "/in/b.csv"))
    assert kinds(plans) == [Keep, Refuse]


def test_a_sheet_is_asked_once(path: Path) -> None:
    """What it couldn't tell is no reason to read it twice every night; runs without `--unique` in between are."""

    async def asks(info: BatchInfo) -> bool:
        async with Journal.open(path, info) as journal:
            return journal.needs_claims

    anyio.run(night, path, [Entry(2, b"A", b"A")], batch_info(key=("Id",)))
    assert anyio.run(asks, unique())
    anyio.run(night, path, [row(2, "B", "y")], unique())
    assert not anyio.run(asks, unique())
    assert anyio.run(asks, unique(conflict=True))
    anyio.run(night, path, [Entry(2, b"C", b"C")], batch_info(key=("Id",)))
    assert anyio.run(asks, unique())


def test_equal_keys_are_asked_in_their_order(path: Path) -> None:
    """Two rows with one key and equal params, whose unique columns aren't sent: each run is given its own row's."""
    anyio.run(night, path, [Entry(2, b"K", b"P"), Entry(3, b"K", b"P")], batch_info(key=("Id",)))
    first, second = (Entry(number, b"K", b"P", claim=claim) for number, claim in ((2, b"x"), (3, b"y")))
    assert kinds(anyio.run(night, path, [first, second, row(4, "L", "y")], unique())) == [Keep, Keep, Refuse]


def test_a_conflict_that_is_named_later(path: Path) -> None:
    """It leaves the claims as they are, also of rows that have left the sheet; whether they differ is learned."""
    anyio.run(night, path, [row(2, "A", "x"), row(3, "B", "y")], unique())
    gone, kept = anyio.run(night, path, [row(2, "C", "x", "10"), row(3, "B", "y", "10")], unique(conflict=True))
    assert isinstance(gone, Refuse)
    assert "with another" not in gone.why
    assert isinstance(kept, Keep)
    edited = msgspec.structs.replace(row(3, "B", "y", "12"), digest=b"B2")
    (plan,) = anyio.run(night, path, [edited], unique("changed", conflict=True))
    assert plan == Keep(3, 2, "success", changed=True, held=DUPLICATE)


def test_other_columns_make_other_claims(path: Path) -> None:
    """With other `--unique` columns nothing is compared with claims that were made of the former ones."""
    anyio.run(night, path, [row(2, "A", "x")], unique())
    other = msgspec.structs.replace(unique(), policy=Policy(unique=("Vendor",)))
    assert kinds(anyio.run(night, path, [row(2, "A", "y"), row(3, "B", "x"), row(4, "C", "y")], other)) == [
        Keep,
        Send,
        Refuse,
    ]


def test_asked_later_and_in_another_order(tmp_path: Path) -> None:
    """Naming the columns in another order is nothing new."""
    (tmp_path / "task.py").write_text(TASK)
    sheet = tmp_path / "in.csv"
    command = ("run", "in.csv", "--task", "task.py:pay", "--json")
    sheet.write_text("Vendor,No\nACME,1\n")
    assert run_program(*command, cwd=tmp_path).returncode == 0
    assert run_program(*command, "--unique", "Vendor,No", cwd=tmp_path).returncode == 0
    sheet.write_text("Vendor,No\nacme,01\n")
    done = run_program(*command, "--unique", "No,Vendor", cwd=tmp_path)
    assert done.returncode == 3
    assert "can't know them" not in done.stderr
    assert json.loads(done.stdout)["duplicates"] == {"rows": 1, "numbers": [2]}


def test_the_whole_sheet_is_asked_whichever_rows_take_part(tmp_path: Path) -> None:
    """`--unique` is tried on one row first: the others' runs are known all the same, on that night and the next."""
    (tmp_path / "task.py").write_text(TASK)
    sheet, command = tmp_path / "in.csv", ("run", "in.csv", "--task", "task.py:pay", "--key", "Id")
    sheet.write_text("Id,No\n1,RE-1\n2,RE-2\n3,RE-3\n")
    run_program(*command, cwd=tmp_path)
    run_program(*command, "--unique", "No", "--rows", "2", cwd=tmp_path)
    sheet.write_text("Id,No\n1,RE-1\n2,RE-2\n3,RE-3\n4,re-3\n")
    done = run_program(*command, "--unique", "No", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["counts"] == {"success": 3, "error": 1}
