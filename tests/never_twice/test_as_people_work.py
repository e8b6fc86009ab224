"""What bookkeepers and administrators do, and what must not start a paid row again: a scene for each of these.

The starts are counted at the service that remembers them all; `check` is asked before each night. See `Scene`.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from counted_nights import OPEN_ITEMS
from killing import Moment
from killing import run as run_killed
from remembering_service import KeyedService, Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from counted_nights import Scene, Table

    Play = Callable[[Service], Scene]

FORTY = tuple(f"RE-{number:04}" for number in range(1, 41))
IN_THE_FUTURE = 4e9
ENDINGS = pytest.mark.parametrize("ending", ["csv", "xlsx"])


@pytest.mark.long
def test_next_months_export_has_forty_old_items_and_two_new_ones(scene: Scene) -> None:
    """Two are started."""
    scene.night(scene.sheet("offene_posten.csv", FORTY), starts=FORTY)
    december = scene.sheet("offene_posten_dezember.csv", (*FORTY, "RE-0041", "RE-0042"))
    scene.night(december, starts=("RE-0041", "RE-0042"))
    scene.shows("offene_posten_dezember.results.csv", *["success"] * 42)


def test_a_browser_saves_the_list_as_in_1_csv(scene: Scene) -> None:
    """The second download is the same list."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    scene.night(scene.sheet("in (1).csv"))
    scene.shows("in (1).results.csv", *["success"] * 4)


def test_the_folder_is_copied(scene: Scene) -> None:
    """The copied journal goes on; what ran in the first one since is held in the second, and says where it ran."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    copy = scene.beside("copy")
    shutil.copytree(scene.folder, copy.folder, dirs_exist_ok=True)
    scene.night(scene.sheet("in.csv", (*OPEN_ITEMS, "A-5")), starts=["A-5"])
    copy.night(copy.sheet("in.csv", (*OPEN_ITEMS, "A-5")), code=3, held=1, hears=["from in.csv, row 6: success, run-5"])
    copy.shows("in.results.csv", *["success"] * 4, "error")


def test_the_list_alone_is_copied_to_another_folder(scene: Scene) -> None:
    """Its rows are held there; the new one runs."""
    scene.night(scene.sheet("offene_posten.csv"), starts=OPEN_ITEMS)
    other = scene.beside("other")
    other.night(
        other.sheet("in.csv", (*OPEN_ITEMS, "A-5")),
        starts=["A-5"],
        code=3,
        held=4,
        hears=["4 held (ran on ", " from offene_posten.csv, row 2: success, run-1"],
    )
    other.shows("in.results.csv", *["error"] * 4, "success")


@pytest.mark.parametrize("output", ["elsewhere/out.csv", "elsewhere/{stem}.csv"])
def test_another_output_is_named(scene: Scene, output: str) -> None:
    """Whether another journal lies beside it or the same one goes on: nothing is started."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    (scene.folder / "elsewhere").mkdir()
    is_other = "{" not in output
    hears = ["from in.csv, row 2: success, run-1"] if is_other else []
    scene.night("in.csv", "--output", output, code=3 if is_other else 0, held=4 if is_other else 0, hears=hears)


def lose(journal: Path, backup: Path) -> None:
    journal.unlink()


def move(journal: Path, backup: Path) -> None:
    (journal.parent / "archive").mkdir()
    journal.rename(journal.parent / "archive" / journal.name)


def restore(journal: Path, backup: Path) -> None:
    shutil.copy(backup, journal)


@ENDINGS
@pytest.mark.parametrize("accident", [lose, move, restore])
def test_the_journal_is_lost_and_the_output_has_the_run_ids(
    scene: Scene, accident: Callable[[Path, Path], None], ending: str
) -> None:
    """Lost, moved, or yesterday's copy brought back: what it doesn't know is taken back from the output, and told."""
    journal, backup = scene.folder / "pay.journal.db", scene.folder.with_name("backup")
    table = [["Row", "Amount"], *([row, "10"] for row in OPEN_ITEMS)]
    scene.night(scene.write(f"in.{ending}", table[:3]), starts=OPEN_ITEMS[:2])
    shutil.copy(journal, backup)
    scene.night(scene.write(f"in.{ending}", table), starts=OPEN_ITEMS[2:])
    before = scene.read(f"in.results.{ending}")
    accident(journal, backup)
    runs = 2 if accident is restore else 4
    told = f"{runs} runs of in.results.{ending} the journal did not know: taken back into it by key"
    scene.night(f"in.{ending}", hears=[told])
    assert scene.read(f"in.results.{ending}") == before
    scene.night(f"in.{ending}")


def test_quiet_is_silent_where_all_is_well_and_tells_what_concerns_money(scene: Scene) -> None:
    """Held, taken back, gone, no index: each is said, and each is told once only where once is enough."""
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    scene.night("in.csv")
    other = scene.beside("other")
    for _night in range(2):
        other.night(other.sheet("new.csv"), code=3, held=4, hears=["4 held (ran on "])
    (scene.folder / "pay.journal.db").unlink()
    (scene.folder / "in.results.csv").unlink()
    gone = f"{scene.folder / 'pay.journal.db'}: this journal of the same task is gone"
    other.night(other.sheet("b.csv", ("B-1",)), starts=["B-1"], hears=[gone])
    other.night("b.csv")


def fails_twice(row: str, start: int) -> str:
    return "failure" if row == "A-2" and start < 3 else "success"


def test_a_scheduler_restarts_it_on_exit_3(play: Play) -> None:
    """With `--retry failure` a row is started again once a night, however often the command is: its wait is said."""
    with on_a_socket(Service(looks=1, ends=fails_twice)) as service:
        scene = play(service)
        words = (scene.sheet("in.csv"), "--retry", "failure")
        scene.night(*words, starts=OPEN_ITEMS, code=3)
        for _restart in range(3):
            scene.night(*words, code=3, hears=["waiting for their retry: 1 (rows 3)"])
        scene.night(*words, "--retry-wait", "0", starts=["A-2"], code=3)
        scene.night(*words, code=3)
        scene.night(*words, "--retry-wait", "0", "--retry-limit", "1", code=3, hears=["parked: 1 row"])
        scene.night(*words, "--retry-wait", "0", starts=["A-2"])


def test_a_csv_is_cut_off_in_the_middle_of_an_upload(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """`A-4,1` of `A-4,10` is never sent: it is waited for, refused while it grows, and taken when it is whole."""
    path, whole = scene.folder / scene.sheet("in.csv"), (scene.folder / "in.csv").read_bytes()

    def grow(_seconds: float) -> None:
        """More of it arrives while the program waits, and never the end."""
        path.write_bytes(path.read_bytes() + b"0")
        os.utime(path, (IN_THE_FUTURE, IN_THE_FUTURE))  # it stays young, however slow this machine is

    def arrive(_seconds: float) -> None:
        """The rest arrives."""
        path.write_bytes(whole)

    with monkeypatch.context() as patched:
        patched.setattr("batch_runner.sheet.snapshot.YOUNG", 0.05)
        patched.setattr("batch_runner.sheet.snapshot.time.sleep", grow)
        path.write_bytes(whole[:-3])
        grow(0)
        done = scene.call("run", "in.csv", *scene.quiet)
        assert (done.returncode, scene.service.starts) == (2, [])
        assert "in.csv: still being written" in done.stderr
    with monkeypatch.context() as patched:
        patched.setattr("batch_runner.sheet.snapshot.time.sleep", arrive)
        for command in ("check", "run"):
            path.write_bytes(whole[:-2])
            assert scene.call(command, "in.csv", *scene.quiet).returncode == 0
    assert [params["Amount"] for params in scene.service.sent] == ["10"] * 4
    scene.night("in.csv")


def test_a_note_is_edited_and_nobody_said_a_key(scene: Scene) -> None:
    """All params are the key, so it is a new row: held, since it is almost one that ran."""
    scene.key = ()
    table = [["Row", "Vendor", "Note"], ["A-1", "ACME", "a"], ["A-2", "Bolt", "b"]]
    scene.night(scene.write("in.csv", table), starts=["A-1", "A-2"])
    table[1][2] = "edited"
    hears = ["almost a row that ran on", "the same Row, with another Note"]
    scene.night(scene.write("in.csv", table), code=3, held=1, hears=hears)
    scene.night("in.csv", "--same")
    scene.night("in.csv")
    scene.shows("in.results.csv", "success", "success")


def test_a_first_try_without_key_and_then_with_one(scene: Scene) -> None:
    """The sheet is refused with the way out; after `rekey` it goes on, and an edit is the same row."""
    scene.key = ()
    scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
    scene.night("in.csv", "--key", "Row", code=2, hears=["batch-runner rekey "])
    done = scene.rekey("--key", "Row")
    assert done.returncode == 0, done.stderr
    scene.key = ("--key", "Row")
    scene.night("in.csv")
    scene.night(scene.sheet("in.csv", amount="12"), hears=["4 of them edited since they ran"])


SPELLINGS = ("RE 0042", "RE/0042", "RE-0042.", "re-0042", "RE 42")


def test_a_number_is_typed_in_another_way(scene: Scene) -> None:
    """`--unique` knows it in this sheet, on the next night and in another folder's journal."""
    words = ("--unique", "No,Vendor")
    rows = [["Row", "No", "Vendor"], ["1", "RE-0042", "Müller & Soehne"]]
    scene.night(scene.write("in.csv", rows), *words, starts=["1"])
    others = [[str(nth), number, "Mueller und Söhne"] for nth, number in enumerate(SPELLINGS, 2)]
    new = ["9", "RE-0043", "Mueller und Söhne"]
    hears = ["duplicates: 5 rows not sent because of --unique"]
    scene.night(scene.write("in.csv", [*rows, *others, new]), *words, starts=["9"], code=3, held=5, hears=hears)
    other = scene.beside("other")
    renamed = [["Row", "No", "Vendor"], *([f"X{row}", number, vendor] for row, number, vendor in others)]
    hears = [f"(journal {scene.folder / 'pay.journal.db'})"]
    other.night(other.write("new.csv", renamed), *words, code=3, held=5, hears=hears)


def test_a_new_sheet_comes_into_the_folder(play: Play) -> None:
    """It is no stopped night that goes on: what failed in the other sheet is retried, once."""
    with on_a_socket(Service(looks=1, ends=fails_twice)) as service:
        scene = play(service)
        words = ("*.csv", "--output", "done/{stem}.csv", "--retry", "failure", "--retry-wait", "0")
        (scene.folder / "done").mkdir()
        scene.sheet("a.csv")
        scene.night(*words, starts=OPEN_ITEMS, code=3)
        scene.sheet("b.csv", ("B-1",))
        scene.night(*words, starts=["A-2", "B-1"], code=3)
        scene.night(*words, starts=["A-2"])
        scene.night(*words)


def capitals(table: Table) -> Table:
    return [[name.upper() if name in ("status", "error") else name for name in table[0]], *table[1:]]


def no_run_id(table: Table) -> Table:
    place = table[0].index("run_id")
    return [[*row[:place], *row[place + 1 :]] for row in table]


def a_comment(table: Table) -> Table:
    return [[*row, note] for row, note in zip(table, ["Comment", "a", "b", "c", "d"], strict=True)]


def her_own(table: Table) -> Table:
    return [[*row, note] for row, note in zip(table, ["result.checked by", "Ann", "", "", "Bea"], strict=True)]


@ENDINGS
@pytest.mark.parametrize("touch", [capitals, no_run_id, a_comment, her_own])
def test_in_place_she_touches_our_columns(scene: Scene, touch: Callable[[Table], Table], ending: str) -> None:
    """Ours are known by what the journal wrote: none runs, none is sent; her own column stays."""
    name = f"in.{ending}"
    words = (name, "--output", name, "--expand")
    scene.write(name, [["Row", "Amount"], *([row, "10"] for row in OPEN_ITEMS)])
    scene.night(*words, starts=OPEN_ITEMS)
    before = touch(scene.read(name))
    scene.write(name, before)
    scene.night(*words, hears=["edited since it was written; as it was, it is kept"] if touch is no_run_id else [])
    after = scene.read(name)
    hers = [header for header in before[0] if header in ("Comment", "result.checked by")]
    for header in hers:
        assert [row[after[0].index(header)] for row in after] == [row[before[0].index(header)] for row in before]
    scene.shows(name, *["success"] * 4)
    assert {frozenset(params) for params in scene.service.sent} == {frozenset(("Row", "Amount"))}


@pytest.mark.parametrize("boundary", ["run-id commit", "outcome commit"])
def test_the_journal_of_a_killed_batch_is_copied_without_its_wal(scene: Scene, boundary: str) -> None:
    """Half a journal is refused (2) wherever it is met; with its other half it goes on."""
    scene.night(scene.sheet("in.csv", OPEN_ITEMS[:1]), starts=OPEN_ITEMS[:1])
    scene.sheet("in.csv")
    assert run_killed(scene.folder, ["run", *scene.command("in.csv")], Moment("after", boundary, 2)) < 0
    started = len(scene.service.starts)
    other = scene.beside("other")
    wal = scene.folder / "pay.journal.db-wal"
    shutil.copy(scene.folder / "pay.journal.db", other.folder)
    kept = wal.read_bytes()
    wal.unlink()
    for half in (scene, other):
        half.night(half.sheet("in.csv"), code=2, hears=["this is half a journal"])
    assert len(scene.service.starts) == started
    wal.write_bytes(kept)
    (other.folder / "pay.journal.db").unlink()
    unanswered = boundary == "outcome commit"  # which holds the next row's intent, too
    scene.night("in.csv", starts=OPEN_ITEMS[started + unanswered :], code=4 if unanswered else 0)


@ENDINGS
@pytest.mark.parametrize("part", [("--limit", "1"), ("--where", "Row = 'A-1'")])
@pytest.mark.parametrize("is_copied", [False, True], ids=["edited", "copied"])
def test_in_place_a_rows_key_is_edited_and_some_rows_run(
    scene: Scene, ending: str, part: tuple[str, str], *, is_copied: bool
) -> None:
    """The other invoice's run and `success` are taken out of that row, and it is sent when its turn comes."""
    name = f"in.{ending}"
    words = (name, "--output", name)
    scene.write(name, [["Row", "Amount"], *([row, "10"] for row in OPEN_ITEMS)])
    scene.night(*words, starts=OPEN_ITEMS)
    table = scene.read(name)
    edited = ["A-5", *table[4][1:]]
    table = [*table, edited] if is_copied else [*table[:4], edited]
    scene.write(name, table)
    scene.night(*words, *part, hears=[f"row {len(table)}: what stood there belongs to another row"])
    scene.shows(name, *["success"] * (len(table) - 2), "")
    scene.night(*words, starts=["A-5"])
    scene.shows(name, *["success"] * (len(table) - 1))


def test_the_copy_of_a_journal_goes_on_at_serve(play: Play) -> None:
    """Its starts have keys of their own: none of its new rows gets another row's run, and none is refused (422)."""
    with on_a_socket(KeyedService("m-1")) as service:
        scene = play(service)
        scene.night(scene.sheet("in.csv"), starts=OPEN_ITEMS)
        copy = scene.beside("copy")
        shutil.copytree(scene.folder, copy.folder, dirs_exist_ok=True)
        scene.night(scene.sheet("in.csv", (*OPEN_ITEMS, "A-5")), starts=["A-5"])
        copy.night(copy.sheet("in.csv", (*OPEN_ITEMS, "A-6")), starts=["A-6"])
        copy.shows("in.results.csv", *["success"] * 5)
        runs = {
            run_id: row for row, _, run_id, *_ in (*scene.read("in.results.csv")[1:], *copy.read("in.results.csv")[1:])
        }
        assert all(service.rows[run_id] == row for run_id, row in runs.items() if run_id)


@pytest.mark.parametrize("memories", [("m-1",), ("m-1", "m-2")], ids=["one serve", "two serves"])
def test_two_serves_stand_behind_one_address(play: Play, memories: tuple[str, ...]) -> None:
    """A lost start is asked for where one memory answers, and stays `unknown` where there are two."""
    with on_a_socket(KeyedService(*memories, code=lambda number: 0 if number == 4 else 200)) as service:
        scene = play(service)
        is_known = len(memories) == 1
        rows = (*OPEN_ITEMS, "A-5")
        words = (scene.sheet("in.csv", rows),)
        scene.night(
            *words, starts=rows, code=0 if is_known else 4, hears=[] if is_known else ["unknown: a run may exist"]
        )
        scene.night(*words, code=0 if is_known else 4)
        assert max(service.starts_of.values()) == 1
        if not scene.is_killed:  # the service loses one answer, and each kill may lose another
            scene.shows("in.results.csv", *["success"] * 3, "success" if is_known else "unknown", "success")


@pytest.mark.parametrize("code", [400, 402, 409, 429, 503])
@pytest.mark.parametrize("status", ["success", "failure"])
def test_a_refusal_names_a_run(play: Play, code: int, status: str) -> None:
    """It is that row's run: its id is kept, it isn't started again, and nothing else stops."""
    with on_a_socket(
        Service(looks=1, ends=lambda *_: status, code=lambda number: code if number == 2 else 200)
    ) as service:
        scene = play(service)
        words = (scene.sheet("in.csv"), "--sync")
        ends = 0 if status == "success" else 3
        scene.night(*words, starts=OPEN_ITEMS, code=ends)
        scene.night(*words, code=ends)
        scene.shows("in.results.csv", *[status] * 4)
        runs = [row[2] for row in scene.read("in.results.csv")[1:] if row[3] != "unknown"]
        assert [service.rows[run_id] for run_id in runs] == service.starts[: len(runs)] or scene.is_killed


@ENDINGS
def test_the_next_export_shows_the_currency_of_each_amount(scene: Scene, ending: str) -> None:
    """Nothing was edited; where edited rows are started, these are held until somebody says what they are."""
    table = [["Row", "Amount"], *([row, "1.234,50"] for row in OPEN_ITEMS)]
    scene.night(scene.write(f"in.{ending}", table), starts=OPEN_ITEMS)
    name = scene.write(f"in.{ending}", [table[0], *([row, "EUR 1,234.50"] for row in OPEN_ITEMS)])
    scene.night(name)
    hears = ["4 held (ran on ", "with another currency, or none: success"]
    scene.night(name, "--retry", "changed", code=3, held=4, hears=hears)
    scene.night(name, "--retry", "changed", "--same")
    scene.night(name, "--retry", "changed")
    scene.shows(f"in.results.{ending}", *["success"] * 4)


@ENDINGS
def test_rows_that_differ_in_their_currency_alone_lose_it(scene: Scene, ending: str) -> None:
    """Without a key each of them may be either that ran: all are held, and none takes the place of two."""
    scene.key = ()
    amounts = ["1,00 €", "2,00", "1,00 $", "1,00 £"]
    scene.night(scene.write(f"in.{ending}", [["Row", "Amount"], *(["A", text] for text in amounts)]), starts=["A"] * 4)
    bare = [["A", text.split()[0]] for text in amounts]
    hears = ["3 held (ran on ", "but for how a number or date is written"]
    scene.night(scene.write(f"in.{ending}", [["Row", "Amount"], *bare]), code=3, held=3, hears=hears)
