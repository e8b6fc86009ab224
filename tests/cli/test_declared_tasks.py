"""Tasks with `@task` in the real program: what `check` and `run` say before anything is sent, and what the runs do."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from kept_promises import known_runs
from openpyxl import Workbook
from program import files_in, run_program, start_program
from served import wait_until
from systems import needs_posix

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

TASKS = """
import asyncio, logging, multiprocessing, os, sys, time
from decimal import Decimal
from typing import Annotated, Literal
from batch_runner import Context, param, task

@task
def pay(invoice_no: Annotated[str, param("Invoice No")], amount: Decimal, currency: Literal["EUR", "USD"] = "EUR"):
    return f"{invoice_no} {amount * 2} {currency}"

@task
async def pay_async(invoice_no: Annotated[str, param("Invoice No")], amount: Decimal, *, context: Context):
    print("a print of an async task")
    context.log.info("asked")
    return f"{invoice_no} {amount * 2} {os.path.basename(context.files) != ''}"

@task
def tell(amount: Decimal, *, context: Context):
    print("a print")
    context.log.debug("too fine")
    context.log.info("half\\nway %d", 50)
    context.log.info("%d", "not a number")
    try:
        1 / 0
    except ZeroDivisionError:
        context.log.exception("it went wrong")
    return str(amount)

@task
def fork(amount: Decimal, *, context: Context):
    if os.fork() == 0:
        context.log.warning("said by a child")
        os._exit(0)
    os.wait()
    return "done"

@task(timeout="0.5s")
def slow(amount: Decimal):
    time.sleep(50)

@task(timeout="0.5s")
async def slow_async(amount: Decimal):
    await asyncio.sleep(50)

@task(repeatable=True)
def twice(amount: Decimal):
    begun = os.path.exists("begun.txt")
    open("begun.txt", "w").close()
    time.sleep(0 if begun else 50)
    return "at last"
"""

SHEET = "Invoice No,Amount,Currency,Remark\n007,1.10,,a\n008,2.20,USD,b\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text(SHEET)
    return tmp_path


def outcomes(folder: Path, name: str = "sheet.results.csv") -> list[tuple[str, str, str]]:
    with (folder / name).open(newline="", encoding="utf-8-sig") as file:
        return [(row["status"], row["result"], row["error"]) for row in csv.DictReader(file)]


def said(done: CompletedProcess[str]) -> list[str]:
    """What was wrong, a sentence a line; nothing else was said."""
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return [line.removeprefix("batch-runner: ") for line in done.stderr.splitlines()]


def test_the_arguments_are_the_columns(folder: Path) -> None:
    """Sync and async alike; what the task doesn't take is no error, and `check` says so."""
    seen = run_program("check", "sheet.csv", "--task", "tasks.py:pay", cwd=folder)
    assert seen.returncode == 0, seen.stderr
    assert "  takes:   Invoice No, Amount (a number), Currency (EUR or USD; EUR if empty)\n" in seen.stdout
    assert "  unused:  Remark\n" in seen.stdout
    done = run_program("run", "sheet.csv", "--task", "tasks.py:pay", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [result for _, result, _ in outcomes(folder)] == ['"007 2.20 EUR"', '"008 4.40 USD"']
    other = run_program("run", "sheet.csv", "--task", "tasks.py:pay_async", "--output", "b.csv", cwd=folder)
    assert other.returncode == 0, other.stdout + other.stderr
    assert [result for _, result, _ in outcomes(folder, "b.csv")] == ['"007 2.20 True"', '"008 4.40 True"']


def test_check_tells_a_program_what_a_task_takes(folder: Path) -> None:
    """The same in its JSON; of a task that doesn't say, nothing."""
    seen = json.loads(run_program("check", "sheet.csv", "--task", "tasks.py:pay", "--json", cwd=folder).stdout)
    assert seen["unused"] == ["Remark"]
    assert seen["takes"][2] == {
        "name": "currency",
        "param": "Currency",
        "kind": "EUR or USD",
        "choices": ["EUR", "USD"],
        "required": False,
        "default": "EUR",
    }


@pytest.mark.parametrize("command", ["check", "run"])
def test_missing_columns_are_said_before_anything_is_sent(folder: Path, command: str) -> None:
    """All at once, a sentence each, with the nearest column and what would mend it; 2, and nothing is left behind."""
    (folder / "sheet.csv").write_text("Invoice Nr,Amuont\n007,1.10\n")
    files = files_in(folder)
    problems = said(run_program(command, "sheet.csv", "--task", "tasks.py:pay", cwd=folder))
    assert problems == [
        "sheet.csv: the task needs 'Invoice No', and nothing is sent under that name; did you mean 'Invoice Nr'? then "
        'say --rename "Invoice Nr=Invoice No"',
        "sheet.csv: the task needs 'amount', and nothing is sent under that name; did you mean 'Amuont'? then say "
        '--rename "Amuont=amount"',
    ]
    assert files_in(folder) == files
    renames = [word for option in ("Invoice Nr=Invoice No", "Amuont=amount") for word in ("--rename", option)]
    assert run_program(command, "sheet.csv", "--task", "tasks.py:pay", *renames, cwd=folder).returncode == 0


def test_a_constant_that_the_task_cannot_take_is_said_once(folder: Path) -> None:
    """`--param` with a bad value is wrong for every row, so nothing is begun."""
    options = ["--param", "Currency=euro"]
    (problem,) = said(run_program("run", "sheet.csv", "--task", "tasks.py:pay", *options, cwd=folder))
    assert problem == "param Currency: 'Currency' has to be EUR or USD, not 'euro'; did you mean 'EUR'?"
    mended = run_program("run", "sheet.csv", "--task", "tasks.py:pay", "--param", "Currency=USD", cwd=folder)
    assert mended.returncode == 0


GERMAN = """from datetime import date
from decimal import Decimal

from batch_runner import task


@task
def pay(betrag: Decimal, faellig: date) -> str:
    return f"{betrag} {faellig}"
"""


def test_a_german_export_is_taken_as_it_is(tmp_path: Path) -> None:
    """Commas, points, umlauts and a currency need no option; a cell that the others make doubtful is refused."""
    (tmp_path / "tasks.py").write_text(GERMAN)
    rows = ["Betrag;Fällig", "1.234,50 €;28.02.2026", "99,00;01.03.2026", "12.000;02.03.2026", "7;3/4/2026"]
    (tmp_path / "sheet.csv").write_bytes("\r\n".join([*rows, ""]).encode("cp1252"))
    done = run_program("run", "sheet.csv", "--task", "tasks.py:pay", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    with (tmp_path / "sheet.results.csv").open(newline="", encoding="cp1252") as file:
        found = list(csv.DictReader(file, delimiter=";"))
    assert [row["result"] for row in found] == ['"1234.50 2026-02-28"', '"99.00 2026-03-01"', "", ""]
    assert [row["error"] for row in found[2:]] == [
        "sheet.csv, A4: 'Betrag' has '12.000', which beside the other amounts may be thousands or decimals; "
        "write the decimals",
        "sheet.csv, B5: 'Fällig' has to be a date such as 2026-02-28, not '3/4/2026'",
    ]


def test_amounts_in_two_currencies_are_no_plain_numbers(tmp_path: Path) -> None:
    """A number has no currency, so euros and dollars in one column are refused; without the signs nobody knows."""
    (tmp_path / "tasks.py").write_text(GERMAN)
    rows = ["Betrag;Fällig", "5,00 €;28.02.2026", "5,00 $;28.02.2026", "6,00;28.02.2026"]
    (tmp_path / "sheet.csv").write_text("\n".join([*rows, ""]), encoding="utf-8")
    seen = run_program("check", "sheet.csv", "--task", "tasks.py:pay", "--json", cwd=tmp_path)
    assert json.loads(seen.stdout)["refused"] == [
        f"sheet.csv, A{row}: 'Betrag' has amounts in $ and EUR, and a number has no currency" for row in (2, 3)
    ]


def write_workbook(path: Path, *rows: list[Any]) -> None:
    book = Workbook()
    assert book.active is not None
    book.active.title = "May"
    for row in (["Invoice No", "Amount", "Currency"], *rows):
        book.active.append(row)
    book.save(path)


def test_cells_that_the_task_cannot_take_refuse_their_rows(folder: Path) -> None:
    """`check` names each cell (3); `run` starts no run for these rows, and all others go on."""
    write_workbook(folder / "may.xlsx", ["1", 1.5, "EUR"], ["2", None, "EUR"], ["3", "1,234", "eur"], ["4", 2, None])
    refused = [
        "may.xlsx, May!B3: it is empty, and the task needs 'Amount'",
        "may.xlsx, May!B4: 'Amount' has to be a number such as 1234.50, not '1,234'; "
        "may.xlsx, May!C4: 'Currency' has to be EUR or USD, not 'eur'; did you mean 'EUR'?",
    ]
    seen = run_program("check", "may.xlsx", "--task", "tasks.py:pay", "--json", cwd=folder)
    assert seen.returncode == 3
    assert json.loads(seen.stdout)["refused"] == refused
    done = run_program("run", "may.xlsx", "--task", "tasks.py:pay", "--output", "out.csv", cwd=folder)
    assert done.returncode == 3, done.stderr
    with (folder / "out.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["success", "error", "error", "success"]
    assert [row["run_id"] == "" for row in rows] == [False, True, True, False]
    assert [row["error"] for row in rows] == ["", *refused, ""]


@pytest.mark.long
def test_a_mended_cell_is_sent_and_a_stricter_task_forgets_nothing(folder: Path) -> None:
    """A refused row is judged anew each night; one that ran before keeps its outcome whatever the task says now."""
    command = ["run", "sheet.csv", "--task", "tasks.py:pay"]
    (folder / "sheet.csv").write_text(SHEET.replace("USD", "CHF"))
    assert run_program(*command, cwd=folder).returncode == 3
    (folder / "sheet.csv").write_text(SHEET)
    assert run_program(*command, cwd=folder).returncode == 0
    before = outcomes(folder)
    (folder / "tasks.py").write_text(TASKS.replace('"EUR", "USD"', '"EUR", "CHF"'))
    again = run_program(*command, cwd=folder)
    assert (again.returncode, outcomes(folder)) == (0, before)
    assert "2 carried over" in again.stdout
    assert "changed" not in again.stdout


def test_the_built_in_task_wants_its_column_and_takes_any_row(folder: Path) -> None:
    """Without `File Name` the sheet is refused (2) with the way out; what a cell can't do is its row's `failure`."""
    told = run_program("check", "sheet.csv", "--task", "invoice", cwd=folder)
    assert told.returncode == 2
    assert "the task needs 'File Name'" in told.stderr
    assert '--rename "Invoice No=File Name"' in told.stderr
    rename = ("--task", "invoice", "--rename", "Invoice No=File Name")
    assert run_program("check", "sheet.csv", *rename, cwd=folder).returncode == 0
    assert run_program("run", "sheet.csv", *rename, cwd=folder).returncode == 3
    assert {status for status, _, _ in outcomes(folder)} == {"failure"}


def test_a_column_of_files_is_what_the_built_in_task_is_told_to_take(folder: Path) -> None:
    """The advice names the column that looks like it."""
    (folder / "pdfs.csv").write_text("Amount,PDF\n5,a.pdf\n")
    told = run_program("check", "pdfs.csv", "--task", "invoice", cwd=folder)
    assert (told.returncode, '--rename "PDF=File Name"' in told.stderr) == (2, True)


def test_a_misspelt_column_that_may_be_missing_is_a_note(folder: Path) -> None:
    """Else the default would hold for every row, and nobody would know."""
    (folder / "sheet.csv").write_text(SHEET.replace("Currency", "Curency"))
    for command in ("check", "run"):
        done = run_program(command, "sheet.csv", "--task", "tasks.py:pay", cwd=folder)
        assert done.returncode == 0
        assert "did you mean 'Curency'? then say --rename \"Curency=currency\"" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("function", ["slow", "slow_async"])
def test_a_task_has_a_timeout_of_its_own(folder: Path, function: str) -> None:
    """It ends a run as `timeout`, below `--run-timeout`."""
    done = run_program("run", "sheet.csv", "--task", f"tasks.py:{function}", "--run-timeout", "1h", cwd=folder)
    assert done.returncode == 3, done.stderr
    ended = ("timeout", "", "The run was stopped after 0.5 s, the time limit for one run.")
    assert outcomes(folder) == [ended, ended]


def test_the_smaller_of_both_timeouts_counts(folder: Path) -> None:
    """`--run-timeout` ends a run although the task would allow it more."""
    done = run_program("run", "sheet.csv", "--task", "tasks.py:slow", "--run-timeout", "0.2s", cwd=folder)
    assert done.returncode == 3, done.stderr
    assert "after 0.2 s" in done.stdout


@pytest.mark.long
def test_a_repeatable_task_that_was_cut_off_is_run_again(folder: Path) -> None:
    """Killed in mid-run, the same command runs the row again, for the task said that this does no harm."""
    (folder / "sheet.csv").write_text("Amount\n1\n")
    command = ["run", "sheet.csv", "--task", "tasks.py:twice", "--progress", "never"]
    process = start_program(*command, cwd=folder)
    wait_until(lambda: (folder / "begun.txt").exists() and known_runs(folder / "tasks.py-twice.journal.db"))
    process.kill()
    process.communicate()
    done = run_program(*command, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(folder) == [("success", '"at last"', "")]


def log_lines(done: CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


@pytest.mark.long
def test_what_a_task_logs_stands_in_the_log(folder: Path) -> None:
    """From a worker process: with its run, whole on one line, by the program's form and level; it fails no run."""
    options = ["--log-level", "info", "--log-format", "json", "--json"]
    done = run_program("run", "sheet.csv", "--task", "tasks.py:tell", *options, cwd=folder)
    assert json.loads(done.stdout)["counts"] == {"success": 2}
    with (folder / "sheet.results.csv").open(newline="", encoding="utf-8-sig") as file:
        runs = {row["run_id"] for row in csv.DictReader(file)}
    lines = [line for line in log_lines(done) if str(line["event"]).startswith(("half", "it went", "too fine"))]
    assert sorted((str(line["level"]), str(line["event"])) for line in lines) == [
        ("error", "it went wrong: ZeroDivisionError: division by zero"),
        ("error", "it went wrong: ZeroDivisionError: division by zero"),
        ("info", "half way 50"),
        ("info", "half way 50"),
    ]
    assert {line["run_id"] for line in lines} == runs
    quiet = run_program(
        "run", "sheet.csv", "--task", "tasks.py:tell", "--retry", "all", "--retry-wait", "0", cwd=folder
    )
    assert "half way" not in quiet.stderr
    assert re.search(r"^\S+Z error it went wrong: .+ run_id=run_\w+$", quiet.stderr, re.MULTILINE)


def test_what_an_async_task_prints_and_logs_is_on_stderr(folder: Path) -> None:
    """Standard output is one JSON object, whatever a task prints."""
    options = ["--log-level", "info", "--log-format", "json", "--json"]
    done = run_program("run", "sheet.csv", "--task", "tasks.py:pay_async", *options, cwd=folder)
    assert json.loads(done.stdout)["counts"] == {"success": 2}
    printed = [line["text"] for line in log_lines(done) if line["event"] == "task printed"]
    assert printed == ["a print of an async task"] * 2
    asked = [line for line in log_lines(done) if line["event"] == "asked"]
    assert len({line["run_id"] for line in asked}) == 2


@needs_posix
def test_what_a_forked_child_logs_disturbs_nothing(folder: Path) -> None:
    """It has no pipe to the program: its lines go to standard error as they are."""
    done = run_program("run", "sheet.csv", "--task", "tasks.py:fork", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert done.stderr.count("said by a child") == 2
