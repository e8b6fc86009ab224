"""What must be true so that no paid row is started again, one promise after the other: a scene for each.

The starts are counted at the service that remembers them all; `check` is asked before each night. See `Scene`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from counted_nights import OPEN_ITEMS
from killing import Moment
from killing import run as run_killed
from openpyxl import Workbook
from program import run_program
from remembering_service import KeyedService, Service, on_a_socket
from workbooks import Tab, text_cell, text_row, write_workbook

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from counted_nights import Scene

    Play = Callable[[Service], Scene]

ENDINGS = pytest.mark.parametrize("ending", ["csv", "xlsx"])
HELD = "--same carries that over, --again starts this row, too"


def test_one_memory_per_task(scene: Scene) -> None:
    """One journal for sheets of all names and keys, an earlier release's goes on; `status` says where a row ran."""
    scene.night(scene.sheet("a.csv"), starts=OPEN_ITEMS)
    scene.write("b.csv", [["Id", "Row"], ["7", "A-1"], ["8", "B-1"]])
    words = ("b.csv", "--key", "Id")
    scene.night(*words, starts=["B-1"], code=3, held=1, hears=["from a.csv, row 2: success, run-1"])
    assert [path.name for path in scene.folder.glob("*.journal.db")] == ["pay.journal.db"]
    told = scene.status("a.csv", "--row", "3")
    assert "batch 1 of a.csv (row 3 then): success" in told or scene.is_killed
    (scene.folder / "pay.journal.db").rename(scene.folder / "a.journal.db")
    gone = "pay.journal.db: this journal of the same task is gone"
    scene.night(scene.sheet("a.csv", (*OPEN_ITEMS, "A-5")), starts=["A-5"], hears=[gone])
    scene.night(scene.sheet("c.csv", ("A-5", "C-1")), starts=["C-1"], code=3, hears=["from a.csv, row 6: success"])


def test_a_journal_of_another_service_is_left_alone(scene: Scene) -> None:
    """The next free name is taken, and told; the index knows both."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    before = (scene.folder / "pay.journal.db").read_bytes()
    with on_a_socket(Service(looks=1)) as other:
        scene.service, url = other, scene.service.url
        scene.night(scene.sheet("other.csv"), starts=OPEN_ITEMS)
        told = "pay.journal.db: the journal of another task or service; this one's is pay-2.journal.db"
        assert scene.quiet or scene.is_killed or told in scene.said
        assert (scene.folder / "pay.journal.db").read_bytes() == before
        scene.night("other.csv")
        assert url != other.url


@pytest.mark.parametrize(
    "write", [lambda url: f"{url}/", lambda url: url.replace("http://127.0.0.1", "HTTP://LocalHost")]
)
def test_a_service_is_the_same_however_its_address_is_written(scene: Scene, write: Callable[[str], str]) -> None:
    """With a slash at the end, in capitals, by the machine's name: it has the same journal, and nothing starts."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    words = ("--service", write(scene.service.url))
    scene.night("in.csv", *words)
    scene.night(scene.sheet("next.csv"), *words)
    other = scene.beside("other")
    other.night(other.sheet("new.csv"), *words, code=3, held=4, hears=[HELD])
    assert [path.name for path in scene.folder.glob("*.journal.db")] == ["pay.journal.db"]


@pytest.mark.parametrize("words", [("--retry", "all"), ("--retry", "changed,unknown"), ("--on-unknown", "resend")])
def test_a_hold_is_a_hold(scene: Scene, words: tuple[str, ...]) -> None:
    """No value of `--retry`, and no `--on-unknown resend`, releases it; `--again` does, for one batch."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    other = scene.beside("other")
    other.sheet("new.csv")
    for _night in range(2):
        other.night("new.csv", *words, "--retry-wait", "0", code=3, held=4, hears=[HELD])
    other.night("new.csv", "--again", starts=OPEN_ITEMS)
    other.night("new.csv")


def test_again_stands_in_no_job_file_and_in_no_variable(scene: Scene) -> None:
    """A job file with it is refused (2), a variable is passed over."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    other = scene.beside("other")
    other.sheet("new.csv")
    (other.folder / "night.toml").write_text('input = "new.csv"\nagain = true\n')
    other.night("night.toml", code=2, hears=["say --again on the command line"])
    other.night("new.csv", code=3, held=4, hears=[HELD], BATCH_RUNNER_AGAIN="true")


def fails_once(row: str, start: int) -> str:
    return "failure" if row == "A-2" and start == 1 else "success"


def test_only_what_may_have_run_holds_another(play: Play) -> None:
    """A failed row that was mended elsewhere runs."""
    with on_a_socket(
        Service(looks=1, ends=lambda row, start: "failure" if row == "A-2" and start == 1 else "success")
    ) as s:
        scene = play(s)
        scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS, code=3)
        other = scene.beside("other")
        other.night(other.sheet("new.csv"), starts=["A-2"], code=3, held=3, hears=[HELD])


@pytest.mark.parametrize("word", ["--adopt-output", "--ignore-output"])
def test_the_output_is_evidence(scene: Scene, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without journal and index nobody can say whose its runs are: nothing is sent (2) until a person says so."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    (scene.folder / "pay.journal.db").unlink()
    monkeypatch.setenv("BATCH_RUNNER_STATE", str(scene.folder.with_name("another-computer")))
    scene.night("in.csv", code=2, hears=["4 runs that the journal", "--adopt-output", "--ignore-output"])
    if word == "--adopt-output":
        scene.night("in.csv", word, hears=["4 runs of in.results.csv the journal did not know: taken back"])
    else:
        scene.night("in.csv", word, starts=OPEN_ITEMS)
    scene.night("in.csv")
    scene.shows("in.results.csv", *["success"] * 4)


def test_a_journal_is_whole_or_refused(scene: Scene) -> None:
    """From the first intent on the main file says that a batch is under way; a batch that ended left it whole."""
    scene.sheet("in.csv")
    arguments = ["run", *scene.command("in.csv")]
    assert run_killed(scene.folder, arguments, Moment("after", "intent commit", 1)) < 0
    wal = scene.folder / "pay.journal.db-wal"
    kept = wal.read_bytes()
    wal.unlink()
    scene.night("in.csv", code=2, hears=["this is half a journal"])
    assert "half a journal" in run_program("status", "pay.journal.db", cwd=scene.folder).stderr
    wal.write_bytes(kept)
    scene.night("in.csv", starts=OPEN_ITEMS[1:], code=4)
    assert not wal.exists()
    scene.night("in.csv", code=4)


def test_a_database_shell_looks_at_the_journal_of_a_killed_batch(scene: Scene) -> None:
    """It takes the WAL away when it ends, and the journal is whole all the same: the night goes on by itself."""
    scene.sheet("in.csv")
    assert run_killed(scene.folder, ["run", *scene.command("in.csv")], Moment("after", "run-id commit", 2)) < 0
    with closing(sqlite3.connect(scene.folder / "pay.journal.db")) as shell:
        assert shell.execute("SELECT count(*) FROM attempt").fetchone() == (2,)
    assert not (scene.folder / "pay.journal.db-wal").exists()
    other = scene.beside("other")
    other.night(other.sheet("new.csv", ("A-1", "B-1")), starts=["B-1"], code=3, held=1, hears=[HELD])
    scene.night("in.csv", starts=OPEN_ITEMS[2:])
    scene.shows("in.results.csv", *["success"] * 4)


@pytest.mark.long
def test_the_same_key_with_other_values_in_one_night(scene: Scene) -> None:
    """Both can't be one: the second sheet's row is held, until `--same` or `--again`."""
    scene.sheet("north.csv", ("No 1",), "10")
    scene.sheet("south.csv", ("No 1",), "999")
    held = "the same key stands in row 2 of north.csv, with other Amount"
    scene.night("*th.csv", starts=["No 1"], code=3, held=1, hears=[held])
    for words in ((), ("--retry", "changed"), ("--retry", "failure")):
        scene.night("*th.csv", *words, code=3, held=1, hears=[held])
    scene.shows("north.results.csv", "success")
    scene.shows("south.results.csv", "error")
    scene.night("*th.csv", "--same")
    scene.night("*th.csv")
    scene.shows("south.results.csv", "success")


@pytest.mark.long
def test_the_same_key_with_other_values_on_a_later_night(scene: Scene) -> None:
    """It is an edit, told on that night; two sheets can't take turns, and an amount that is added up is held."""
    scene.night(scene.sheet("north.csv", ("No 1",), "10"), starts=["No 1"])
    south = scene.sheet("south.csv", ("No 1",), "999")
    edited = "1 of them edited since it ran"
    scene.night(south, hears=[edited])
    watched = "with another Amount: success, run-1"
    scene.night(south, "--total", "Amount", "--retry", "changed", code=3, held=1, hears=[watched])
    scene.night(south, "--retry", "changed", starts=["No 1"])
    for name, amount, run in (("north", "10", "run-1"), ("south", "999", "run-2"), ("north", "10", "run-1")):
        scene.night(f"{name}.csv", "--retry", "changed")
        assert scene.read(f"{name}.results.csv")[1][1:4] == [amount, run, "success"] or scene.is_killed
    scene.night("*th.csv")
    assert scene.is_killed or [scene.read(f"{name}.results.csv")[1][2] for name in ("north", "south")] == [
        "run-1",
        "run-2",
    ]


def test_two_lists_of_one_key_become_one(scene: Scene) -> None:
    """Both rows ran, one after the other under one key: in one list each is what it was, or is held; none runs."""
    scene.night(scene.sheet("in.csv", ("No 1",), "10"), starts=["No 1"])
    scene.night(scene.sheet("in.csv", ("No 1",), "12"), "--retry", "changed", starts=["No 1"])
    scene.write("in.csv", [["Row", "Amount"], ["No 1", "12"], ["No 1", "10"], ["No 2", "10"]])
    hears = ["from in.csv, row 2: success, run-1"]
    scene.night("in.csv", "--retry", "changed", starts=["No 2"], code=3, held=1, hears=hears)
    scene.night("in.csv", "--same")
    scene.night("in.csv")
    scene.shows("in.results.csv", *["success"] * 3)


def test_totals_say_that_another_amount_was_paid(scene: Scene) -> None:
    """`--same` on an edited row, or on one that ran elsewhere: its new amount isn't counted as succeeded."""

    def total(where: Scene, name: str) -> dict[str, str]:
        done = json.loads(where.call("run", name, "--total", "Amount", "--json").stdout)
        (found,) = done["totals"][0]["sums"]
        return {part: found[part] for part in ("input", "succeeded", "edited", "difference")}

    words = ("in.csv", "--total", "Amount")
    scene.night(scene.sheet("in.csv", OPEN_ITEMS[:2]), *words[1:], starts=OPEN_ITEMS[:2])
    (scene.folder / "in.csv").write_text("Row,Amount\nA-1,12\nA-2,10\n")
    scene.night(*words, code=3, held=1, hears=["with another Amount: success, run-1"])
    scene.night(*words, "--same")
    scene.night(*words)
    parts = {"input": "22", "succeeded": "10", "edited": "12", "difference": "0"}
    assert total(scene, "in.csv") == parts or scene.is_killed
    other = scene.beside("other")
    other.write("new.csv", [["Row", "Amount"], ["A-1", "10"], ["A-2", "99"]])
    other.night("new.csv", "--total", "Amount", "--same")
    parts = {"input": "109", "succeeded": "10", "edited": "99", "difference": "0"}
    assert total(other, "new.csv") == parts or scene.is_killed


def test_columns_that_are_ignored_are_not_compared(scene: Scene) -> None:
    """Days overdue differ every night."""
    for days, starts in (("5", ["A-1"]), ("6", []), ("7", [])):
        scene.write("in.csv", [["Row", "Amount", "Days overdue"], ["A-1", "10", days]])
        scene.night("in.csv", "--ignore", "Days overdue", "--retry", "changed", starts=starts)


def test_a_capability_is_trusted_from_the_same_memory_only(play: Play) -> None:
    """Behind the address another service stands tonight: a start that was lost last night isn't asked of that one."""
    with on_a_socket(KeyedService("m-1")) as service:
        scene = play(service)
        scene.sheet("in.csv")
        assert run_killed(scene.folder, ["run", *scene.command("in.csv")], Moment("after", "send", 3)) < 0
        service.become("m-2")
        scene.night("in.csv", starts=["A-4"], code=4, hears=["unknown: a run may exist"])
        scene.night("in.csv", code=4)
        assert max(service.starts_of.values()) == 1


def test_the_session_of_a_run_is_kept(play: Play) -> None:
    """Also where a refusal named the run: `status --row` shows it, for people and programs."""
    with on_a_socket(Service(looks=1, code=lambda number: 402 if number == 2 else 200)) as service:
        scene = play(service)
        scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
        if scene.is_killed:
            return
        assert "run run-2, session session-2" in scene.status("in.csv", "--row", "3")
        assert '"session_id":"session-2"' in scene.status("in.csv", "--row", "3", "--json")


@ENDINGS
def test_the_output_is_hers_too(scene: Scene, ending: str) -> None:
    """Her notes stay beside their rows, a mended cell is named and its file kept; nothing of it starts a row."""
    name, result = f"in.{ending}", f"in.results.{ending}"
    table = [["Row", "Amount"], *([row, "10"] for row in OPEN_ITEMS)]
    scene.night(scene.write(name, table), starts=OPEN_ITEMS)
    hers = [[*row, note] for row, note in zip(scene.read(result), ["Note", "paid twice?", "", "", "ask"], strict=True)]
    scene.write(result, hers)
    scene.write(name, [table[0], *reversed(table[1:]), ["A-5", "10"]])
    hears = ["it is kept as in.edited.results.xlsx"] if ending == "xlsx" else []
    scene.night(name, starts=["A-5"], hears=hears)
    notes = {row[0]: row[-1] for row in scene.read(result)}
    assert (notes["A-1"], notes["A-4"], notes["A-5"]) == ("paid twice?", "ask", "")
    mended = scene.read(result)
    mended[1][1] = "77"
    scene.write(result, mended)
    scene.night(name, hears=["B2 was edited in the result file, not in the sheet: to send it, correct the sheet"])
    kept = [path for path in scene.folder.glob("in.edited*") if "77" in [row[1] for row in scene.read(path.name)]]
    assert kept or scene.is_killed
    assert "77" not in [row[1] for row in scene.read(result)]


def test_the_plan_says_it(play: Play) -> None:
    """`check` counts what is held, carried over and retried, and why; the first line of `run` has the same words."""
    with on_a_socket(Service(looks=1, ends=fails_once)) as service:
        scene = play(service)
        scene.night(scene.sheet("in.csv", OPEN_ITEMS[:2]), starts=OPEN_ITEMS[:2], code=3)
        other = scene.beside("other")
        other.night(other.sheet("other.csv", ("A-4",)), starts=["A-4"])
        words = (scene.sheet("in.csv"), "--retry", "failure", "--retry-wait", "0")
        told = scene.call("check", *words).stdout
        plan = json.loads(scene.call("check", *words, "--json").stdout)["plan"]
        if not scene.is_killed:
            counts = {"start": 1, "carried_over": 1, "retried": 1, "held": 1}
            assert {name: rows for name, rows in plan.items() if rows} == counts
            day = r"\d+ \w+"
            said = rf"1 to start, 1 carried over \(from {day}\), 1 to start again \(failure on {day}\), "
            assert re.search(said + rf"1 held \(ran on {day} from other.csv\)", told), told
        scene.night(*words, starts=["A-2", "A-3"], code=3, held=1, hears=["1 held (ran on ", "1 carried over (from"])


def fails_twice(_row: str, start: int) -> str:
    return "failure" if start < 3 else "success"


def test_a_retry_is_a_nights(play: Play) -> None:
    """An hour after the last attempt, or at once when the row was mended; what waits is named."""
    with on_a_socket(Service(looks=1, ends=fails_twice)) as service:
        scene = play(service)
        words = ("in.csv", "--retry", "failure")
        scene.sheet("in.csv", ("A-1",))
        scene.night(*words, starts=["A-1"], code=3)
        scene.night(*words, code=3, hears=["waiting for their retry: 1 (rows 2)", "--retry-wait 0 starts them at once"])
        scene.sheet("in.csv", ("A-1",), "12")
        scene.night(*words, starts=["A-1"], code=3)
        scene.night(*words, code=3)
        scene.night(*words, "--retry-wait", "0", starts=["A-1"])
        scene.night(*words, "--retry-wait", "0")


def test_a_key_is_made_of_values(scene: Scene) -> None:
    """10 shown as 10.00, the list saved as text, and one that was text before: nobody's key, nothing starts."""
    scene.key = ()
    book = Workbook()
    assert book.active is not None
    for row in (("Row", "Amount"), ("A-1", 10), ("A-2", 1234.5)):
        book.active.append(row)
    book.save(scene.folder / "in.xlsx")
    scene.night("in.xlsx", starts=["A-1", "A-2"])
    for shown in ("0.00", "#,##0.000"):
        for cell in ("B2", "B3"):
            book.active[cell].number_format = shown
        book.save(scene.folder / "in.xlsx")
        scene.night("in.xlsx", "--retry", "changed")
    scene.night(scene.write("saved.csv", [["Row", "Amount"], ["A-1", "10.00"], ["A-2", "1234.50"]]))
    scene.night(scene.write("plain.csv", [["Row", "Amount"], ["A-1", "10"], ["A-2", "1234.5"]]))


def test_a_column_of_today_is_no_part_of_the_default_key(scene: Scene) -> None:
    """Its value differs at each save; `check` names it."""
    scene.key = ()

    def save(day: str) -> None:
        rows = [text_row(1, "Row", "Seen")]
        for row in (2, 3):
            seen = f'<c r="B{row}"><f>TODAY()</f><v>{day}</v></c>'
            rows.append(f'<row r="{row}">{text_cell(f"A{row}", f"A-{row - 1}")}{seen}</row>')
        write_workbook(scene.folder / "in.xlsx", {"S": Tab(rows="".join(rows))})

    save("46081")
    scene.night("in.xlsx", starts=["A-1", "A-2"])
    assert "'Seen' (TODAY())" in scene.call("check", "in.xlsx").stdout
    save("46082")
    scene.night("in.xlsx")


def test_a_row_that_is_almost_one_that_ran(scene: Scene) -> None:
    """Held, and both are named; `--again` starts it as a row of its own; one that is new altogether runs."""
    scene.key = ("--key", "Row,Vendor")
    rows = [["Row", "Vendor", "Amount", "Note"], ["A-1", "ACME", "10", "x"], ["A-2", "Bolt", "20", "y"]]
    scene.night(scene.write("in.csv", rows), starts=["A-1", "A-2"])
    scene.write("in.csv", [rows[0], ["A-1", "Acme Inc", "10", "x"], ["A-3", "Dunn", "30", "z"]])
    hears = ["almost a row that ran on", "in.csv, row 2: success, run-1", "the same Row, with another Vendor"]
    scene.night("in.csv", starts=["A-3"], code=3, held=1, hears=hears)
    scene.night("in.csv", "--again", starts=["A-1"])
    scene.night("in.csv")


def test_another_key_for_what_ran(scene: Scene) -> None:
    """`rekey` where every row can be found again; else one sentence, and the journal is as it was."""
    scene.key = ()
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    output = scene.folder / "in.results.csv"
    kept = output.read_bytes()
    output.unlink()
    scene.sheet("in.csv", amount="11")
    done = scene.rekey("--key", "Row")
    assert (done.returncode, "4 rows (2, 3, 4, 5) ran and can't be found" in done.stderr) == (2, True), done.stderr
    output.write_bytes(kept)
    assert scene.rekey("--key", "Row").returncode == 0
    scene.key = ("--key", "Row")
    scene.night("in.csv", hears=["4 of them edited since they ran"])


SPELLINGS = (
    ("Müller & Söhne", "re - 42"),
    ("Müller & Söhne", "RE\u20130042"),
    ("Müller & Söhne", "RE 0042"),
    ("Müller & Söhne", "RE/0042"),
    ("Müller & Söhne", "RE-0042."),
    ("Müller & Söhne", "RE0042"),
    ("Mueller & Soehne", "RE-0042"),
    ("MÜLLER UND SÖHNE", "RE-0042"),
    ("Müller & Söhne", "RE-0042"),
)


def test_unique_however_it_was_typed_and_wherever_it_ran(scene: Scene) -> None:
    """Nine spellings of nine are held in every journal of the index; four that only look alike run."""
    words = ("--unique", "Vendor,No", "--unique-conflict", "Amount")
    header = ["Row", "Vendor", "No", "Amount"]
    scene.night(scene.write("in.csv", [header, ["1", "Müller & Söhne", "RE-0042", "10"]]), *words, starts=["1"])
    others = (("Müller & Söhne", "RE-0420"), ("Müller & Söhne", "RE-42-1"), ("Müller & Söhne", "GU-0042"),
              ("Miller & Sohn", "RE-0042"))  # fmt: skip
    rows = [[f"X{nth}", vendor, number, "12"] for nth, (vendor, number) in enumerate((*SPELLINGS, *others))]
    other = scene.beside("other")
    new = [f"X{nth}" for nth in range(9, 13)]
    hears = ["duplicates: 9 rows not sent because of --unique", "as row 2 of in.csv", "with another Amount"]
    other.night(other.write("new.csv", [header, *rows]), *words, starts=new, code=3, held=9, hears=hears)
    other.night("new.csv", *words, "--retry", "all,changed", "--retry-wait", "0", starts=new, code=3, held=9)
    near = [header, ["Y1", "ACME", "RE-20421", "118.00"], ["Y1", "ACME", "RE-20412", "118.00"]]
    assert "hints: almost the same" in other.call("check", other.write("near.csv", near)).stdout


def test_torn_input_is_never_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older file without a last line end is taken, and the row is named; a torn workbook is refused (2)."""
    path = scene.folder / scene.sheet("in.csv")
    path.write_text(path.read_text()[:-1])
    os.utime(path, (time.time() - 100,) * 2)
    scene.night("in.csv", starts=OPEN_ITEMS, hears=["the last row, 5, has no line end"])
    scene.write("in.xlsx", [["Row", "Amount"], *([row, "10"] for row in (*OPEN_ITEMS, "A-5"))])
    book = scene.folder / "in.xlsx"
    whole = book.read_bytes()
    book.write_bytes(whole[: len(whole) // 2])
    scene.night("in.xlsx", code=2, hears=["in.xlsx"])
    book.write_bytes(whole)
    scene.night("in.xlsx", starts=["A-5"])


def test_a_file_that_changes_while_it_is_read_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read again, then refused (2): nobody knows which half is whose."""
    path = scene.folder / scene.sheet("in.csv")
    copy = shutil.copyfileobj

    def grow(source: BinaryIO, target: BinaryIO, length: int) -> None:
        copy(source, target, length)
        with path.open("a") as file:
            file.write("A-9,9\n")

    with monkeypatch.context() as patched:
        patched.setattr("batch_runner.sheet.snapshot.shutil.copyfileobj", grow)
        for command in ("check", "run"):
            done = scene.call(command, "in.csv", *scene.quiet)
            assert (done.returncode, scene.service.starts) == (2, [])
            assert "it changed while it was read" in done.stderr
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
