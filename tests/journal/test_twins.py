"""Rows with the same key: each keeps the outcome of what it sends wherever it stands, and none is sent twice."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter, defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import batch_info, run_row
from openpyxl import Workbook
from program import run_program

from batch_runner.job.job import Job
from batch_runner.journal.database import open_memory
from batch_runner.journal.journal import Journal, JournalFile
from batch_runner.journal.same_key import find_twins, see, tell_apart
from batch_runner.plan.plan import Entry, Keep, Refuse, Send
from batch_runner.rows.source import Source, look_ahead, plan_rows

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from batch_runner.journal.batches import BatchInfo
    from batch_runner.plan.plan import Step
    from batch_runner.rows.params import RowParams

TASK = """
import os

async def pay(params):
    with open(os.path.join(os.environ["NIGHT"], "paid.txt"), "a") as paid:
        print(params["Amount"], file=paid)
    if params["Amount"] in os.environ["FAIL"]:
        raise ValueError("no money")
    return {"paid": params["Amount"]}
"""
KEY = ("--key", "Key")
FAILING = b"x"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


def write(folder: Path, *amounts: str, header: str = "Key,Amount") -> None:
    """A sheet whose rows have all the same key."""
    (folder / "in.csv").write_text("\n".join((header, *(f"k,{amount}" for amount in amounts), "")))


def run(folder: Path, *more: str, sheet: str = "in.csv", fail: str = "") -> subprocess.CompletedProcess[str]:
    done = run_program("run", sheet, "--task", "task.py:pay", *KEY, *more, cwd=folder, NIGHT=str(folder), FAIL=fail)
    assert done.returncode in (0, 3), done.stderr
    return done


def paid(folder: Path) -> list[str]:
    """The amounts that the task ran for, in order of time where one came after the other."""
    return (folder / "paid.txt").read_text().split()


def results(folder: Path) -> list[tuple[str, str]]:
    """What stands in the output beside each amount."""
    with (folder / "in.results.csv").open(newline="", encoding="utf-8-sig") as file:
        return [(row["Amount"], row["result"]) for row in csv.DictReader(file)]


def test_a_row_that_is_put_on_top(folder: Path) -> None:
    """It is the one that is sent; those that were sent keep their outcomes."""
    write(folder, "1", "2")
    run(folder)
    write(folder, "0", "1", "2")
    run(folder)
    assert sorted(paid(folder)) == ["0", "1", "2"]
    assert results(folder) == [(amount, f'{{"paid":"{amount}"}}') for amount in "012"]


def test_lines_that_are_swapped(folder: Path) -> None:
    """`--retry failure` runs the one again that failed, not the one that stands where it stood."""
    write(folder, "1", "2")
    run(folder, fail="2")
    write(folder, "2", "1")
    run(folder, "--retry", "failure", "--retry-wait", "0")
    assert sorted(paid(folder)) == ["1", "2", "2"]
    assert results(folder) == [("2", '{"paid":"2"}'), ("1", '{"paid":"1"}')]


def test_a_key_that_is_mended(folder: Path) -> None:
    """A row that was refused for its key's cell is sent once that is mended, and the one below it is not sent again."""

    def save(key: str) -> None:
        book = Workbook()
        assert book.active is not None
        for row in (("Key", "Amount"), (key, "1"), ("k", "2")):
            book.active.append(row)
        book.save(folder / "in.xlsx")

    save("#N/A")
    assert run(folder, sheet="in.xlsx").returncode == 3
    save("k")
    assert run(folder, sheet="in.xlsx").returncode == 0
    assert paid(folder) == ["2", "1"]


@pytest.mark.parametrize("some", [("--limit", "1"), ("--rows", "2"), ("--where", "Amount = 0")])
def test_a_row_below_those_that_take_part(folder: Path, some: tuple[str, str]) -> None:
    """The whole sheet is looked at, whichever rows take part: what stands further down is nobody else's."""
    write(folder, "1", "2")
    run(folder)
    write(folder, "0", "1", "2")
    run(folder, *some)
    run(folder)
    assert sorted(paid(folder)) == ["0", "1", "2"]


def test_what_is_said_of_rows_with_one_key(folder: Path) -> None:
    """On the second night as on the first: what may still be confused is those that are edited."""
    write(folder, "1", "2")
    for _ in range(2):
        said = run(folder).stdout
        assert "2 rows share their key with another" in said
        assert "those that are edited are told apart by their order only" in said


def test_check_and_run_find_the_same_rows(folder: Path) -> None:
    """A row put on top of those that ran makes none of them a duplicate of itself."""
    header, unique = "Key,Amount,No", ("--unique", "No")
    write(folder, "1,R1", "2,R2", header=header)
    run(folder, *unique)
    write(folder, "0,R0", "1,R1", "2,R2", header=header)
    checked = run_program("check", "in.csv", "--task", "task.py:pay", *KEY, *unique, cwd=folder)
    assert checked.returncode == run(folder, *unique).returncode == 0
    assert sorted(paid(folder)) == ["0", "1", "2"]


def test_what_makes_a_row_unique_is_learned_from_the_row_itself(folder: Path) -> None:
    """`--unique`, asked for after a row was put on top: each run gets the claim of its own row."""
    header = "Key,Amount,No"
    write(folder, "1,R1", "2,R2", header=header)
    run(folder)
    write(folder, "0,R0", "1,R1", "2,R2", header=header)
    with (folder / "in.csv").open("a") as sheet:
        sheet.write("m,5,R2\n")
    done = run(folder, "--unique", "No")
    assert done.returncode == 3
    assert sorted(paid(folder)) == ["0", "1", "2"]


async def night(path: Path, sheet: list[Entry], info: BatchInfo, stop_after: int = 1000) -> list[Step]:
    """Run the sheet as a batch does; after `stop_after` sent rows it is killed. Rows that send `FAILING` fail."""
    async with Journal.open(path, info) as journal:
        if journal.may_have_twins:
            for place in range(0, len(sheet), 3):
                await journal.see(sheet[place : place + 3])
            await journal.tell_apart()
        plans: list[Step] = []
        for place in range(0, len(sheet), 2):
            plans += await journal.register(sheet[place : place + 2])
        sent = [plan for plan in plans if isinstance(plan, Send)]
        for plan in sent[:stop_after]:
            await run_row(journal, plan, f"run-{plan.row_id}", "failure" if plan.params == FAILING else "success")
        if len(sent) <= stop_after:
            await journal.finish(3)
    return plans


def entries(*rows: tuple[bytes, bytes]) -> list[Entry]:
    """Rows with these keys and params."""
    return [Entry(number, key, params) for number, (key, params) in enumerate(rows, 2)]


ROWS = st.tuples(st.sampled_from([b"K", b"L"]), st.sampled_from([b"1", b"2", b"3", FAILING]))
EDITS = st.lists(st.tuples(st.sampled_from(["insert", "delete", "swap", "edit"]), st.integers(0, 7), ROWS), max_size=4)


def edited(rows: list[tuple[bytes, bytes]], edits: list[tuple[str, int, tuple[bytes, bytes]]]) -> None:
    for what, where, row in edits:
        place = where % (len(rows) + 1)
        if what == "insert":
            rows.insert(place, row)
        elif place < len(rows) and what == "delete":
            del rows[place]
        elif place < len(rows) and what == "swap":
            rows[place], rows[0] = rows[0], rows[place]
        elif place < len(rows):
            rows[place] = (rows[place][0], row[1])


@pytest.mark.long
@given(
    st.lists(ROWS, min_size=1, max_size=6), st.lists(st.tuples(EDITS, st.sampled_from([1, 9])), min_size=1, max_size=5)
)
def test_what_was_sent_is_kept_and_never_sent_again(
    rows: list[tuple[bytes, bytes]], edits: list[tuple[list[tuple[str, int, tuple[bytes, bytes]]], int]]
) -> None:
    """Inserted, deleted, swapped, edited, killed and retried, night by night: as many rows as send what was sent and
    succeeded have these runs, and only those beyond that number may be sent.
    """
    last: dict[int, tuple[bytes, bytes]] = {}

    async def nights(path: Path) -> None:
        for more, stop_after in [([], 9), *edits]:
            edited(rows, more)
            known = Counter(last.values())
            plans = await night(path, entries(*rows), batch_info("failure", key=("Key",)), stop_after)
            kept, sent = Counter[tuple[bytes, bytes]](), defaultdict[tuple[bytes, bytes], list[int]](list)
            for row, plan in zip(rows, plans, strict=True):
                assert isinstance(plan, Keep | Send)
                kept[row] += last.get(plan.row_id) == row
                if isinstance(plan, Send):
                    sent[row].append(plan.row_id)
            assert kept == known & Counter(rows)
            for row, stands in Counter(rows).items():
                if row[1] != FAILING:
                    assert len(sent[row]) <= max(0, stands - known[row])
            starts = [(plan.row_id, row) for row, plan in zip(rows, plans, strict=True) if isinstance(plan, Send)]
            last.update(starts[:stop_after])

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(nights, Path(folder) / "a.journal.db")


def paired(sheet: list[tuple[bytes, bool]], known: list[bytes | None]) -> dict[int, int | None]:
    """The rule in words: alike first, those that can be sent before the others; then the rest by order."""
    left, found = list(enumerate(known, 1)), dict[int, int | None]()
    rows = [(number, *row) for number, row in enumerate(sheet, 2)]
    for number, params, _ in sorted(rows, key=lambda row: row[2]):
        alike = next((twin for twin in left if twin[1] == params), None)
        if alike:
            left.remove(alike)
            found[number] = alike[0]
    rest = [number for number, _, _ in rows if number not in found]
    return found | dict(zip(rest, [*(row for row, _ in left), *([None] * len(rest))], strict=False))


@given(
    st.lists(st.tuples(st.sampled_from([b"1", b"2", b"3"]), st.booleans()), min_size=1, max_size=8),
    st.lists(st.sampled_from([b"1", b"2", b"3", None]), max_size=8),
)
def test_the_pairing_of_one_key(sheet: list[tuple[bytes, bool]], known: list[bytes | None]) -> None:
    """Rows alike are paired, sendable ones first; who is left is paired by order, and who is left then is new."""
    with closing(open_memory()) as connection:
        for nth, params in enumerate(known, 1):
            connection.execute("INSERT INTO row VALUES (?, ?, ?)", (nth, b"K", nth))
            attempts = [(b"old", "success", "r"), (params, "success", "r"), (b"1", "not_started", None)]
            for sent, status, run_id in attempts if params else attempts[2:]:
                connection.execute(
                    "INSERT INTO attempt (row, batch, params, posts, intended_at, status, run_id)"
                    " VALUES (?, 1, ?, 1, '', ?, ?)",
                    (nth, sent, status, run_id),
                )
        rows = [Entry(n, b"K", params, "bad" if bad else None) for n, (params, bad) in enumerate(sheet, 2)]
        see(connection, [*rows, Entry(1, None, b"1"), Entry(99, b"L", b"1")])
        tell_apart(connection)
        found = find_twins(connection, [*rows, Entry(99, b"L", b"1")])
    assert found == (paired(sheet, known) if len(sheet) > 1 or len(known) > 1 else {})


def test_a_row_that_cannot_be_sent_stands_back(tmp_path: Path) -> None:
    """An unreadable cell looks like an empty one: the row that has that one in earnest keeps its outcome."""
    path, info = tmp_path / "a.journal.db", batch_info(key=("Key",))
    anyio.run(night, path, entries((b"K", b"1")), info)
    sheet = [Entry(2, b"K", b"1", "B2: #N/A"), Entry(3, b"K", b"1")]
    assert anyio.run(night, path, sheet, info) == [Refuse(2, "B2: #N/A"), Keep(3, 1, "success", changed=False)]


def test_identical_twins_are_told_apart_by_their_order(tmp_path: Path) -> None:
    """Nothing else could: each keeps its run, and one more of them is a new one wherever it is put."""
    path, info = tmp_path / "a.journal.db", batch_info(key=("Key",))
    one, other = (b"K", b"1"), (b"K", b"2")
    anyio.run(night, path, entries(one, one, other), info)
    plans = anyio.run(night, path, entries(other, one, one, one), info)
    assert [plan.row_id for plan in plans if isinstance(plan, Keep)] == [3, 1, 2]
    assert plans[3] == Send(5, 4, b"1")


def test_a_twin_that_was_not_sent_yet(tmp_path: Path) -> None:
    """A night that was killed goes on: who was sent is known, whoever stands above it now, and the rest is sent."""
    path, info = tmp_path / "a.journal.db", batch_info(key=("Key",))
    anyio.run(night, path, entries((b"K", b"1"), (b"K", b"2"), (b"K", b"3")), info, 1)
    plans = anyio.run(night, path, entries((b"K", b"0"), (b"K", b"3"), (b"K", b"2"), (b"K", b"1")), info)
    assert [type(plan) for plan in plans] == [Send, Send, Send, Keep]
    assert len({plan.row_id for plan in plans if isinstance(plan, Send | Keep)}) == 4


def test_unique_keys_are_what_they_were(tmp_path: Path) -> None:
    """An edited row with a key of its own is that row, even where it now sends what another key's row sent."""
    path, info = tmp_path / "a.journal.db", batch_info(key=("Key",))
    anyio.run(night, path, entries((b"K", b"1"), (b"L", b"2"), (b"M", b"3")), info)
    assert anyio.run(night, path, entries((b"M", b"9"), (b"L", b"1"), (b"K", b"2")), info) == [
        Keep(2, 3, "success", changed=True),
        Keep(3, 2, "success", changed=True),
        Keep(4, 1, "success", changed=True),
    ]


@pytest.mark.parametrize(("key", "passes"), [((), [0, 1, 1]), (("Key",), [0, 1, 1])])
def test_the_sheet_is_gone_over_only_where_it_has_to_be(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: tuple[str, ...], passes: list[int]
) -> None:
    """Not before anything was sent; then its rows may be known under other forms of their keys."""
    count = 0
    every = Source.every

    def counted(self: Source, is_hasty: Callable[[], bool], is_known: Callable[[bytes], bool]) -> Iterator[RowParams]:
        nonlocal count
        count += 1
        return every(self, is_hasty, is_known)

    async def one_night() -> int:
        nonlocal count
        count = 0
        info = batch_info(key=key)
        with Source(Job(input=str(folder / "in.csv"), task="t", key=key), folder) as source:
            async with Journal.open(folder / "a.journal.db", info) as journal:
                await look_ahead(source, journal)
                async for chunk in plan_rows(source, journal):
                    for plan, _ in chunk:
                        if isinstance(plan, Send):
                            await run_row(journal, plan, f"run-{plan.row_id}")
                await journal.finish(0)
        return count

    write(folder, "1", "2")
    monkeypatch.setattr(Source, "every", counted)
    assert [anyio.run(one_night) for _ in passes] == passes


def test_what_another_sheet_of_the_night_is_about_to_send(folder: Path) -> None:
    """Nothing of it is sent yet, and the row that would send the same is that row all the same."""
    (folder / "a.csv").write_text("Key,Amount\nk,1\n")
    (folder / "b.csv").write_text("Key,Amount\nk,3\nk,1\n")
    run(folder, "--journal", str(folder / "all.db"), "--canary", "1", sheet="*.csv")
    assert sorted(paid(folder)) == ["1", "3"]
    with (folder / "b.results.csv").open(newline="") as file:
        assert [json.loads(row["result"]) for row in csv.DictReader(file)] == [{"paid": "3"}, {"paid": "1"}]


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_row_that_two_sheets_of_one_night_have(tmp_path: Path, *, is_changed: bool) -> None:
    """It is told apart by what is to be sent for it tonight, before that is recorded, whatever was sent before."""

    async def tonight(path: Path) -> None:
        info = batch_info("changed", key=("Key",))
        if is_changed:
            await night(path, entries((b"k", b"0")), info)
        async with JournalFile.open(path) as file:
            one = await place(await file.begin(info), entries((b"k", b"1")))
            two = await place(await file.begin(info), entries((b"k", b"3"), (b"k", b"1")))
        assert [type(step) for step in one + two] == [Send, Send, Keep]
        (first, new, same) = (*one, *two)
        assert isinstance(first, Send)
        assert isinstance(new, Send)
        assert isinstance(same, Keep)
        assert same.row_id == first.row_id != new.row_id

    async def place(journal: Journal, sheet: list[Entry]) -> list[Step]:
        if journal.may_have_twins:
            await journal.see(sheet)
            await journal.tell_apart()
        return await journal.register(sheet)

    anyio.run(tonight, tmp_path / "j.db")
