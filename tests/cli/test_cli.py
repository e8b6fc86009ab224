"""The real program, as a person or cron calls it."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kept_promises import known_runs
from openpyxl import Workbook
from program import COMMAND, PATIENCE, environment, files_in, interrupt, run_program, start_program
from served import wait_until
from systems import needs_posix

TASKS = """
import time
from pathlib import Path

async def quick(params):
    return {"seen": params}

def slow(params):
    Path("begun").touch()
    time.sleep(float(params["Seconds"]))
    return params["Seconds"]

def waiting(params):
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
    return params["Number"]

def pay(params):
    with open("paid.txt", "a") as paid:
        print(params["Amount"], file=paid)
    time.sleep(50)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sheet of three rows and a file of tasks."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text("Number,Amount,Note\n007,1.10,first\n008,1E5,=1+1\n009,TRUE,\n")
    return tmp_path


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_the_main_job(folder: Path) -> None:
    """Each row's own texts reach the task as they are, and its result stands beside it."""
    done = run_program("run", "sheet.csv", "--task", "tasks.py:quick", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = records(folder / "sheet.results.csv")
    assert [json.loads(row["result"])["seen"] for row in rows] == [
        {"Number": "007", "Amount": "1.10", "Note": "first"},
        {"Number": "008", "Amount": "1E5", "Note": "=1+1"},
        {"Number": "009", "Amount": "TRUE"},
    ]
    assert [row["status"] for row in rows] == ["success"] * 3
    assert "3 success" in done.stdout
    assert "sheet.results.csv" in done.stdout


def test_json_is_one_object_on_stdout(folder: Path) -> None:
    """With --json stdout is one JSON object and nothing else."""
    done = run_program("run", "sheet.csv", "--task", "tasks.py:quick", "--json", cwd=folder)
    told = json.loads(done.stdout)
    assert told["counts"] == {"success": 3}
    assert told["exit_code"] == 0
    assert told["output"].endswith("sheet.results.csv")


def test_the_same_command_again_sends_nothing(folder: Path) -> None:
    """A second night with the same sheet carries all over, with the same run ids."""
    run_program("run", "sheet.csv", "--task", "tasks.py:quick", cwd=folder)
    before = (folder / "sheet.results.csv").read_bytes()
    again = run_program("run", "sheet.csv", "--task", "tasks.py:quick", cwd=folder)
    assert again.returncode == 0
    assert "3 carried over" in again.stdout
    assert (folder / "sheet.results.csv").read_bytes() == before


def test_no_command_shows_plain_help(folder: Path) -> None:
    """The bare name of the program shows its help as it is, without a prefix on each line; nothing was done: 2."""
    done = run_program(cwd=folder)
    assert done.returncode == 2
    assert done.stderr == run_program("--help", cwd=folder).stdout


BAD_INPUTS = {
    "no such file": (["run", "gone.csv", "--task", "invoice"], "gone.csv: no such file"),
    "a folder": (["run", ".", "--task", "invoice"], "not a file; name a spreadsheet"),
    "an empty file": (["run", "empty.csv", "--task", "invoice"], "empty.csv"),
    "a binary": (["run", "binary.csv", "--task", "invoice"], "binary.csv"),
    "a damaged workbook": (["run", "damaged.xlsx", "--task", "invoice"], "damaged.xlsx"),
    "another kind of file": (["run", "tasks.py", "--task", "invoice"], r"save it as \.xlsx"),
    "no such column": (["run", "sheet.csv", "--task", "invoice", "--columns", "Amuont"], "did you mean 'Amount'"),
    "two equal headers": (["run", "twice.csv", "--task", "invoice"], "A1 .*B1|A1.*and.*B1"),
    "no task": (["run", "sheet.csv"], "--task"),
    "no such task": (["run", "sheet.csv", "--task", "invoices"], "invoice"),
    "no such function": (["run", "sheet.csv", "--task", "tasks.py:quik"], "quik"),
    "an unwritable output": (["run", "sheet.csv", "--task", "invoice", "--output", "no/such/out.csv"], "--output"),
    "an output of no known kind": (["run", "sheet.csv", "--task", "invoice", "--output", "out.doc"], r"\.csv"),
    "a bad number": (["run", "sheet.csv", "--task", "invoice", "--concurrency", "many"], "--concurrency: 'many'"),
    "a number too low": (["run", "sheet.csv", "--task", "invoice", "--concurrency", "0"], "--concurrency: 0"),
    "a bad rate": (["run", "sheet.csv", "--task", "invoice", "--rate", "fast"], "--rate"),
    "a bad service": (["run", "sheet.csv", "--task", "invoice", "--service", "ftp://x"], "--service"),
    "no key for Anchor": (["run", "sheet.csv", "--task", "t", "--service", "anchor"], "ANCHORBROWSER_API_KEY"),
    "an unknown option": (["run", "sheet.csv", "--tsak", "invoice"], "--task"),
    "a bad condition": (["run", "sheet.csv", "--task", "invoice", "--where", "Amount >"], "--where|where"),
}


@pytest.mark.long
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_is_one_sentence_and_2(folder: Path, name: str) -> None:
    """What is wrong is said in one sentence without a traceback; the code is 2, and nothing was begun."""
    (folder / "empty.csv").touch()
    (folder / "binary.csv").write_bytes(os.urandom(5000))
    (folder / "damaged.xlsx").write_bytes(b"PK\x03\x04" + b"junk" * 100)
    (folder / "twice.csv").write_text("A,A\n1,2\n")
    arguments, words = BAD_INPUTS[name]
    done = run_program(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert not list(folder.glob("*.journal.db*"))
    assert not list(folder.glob("*.results.*"))


@pytest.mark.long
def test_the_first_interrupt_writes_the_output(folder: Path) -> None:
    """Ctrl-C: no more starts, the output is there with the rest as `not_started`, exit 130; then it goes on."""
    numbers = [str(number) for number in range(30)]
    (folder / "slow.csv").write_text("Number\n" + "\n".join(numbers) + "\n")
    command = ["run", "slow.csv", "--task", "tasks.py:waiting", "--concurrency", "2", "--workers", "2"]
    process = start_program(*command, cwd=folder)
    wait_until((folder / "begun").exists)
    interrupt(process, signal.SIGINT, folder / "go")
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    statuses = [row["status"] for row in records(folder / "slow.results.csv")]
    assert set(statuses) == {"success", "not_started"}
    assert "interrupted" in stdout
    assert run_program(*command, cwd=folder).returncode == 0
    assert [row["result"] for row in records(folder / "slow.results.csv")] == [f'"{number}"' for number in numbers]


@needs_posix
def test_the_second_interrupt_leaves_at_once(folder: Path) -> None:
    """A second Ctrl-C does not wait for the runs in flight, nor does it write the output."""
    (folder / "slow.csv").write_text("Seconds\n50\n51\n")
    process = start_program("run", "slow.csv", "--task", "tasks.py:slow", cwd=folder)
    wait_until((folder / "begun").exists)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert any("(again: leave at once)" in line for line in process.stderr)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert not (folder / "slow.results.csv").exists()


@pytest.mark.long
def test_run_and_serve_give_the_same(folder: Path) -> None:
    """The same sheet against `serve` over a socket gives the same outcomes; `serve` ends cleanly on Ctrl-C."""
    run_program("run", "sheet.csv", "--task", "tasks.py:quick", cwd=folder)
    here = [(row["status"], row["result"]) for row in records(folder / "sheet.results.csv")]
    server = start_program("serve", "--port", "0", "--tasks", "tasks.py", cwd=folder, ANCHOR_API_KEY="k-secret")
    assert server.stderr is not None
    line = server.stderr.readline()
    url = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert url is not None, line
    common = ["run", "sheet.csv", "--task", "tasks.py:quick", "--service", url[0], "--output", "there.csv"]
    refused = run_program(*common, cwd=folder, ANCHOR_API_KEY="wrong")
    assert refused.returncode == 5
    assert "wrong" not in refused.stdout + refused.stderr
    done = run_program(*common, cwd=folder, ANCHOR_API_KEY="k-secret")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(row["status"], row["result"]) for row in records(folder / "there.csv")] == here
    server.send_signal(signal.SIGINT)
    _, rest = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0
    assert "Traceback" not in rest


def test_check_sends_nothing_and_shows_what_would_be_sent(folder: Path) -> None:
    """`check` shows header row, columns and the first rows' params; it leaves no file."""
    files = files_in(folder)
    done = run_program("check", "sheet.csv", "--task", "tasks.py:quick", cwd=folder)
    assert done.returncode == 0
    assert 'row 2: {"Number":"007","Amount":"1.10","Note":"first"}' in done.stdout
    assert files_in(folder) == files


def test_a_reader_that_leaves_is_no_failure(folder: Path) -> None:
    """`batch-runner check … | head -0` ends without a traceback."""
    process = start_program("check", "sheet.csv", "--task", "tasks.py:quick", cwd=folder)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.wait(timeout=PATIENCE)
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is full")
@pytest.mark.parametrize("command", [("run", "sheet.csv", "--task", "tasks.py:quick"), ("check", "sheet.csv")])
def test_a_full_disk_under_stdout_is_no_failure(folder: Path, command: tuple[str, ...]) -> None:
    """cron's `>> log`: the rows ran, the code says so, and stderr has one sentence."""
    with Path("/dev/full").open("w") as full:
        line = [*COMMAND, *command, "--progress", "never"]
        done = subprocess.run(line, cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"batch-runner: this can't be printed: no space left on device\n")


@pytest.mark.long
def test_a_night_of_a_csv_pays_for_no_library_that_it_does_not_use(folder: Path) -> None:
    """Each is a good part of a second at every start: workbooks made anew, Parquet, HTTP, servers, PDFs, clusters."""
    heavy = {"openpyxl", "polars", "httpx", "aiohttp", "starlette", "uvicorn", "jinja2", "pypdfium2", "distributed"}
    program = f"""
import sys
from batch_runner.cli import run_arguments
code = run_arguments(["run", "sheet.csv", "--task", "tasks.py:quick", "--quiet"])
print(code, sorted({heavy!r} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n"


@pytest.mark.long
def test_a_run_that_takes_too_long_ends_as_timeout(folder: Path) -> None:
    """The local service kills a run at `--run-timeout`, and the batch hears of it."""
    (folder / "slow.csv").write_text("Seconds\n50\n")
    done = run_program("run", "slow.csv", "--task", "tasks.py:slow", "--run-timeout", "1s", cwd=folder)
    assert done.returncode == 3, done.stderr
    assert records(folder / "slow.results.csv")[0]["status"] == "timeout"


@pytest.mark.long
def test_a_local_run_of_a_killed_batch_is_unknown_at_once(folder: Path) -> None:
    """A run of the embedded service ends with the program, so the same command neither waits for it nor sends it."""
    (folder / "slow.csv").write_text("Seconds\n50\n")
    command = ["run", "slow.csv", "--task", "tasks.py:slow", "--progress", "never"]
    process = start_program(*command, cwd=folder)
    wait_until(lambda: known_runs(folder / "tasks.py-slow.journal.db"))
    process.kill()
    process.communicate()
    done = run_program(*command, "--json", cwd=folder)
    assert done.returncode == 4, done.stdout
    assert json.loads(done.stdout)["counts"] == {"unknown": 1}
    assert "ended with the program that ran it" in records(folder / "slow.results.csv")[0]["error"]


@pytest.mark.long
def test_a_row_that_went_bad_is_not_sent_in_place_of_its_lost_run(folder: Path) -> None:
    """Not even with `--on-unknown resend`: what stands in its cell now was never meant to be sent."""
    sheet, paid = folder / "slow.xlsx", folder / "paid.txt"
    command = ["run", sheet.name, "--task", "tasks.py:pay", "--key", "Number", "--on-unknown", "resend"]
    write_payment(sheet, 10)
    process = start_program(*command, "--progress", "never", cwd=folder)
    wait_until(lambda: paid.exists() and paid.read_text() and known_runs(folder / "tasks.py-pay.journal.db"))
    process.kill()
    process.communicate()
    write_payment(sheet, "#N/A")
    assert run_program(*command, cwd=folder).returncode == 4
    assert paid.read_text().splitlines() == ["10"]


def write_payment(path: Path, amount: float | str) -> None:
    book = Workbook()
    assert book.active is not None
    book.active.append(["Number", "Amount"])
    book.active.append(["007", amount])
    book.save(path)


def test_rows_left_out_keep_what_an_earlier_output_said(folder: Path) -> None:
    """Run in place for one row, a result file keeps the other rows' outcomes."""
    run_program("run", "sheet.csv", "--task", "tasks.py:quick", cwd=folder)
    before = records(folder / "sheet.results.csv")
    again = [
        "run",
        "sheet.results.csv",
        "--task",
        "tasks.py:quick",
        "--rows",
        "3",
        "--retry",
        "all",
        "--retry-wait",
        "0",
    ]
    assert run_program(*again, cwd=folder).returncode == 0
    after = records(folder / "sheet.results.csv")
    assert [before[0], before[2]] == [after[0], after[2]]
    assert before[1]["run_id"] != after[1]["run_id"]


def test_rows_that_share_their_key_are_spoken_of(folder: Path) -> None:
    """Once edited, only their order tells such rows apart, which a person should know."""
    (folder / "twins.csv").write_text("Number,Amount\n1,10\n1,20\n2,30\n")
    done = run_program("run", "twins.csv", "--task", "tasks.py:quick", "--key", "Number", cwd=folder)
    assert "2 rows share their key" in done.stdout
    whole = run_program("run", "sheet.csv", "--task", "tasks.py:quick", "--key", "Number", cwd=folder)
    assert "share their key" not in whole.stdout
