"""A job with several sheets: the real program runs a batch for each, and says what the whole night came to."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from datetime import date
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import pytest
from program import COMMAND, PATIENCE, interrupt, run_program, start_program
from served import wait_until

from batch_runner.job.inputs import night_job_of
from batch_runner.job.job import Job
from batch_runner.journal.batches import hold_journal
from batch_runner.progress import Progress, Tally
from batch_runner.runner.night import run_night

if TYPE_CHECKING:
    from pathlib import Path

TASKS = """
import os

import anyio

async def pay(params):
    with open(os.path.join(os.environ["NIGHT"], "paid.txt"), "a") as paid:
        print(params["Number"], file=paid)
    if params.get("Spoil"):
        with open(os.path.join(os.environ["NIGHT"], params["Spoil"]), "w") as sheet:
            sheet.write("Number,Number\\n1,1\\n")
    if params.get("Fail"):
        raise ValueError("no such invoice")
    while params.get("Until") and not os.path.exists(os.path.join(os.environ["NIGHT"], params["Until"])):
        await anyio.sleep(0.01)
    return {}
"""
JOB = 'input = "inbox/*.csv"\ntask = "tasks.py:pay"\nprogress = "never"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a job of two sheets."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "nightly.toml").write_text(JOB)
    (tmp_path / "inbox").mkdir()
    sheet(tmp_path, "a.csv", "Number\n1\n2\n")
    sheet(tmp_path, "b.csv", "Number\n3\n")
    return tmp_path


def sheet(folder: Path, name: str, text: str) -> None:
    (folder / "inbox" / name).write_text(text)


def run(folder: Path, *more: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_program("run", folder / "nightly.toml", *more, cwd=cwd or folder, NIGHT=str(folder))


def told(folder: Path, *more: str) -> dict[str, Any]:
    done = run(folder, "--json", *more)
    fields: dict[str, Any] = json.loads(done.stdout)
    assert fields["exit_code"] == done.returncode
    return fields


def paid(folder: Path) -> list[str]:
    """The rows that the task ran for, in order of their numbers."""
    path = folder / "paid.txt"
    return sorted(path.read_text().split()) if path.exists() else []


def statuses(folder: Path, name: str) -> list[str]:
    with (folder / "inbox" / name).open(newline="", encoding="utf-8-sig") as file:
        return [row["status"] for row in csv.DictReader(file)]


def not_run(fields: dict[str, Any]) -> dict[str, str]:
    """Why, by the sheet's name."""
    return {PurePath(left["input"]).name: left["why"] for left in fields["not_run"]}


def test_each_sheet_is_a_batch_of_its_own(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each has its output beside it; a summary for each, then a line over all; from whatever folder it is called."""
    done = run(folder, cwd=tmp_path_factory.mktemp("elsewhere"))
    assert done.returncode == 0, done.stderr
    assert paid(folder) == ["1", "2", "3"]
    assert statuses(folder, "a.results.csv") == ["success", "success"]
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{folder}/inbox/a.csv: 2 rows in")
    assert lines[-1] == "2 sheets: 3 rows, 3 success, 0 other"
    again = told(folder)
    assert [batch["carried"] for batch in again["batches"]] == [2, 1]
    assert paid(folder) == ["1", "2", "3"]


def test_as_cron_calls_it(folder: Path) -> None:
    """An absolute path is enough: no terminal, no home, no language, a strict umask, the root as folder."""
    (folder / "nightly.toml").write_text(JOB.replace("*.csv", "{date:%d}-*.csv"))
    sheet(folder, "24-Übersicht.csv", "Number\n7\n")
    command = [*COMMAND, "run", str(folder / "nightly.toml"), "--date", "2026-11-24"]
    bare = {"LANG": "C", "LC_ALL": "C", "PATH": "/usr/bin:/bin", "NIGHT": str(folder)}
    bare["STATE_DIRECTORY"] = str(folder / "state")
    done = subprocess.run(
        command, cwd="/", env=bare, stdin=subprocess.DEVNULL, capture_output=True, check=False, umask=0o077
    )
    assert done.returncode == 0, done.stderr
    assert statuses(folder, "24-Übersicht.results.csv") == ["success"]
    assert (folder / "inbox" / "tasks.py-pay.journal.db").is_file()
    assert done.stderr == b""


def test_a_pattern_gives_one_object_however_many_it_matches(folder: Path) -> None:
    """A program that reads the summary doesn't depend on how many sheets there are tonight."""
    (folder / "inbox" / "b.csv").unlink()
    assert [batch["rows"] for batch in told(folder)["batches"]] == [2]
    alone = run_program("run", "inbox/a.csv", "--task", "tasks.py:pay", "--json", cwd=folder, NIGHT=str(folder))
    assert json.loads(alone.stdout)["carried"] == 2


def test_all_bad_sheets_are_named_before_anything_is_sent(folder: Path) -> None:
    """2 means that nothing was sent, also where the first sheet was good."""
    sheet(folder, "c.csv", "Number,Number\n1,1\n")
    sheet(folder, "d.csv", "Amount\n1\n")
    done = run(folder, "--key", "Number")
    assert done.returncode == 2
    assert f"{folder}/inbox/c.csv: c.csv, A1 and B1: two headers are 'Number'" in done.stderr
    assert f"{folder}/inbox/d.csv: key: d.csv has no column 'Number'" in done.stderr
    assert paid(folder) == []
    assert not list(folder.rglob("*.db*"))


def test_a_damaged_journal_is_named_before_anything_is_sent(folder: Path) -> None:
    """What the journals are is looked at with the sheets."""
    (folder / "inbox" / "tasks.py-pay.journal.db").write_text(
        "not a journal at all, and long enough to be read as one" * 20
    )
    done = run(folder)
    assert done.returncode == 2
    assert "tasks.py-pay.journal.db: this is no journal" in done.stderr
    assert paid(folder) == []


def test_a_sheet_that_turns_bad_leaves_the_others_their_turn(folder: Path) -> None:
    """It was good when it was looked over: it is passed over with its sentence, and the code is 5."""
    sheet(folder, "a.csv", "Number,Spoil\n1,inbox/b.csv\n2,\n")
    sheet(folder, "c.csv", "Number\n4\n")
    fields = told(folder, "--concurrency", "1")
    assert fields["exit_code"] == 5
    assert "two headers are 'Number'" in not_run(fields)["b.csv"]
    assert [batch["rows"] for batch in fields["batches"]] == [2, 1]
    assert paid(folder) == ["1", "2", "4"]


def test_a_batch_that_stops_early_ends_the_night(folder: Path) -> None:
    """The rest is named, and the same command goes on with it."""
    sheet(folder, "a.csv", "Number,Fail\n1,x\n2,\n")
    fields = told(folder, "--max-failures", "1", "--concurrency", "1")
    assert fields["exit_code"] == 5
    assert not_run(fields) == {"b.csv": "the night ended before its turn; the same command goes on with it"}
    assert run(folder).returncode == 3
    assert paid(folder) == ["1", "2", "3"]


class Broken(Progress):
    """An observer with a bug, which comes out when the third row is done."""

    def moved(self, tally: Tally) -> None:
        if tally.done == 3:
            raise ZeroDivisionError


def test_a_bug_hides_no_summary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done is told; the bug ends the night with 1, and is there to be raised."""
    monkeypatch.setenv("NIGHT", str(folder))
    sheet(folder, "c.csv", "Number\n4\n")
    job = Job(input=str(folder / "inbox" / "*.csv"), task=f"{folder}/tasks.py:pay", concurrency=1)
    done = run_night(night_job_of(job, date(2026, 11, 4)), Broken())
    assert done.exit_code == 1
    assert [batch.rows for batch in done.batches] == [2, 1]
    assert [batch.count("not_started") for batch in done.batches] == [0, 1]
    assert [PurePath(left.input).name for left in done.not_run] == ["b.csv"]
    assert done.bug is not None


class Filling(Progress):
    """An observer while whose night begins somebody fills the sheets, which were empty when they were looked over."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def begin(self, tally: Tally) -> None:
        sheet(self._folder, "b.csv", "Number\n3\n4\n")
        super().begin(tally)


def test_a_sheet_that_is_filled_before_its_turn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows run, though there were none in all sheets when they were counted."""
    monkeypatch.setenv("NIGHT", str(folder))
    for name in ("a.csv", "b.csv"):
        sheet(folder, name, "Number\n")
    job = Job(input=str(folder / "inbox" / "*.csv"), task=f"{folder}/tasks.py:pay", header_row=1)
    done = run_night(night_job_of(job, date(2026, 11, 4)), Filling(folder))
    assert [batch.count("success") for batch in done.batches] == [0, 2]
    assert done.exit_code == 0


def test_the_worst_code_is_the_nights(folder: Path) -> None:
    """A row that failed in one of the sheets is not hidden by the next sheet's success."""
    sheet(folder, "a.csv", "Number,Fail\n1,x\n")
    done = run(folder)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == "2 sheets: 2 rows, 1 success, 1 other"


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_the_night(folder: Path, number: int, code: int) -> None:
    """The summary is printed still; no further sheet is begun, and the same command goes on."""
    sheet(folder, "a.csv", "Number,Until\n1,go\n2,\n")
    options = ("--json", "--concurrency", "1", "--progress", "auto")
    process = start_program("run", "nightly.toml", *options, cwd=folder, NIGHT=str(folder))
    wait_until(lambda: paid(folder))
    interrupt(process, number, folder / "go")
    out, _ = process.communicate(timeout=PATIENCE)
    fields = json.loads(out)
    assert fields["exit_code"] == process.returncode == code
    assert list(not_run(fields)) == ["b.csv"]
    assert run(folder).returncode == 0
    assert paid(folder) == ["1", "2", "3"]


def test_a_sheet_that_another_batch_holds(folder: Path) -> None:
    """The others have their turn; the code says that something is left to wait for."""
    with hold_journal(folder / "inbox" / "a.journal.db"):
        fields = told(folder, "--journal", "inbox/{stem}.journal.db")
    assert fields["exit_code"] == 6
    assert "another batch holds this journal" in not_run(fields)["a.csv"]
    assert paid(folder) == ["3"]


def test_by_hand_and_by_cron_it_is_the_same_job(folder: Path) -> None:
    """Called by a relative path and by an absolute one the task is the same task, so the journal goes on."""
    by_hand = run_program("run", "nightly.toml", "--json", cwd=folder, NIGHT=str(folder))
    assert json.loads(by_hand.stdout)["exit_code"] == 0
    assert [batch["carried"] for batch in told(folder)["batches"]] == [2, 1]


def test_one_journal_for_all_sheets(folder: Path) -> None:
    """Named, it is that of every sheet: a row that was run in one of them isn't sent again in another."""
    sheet(folder, "b.csv", "Number\n2\n3\n")
    assert [batch["carried"] for batch in told(folder, "--journal", "night.db")["batches"]] == [0, 1]
    assert paid(folder) == ["1", "2", "3"]
    assert [path.name for path in folder.rglob("*.db")] == ["night.db"]


def test_the_sheet_of_the_day_goes_on_with_one_journal(folder: Path) -> None:
    """Tomorrow's file holds today's rows, too: they are known, though both outputs are kept."""
    (folder / "nightly.toml").write_text(JOB.replace("*.csv", "in-{date:%d.%m.%Y}.csv"))
    sheet(folder, "in-23.11.2026.csv", "Number\n1\n2\n")
    sheet(folder, "in-24.11.2026.csv", "Number\n1\n2\n3\n")
    assert told(folder, "--date", "2026-11-23")["carried"] == 0
    assert told(folder, "--date", "2026-11-24")["carried"] == 2
    assert paid(folder) == ["1", "2", "3"]
    assert sorted(path.name for path in (folder / "inbox").glob("in*")) == [
        "in-23.11.2026.csv",
        "in-23.11.2026.results.csv",
        "in-24.11.2026.csv",
        "in-24.11.2026.results.csv",
    ]


def test_an_earlier_output_without_its_journal_is_not_run_unasked(folder: Path) -> None:
    """A pattern that catches what another run wrote would send all its rows again."""
    sheet(folder, "c.csv", "Number,run_id,status,result,error\n9,r,success,{},\n")
    done = run(folder)
    assert done.returncode == 2
    assert "c.csv: it has 1 run that the journal" in done.stderr
    assert run_program("check", folder / "nightly.toml", cwd=folder).returncode == 2
    assert paid(folder) == []


@pytest.mark.parametrize("name", ["no/*.csv", "no/a.csv"])
def test_a_night_without_a_sheet(folder: Path, name: str) -> None:
    """An error that says where it looked, or 0 and one line; a folder that isn't there is an error in any case."""
    (folder / "nightly.toml").write_text(JOB.replace("inbox/*.csv", name))
    assert run(folder, "--when-missing", "ok").returncode == 2
    (folder / "no").mkdir()
    done = run(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file; the folder" in done.stderr
    fine = run(folder, "--when-missing", "ok")
    assert (fine.returncode, len(fine.stdout.splitlines())) == (0, 1)
    assert fine.stdout.startswith("nothing to do: ")
    fields = told(folder, "--when-missing", "ok")
    assert (fields["batches"], fields["exit_code"]) == ([], 0)
    assert "no such file" in fields["missing"]
    assert run_program("check", "nightly.toml", "--when-missing", "ok", cwd=folder).returncode == 0


def test_check_shows_every_sheet_and_the_job_in_force(folder: Path) -> None:
    """A page for each sheet; then what was said, by whom, and what is left as it is; no address that may be secret."""
    with (folder / "nightly.toml").open("a") as job:
        job.write('heartbeat = "https://hc-ping.com/hush"\nrate = "9/s"\n')
    done = run_program("check", "nightly.toml", "--limit", "1", cwd=folder, BATCH_RUNNER_CANARY="1")
    assert done.returncode == 0, done.stderr
    assert "inbox/a.csv: headers in row 1" in done.stdout
    assert "inbox/b.csv: headers in row 1" in done.stdout
    force, _, following = done.stdout.partition("the job in force:\n")[2].partition("\n\n")
    assert following == "next: batch-runner run nightly.toml --limit 1\n"
    said = [line.split(maxsplit=2) for line in force.splitlines() if not line.startswith(("  defaults", "    "))]
    assert said == [
        ["input", "inbox/*.csv", "nightly.toml: input"],
        ["task", "tasks.py:pay", "nightly.toml: task"],
        ["limit", "1", "--limit"],
        ["rate", "9/s", "nightly.toml: rate"],
        ["canary", "1", "BATCH_RUNNER_CANARY"],
        ["heartbeat", "(set)", "nightly.toml: heartbeat"],
        ["progress", "never", "nightly.toml: progress"],
    ]
    assert "run_timeout 30m" in force
    assert "hush" not in done.stdout


def test_check_as_json(folder: Path) -> None:
    """A sole sheet's page as it was, with the job; for a pattern an object of pages, and what is wrong elsewhere."""
    sole = json.loads(run_program("check", "inbox/a.csv", "--json", "--notify", "json://localhost", cwd=folder).stdout)
    assert (sole["rows"], sole["columns"]) == (2, ["Number"])
    job = {origin["option"]: (origin["value"], origin["from"]) for origin in sole["job"]}
    assert job["input"] == ("inbox/a.csv", "INPUT")
    assert job["notify"] == ("(set)", "--notify")
    assert job["concurrency"] == (5, None)
    sheet(folder, "c.csv", "A,A\n1,1\n")
    done = run_program("check", "nightly.toml", "--json", cwd=folder)
    several = json.loads(done.stdout)
    assert (done.returncode, several["exit_code"]) == (2, 2)
    assert [page["rows"] for page in several["batches"]] == [2, 1]
    assert len(several["problems"]) == 1


def test_a_night_is_one_night_for_all_its_sheets(folder: Path) -> None:
    """A row that failed in the first sheet isn't retried in the second of the same night, and isn't parked early."""
    sheet(folder, "a.csv", "Number,Fail\n1,x\n")
    sheet(folder, "b.csv", "Number,Fail\n1,x\n")
    options = ("--journal", "all.journal.db", "--retry", "failure", "--retry-wait", "0", "--retry-limit", "2")
    ran = []
    for _ in range(4):
        fields = told(folder, *options)
        ran.append(len(paid(folder)))
    assert ran == [1, 2, 3, 3]
    assert [batch["parked"]["rows"] for batch in fields["batches"]] == [1, 1]


@pytest.mark.parametrize("journal", ["all.journal.db", "{stem}.db"])
def test_a_night_that_was_stopped_begins_no_retry_again(folder: Path, journal: str) -> None:
    """The first sheet was complete when the second one was stopped: the same command retries nothing of the first.

    With a journal for each sheet, too: its rows would be paid twice by a fresh start that was stopped and goes on.
    """
    sheet(folder, "a.csv", "Number,Fail\n1,x\n2,\n3,\n")
    sheet(folder, "b.csv", "Number,Fail\n4,x\n5,x\n6,\n")
    options = (
        "--journal",
        journal,
        "--retry",
        "all",
        "--retry-wait",
        "0",
        "--concurrency",
        "1",
        "--max-failures",
        "50%",
    )
    assert told(folder, *options)["exit_code"] == 5
    assert paid(folder) == ["1", "2", "3", "4", "5"]
    assert told(folder, *options)["exit_code"] == 3
    assert paid(folder) == ["1", "2", "3", "4", "5", "6"]
    told(folder, *options)
    assert paid(folder).count("1") == 2


@pytest.mark.long
@pytest.mark.parametrize("more", [(), ("--canary", "2"), ("--journal", "all.journal.db", "--key", "Number")])
def test_more_sheets_than_may_be_open_at_once(folder: Path, more: tuple[str, ...]) -> None:
    """Sheets are opened as others end, also where the first rows are looked at before any has started."""
    for number in range(80):
        sheet(folder, f"{number}.csv", f"Number\n{100 + number}\n")
    fields = told(folder, *more, "--concurrency", "200")
    assert fields["exit_code"] == 0
    assert len(fields["batches"]) == 82
    assert len(paid(folder)) == 83
