"""A journal that is gone, or older than the output beside it: the output is evidence, and no row runs twice."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from openpyxl import Workbook, load_workbook
from program import run_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

TASK = """
async def pay(params):
    with open("paid.txt", "a") as paid:
        print(params["Number"], file=paid)
    return {}
"""
COMMAND = ("--task", "task.py:pay", "--key", "Number")
ENDINGS = pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx"])
FORMATS = pytest.mark.parametrize("output", ["out.csv", "out.tsv", "out.xlsx", "out.jsonl", "out.parquet"])


def write_sheet(path: Path, headers: tuple[str, ...] = ("Number", "Name"), rows: int = 2) -> None:
    table = (headers, *(tuple(f"{number}{place}" for place in range(len(headers))) for number in range(1, rows + 1)))
    if path.suffix == ".xlsx":
        book = Workbook()
        for row in table:
            book.active.append(row)  # type: ignore[union-attr]
        book.save(path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(mark.join(row) + "\n" for row in table))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


def run(folder: Path, *words: str, command: str = "run", job: tuple[str, ...] = COMMAND) -> CompletedProcess[str]:
    return run_program(command, *words, *job, cwd=folder)


def paid(folder: Path) -> list[str]:
    """The rows that runs were started for."""
    return sorted((folder / "paid.txt").read_text().split())


def lose_journal(folder: Path) -> None:
    """Delete the journals, and with them all that they know."""
    for path in folder.glob("*.journal.db*"):
        path.unlink()


def lose_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another computer: nothing there knows what ran."""
    monkeypatch.setenv("BATCH_RUNNER_STATE", str(folder / "empty"))


@pytest.mark.long
@ENDINGS
@pytest.mark.parametrize("headers", [("Number", "Name"), ("Number", "Status")])
def test_the_journal_is_gone_and_the_index_knows_the_output(
    folder: Path, ending: str, headers: tuple[str, ...]
) -> None:
    """Its runs are taken back by key, with a note, which `--quiet` doesn't silence; `check` says the same before."""
    write_sheet(folder / f"in.{ending}", headers)
    assert run(folder, f"in.{ending}").returncode == 0
    lose_journal(folder)
    said = "2 runs of in.results." + ending + " the journal did not know: taken back into it by key"
    checked = run(folder, f"in.{ending}", "--json", command="check")
    assert json.loads(checked.stdout)["plan"]["carried_over"] == 2
    assert any(said in note for note in json.loads(checked.stdout)["notes"])
    again = run(folder, f"in.{ending}", "--quiet")
    assert again.returncode == 0
    assert said in again.stdout
    assert paid(folder) == ["10", "20"]
    assert run(folder, f"in.{ending}", "--quiet").stdout == ""


@FORMATS
def test_every_format_is_evidence(folder: Path, output: str) -> None:
    """Whatever the output is written as."""
    write_sheet(folder / "in.csv")
    words = ("in.csv", "--output", output)
    assert run(folder, *words).returncode == 0
    lose_journal(folder)
    done = run(folder, *words)
    assert (done.returncode, paid(folder)) == (0, ["10", "20"]), done.stderr


@ENDINGS
def test_a_copy_of_yesterday_is_younger_than_its_output(
    folder: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal knows some of the runs, so the output is its own: the others are taken back, without an index too."""
    write_sheet(folder / f"in.{ending}")
    assert run(folder, f"in.{ending}").returncode == 0
    shutil.copy(folder / "task.py-pay.journal.db", folder / "backup")
    write_sheet(folder / f"in.{ending}", rows=4)
    assert run(folder, f"in.{ending}").returncode == 0
    shutil.copy(folder / "backup", folder / "task.py-pay.journal.db")
    lose_index(folder, monkeypatch)
    done = run(folder, f"in.{ending}")
    assert (done.returncode, paid(folder)) == (0, ["10", "20", "30", "40"])
    assert "2 runs of in.results" in done.stdout


@pytest.mark.parametrize("job", [COMMAND, COMMAND[:2]], ids=["no index", "no key"])
def test_where_it_is_unclear_nothing_is_sent(
    folder: Path, job: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused (2), by `check` too, until `--adopt-output` takes the runs back or `--ignore-output` has all started."""
    write_sheet(folder / "in.csv")
    assert run(folder, "in.csv", job=job).returncode == 0
    lose_journal(folder)
    if job == COMMAND:
        lose_index(folder, monkeypatch)
    for command in ("check", "run"):
        done = run(folder, "in.csv", command=command, job=job)
        assert done.returncode == 2
        assert "--adopt-output" in done.stderr
        assert "--ignore-output" in done.stderr
    assert run(folder, "in.csv", "--adopt-output", job=job).returncode == 0
    assert paid(folder) == ["10", "20"]
    lose_journal(folder)
    assert run(folder, "in.csv", "--ignore-output", job=job).returncode == 0
    assert paid(folder) == ["10", "10", "20", "20"]


def test_another_services_trial_is_refused(folder: Path) -> None:
    """The index knows the output, as another task's: its runs are nobody's here."""
    write_sheet(folder / "in.csv")
    (folder / "trial.py").write_text(TASK.replace("paid.txt", "trial.txt"))
    assert run(folder, "in.csv", job=("--task", "trial.py:pay", "--key", "Number")).returncode == 0
    lose_journal(folder)
    done = run(folder, "in.csv")
    assert done.returncode == 2
    assert "nothing says that they are of this task on this service" in done.stderr
    assert "if they are another task's, give this one another --output" in done.stderr
    assert not (folder / "paid.txt").exists()


def test_one_run_in_two_rows_is_refused(folder: Path) -> None:
    """Somebody copied a row: nobody can say whose run it is. Adopted, the second one is unknown, and isn't started."""
    write_sheet(folder / "in.csv")
    assert run(folder, "in.csv").returncode == 0
    lose_journal(folder)
    lines = (folder / "in.results.csv").read_text("utf-8-sig").splitlines()
    copied = lines[1].replace("10,11,", "30,31,")
    (folder / "in.results.csv").write_text("\n".join([*lines, copied, ""]))
    write_sheet(folder / "in.csv", rows=3)
    done = run(folder, "in.csv")
    assert done.returncode == 2
    assert "rows 2 and 4 have the same run id" in done.stderr
    assert run(folder, "in.csv", "--adopt-output").returncode == 4
    assert paid(folder) == ["10", "20"]


def test_a_start_whose_answer_was_lost_is_taken_back_too(folder: Path) -> None:
    """A row that is `unknown` in the output may have a run: without its journal, too, it isn't sent again."""
    write_sheet(folder / "in.csv")
    assert run(folder, "in.csv").returncode == 0
    text = (folder / "in.results.csv").read_text("utf-8-sig").splitlines()
    run_id = text[1].split(",")[2]
    text[1] = text[1].replace(f"{run_id},success,{{}}", ",unknown,")
    (folder / "in.results.csv").write_text("\n".join([*text, ""]))
    lose_journal(folder)
    assert run(folder, "in.csv").returncode == 4
    assert paid(folder) == ["10", "20"]


def nothing_ran(path: Path) -> None:
    path.write_text("Number,Name,run_id,status,result,error\n10,a,,not_started,,\n")


def no_text(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04\x00\xff\xfe" * 99)


def another_list(path: Path) -> None:
    path.write_text("Number,Name\n10,a\n")


def empty(path: Path) -> None:
    path.touch()


def test_an_output_without_runs_is_written_over(folder: Path) -> None:
    """Nothing ran: there is nothing to take back."""
    write_sheet(folder / "in.csv")
    nothing_ran(folder / "in.results.csv")
    assert run(folder, "in.csv").returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("make", [no_text, another_list, empty])
@pytest.mark.parametrize("output", ["in.results.csv", "in.results.xlsx", "in.results.jsonl", "in.results.parquet"])
def test_output_over_a_file_that_is_no_output_is_refused_until_overwrite(
    folder: Path, make: Callable[[Path], None], output: str
) -> None:
    """Neither its digest is known nor do our columns stand in it: a person's file. Nothing is sent, it stays (2)."""
    write_sheet(folder / "in.csv")
    make(folder / output)
    os.utime(folder / output, (1, 1))  # of a young text file without a line end more is awaited
    before = (folder / output).read_bytes()
    for command in ("check", "run"):
        done = run(folder, "in.csv", "--output", output, command=command)
        assert done.returncode == 2
        assert "--overwrite" in done.stderr
    assert (folder / output).read_bytes() == before
    assert not (folder / "paid.txt").exists()
    assert run(folder, "in.csv", "--output", output, "--overwrite").returncode == 0
    assert (folder / output).read_bytes() != before
    assert run(folder, "in.csv", "--output", output).returncode == 0


def test_hidden_rows_of_an_output_are_looked_at(folder: Path) -> None:
    """A person has filtered it for the rows that failed, and all that ran are hidden."""
    write_sheet(folder / "in.xlsx")
    run(folder, "in.xlsx")
    book = load_workbook(folder / "in.results.xlsx")
    assert book.active is not None
    for number in (2, 3):
        book.active.row_dimensions[number].hidden = True
    book.save(folder / "in.results.xlsx")
    lose_journal(folder)
    assert run(folder, "in.xlsx").returncode == 0
    assert paid(folder) == ["10", "20"]


def test_a_night_of_several_sheets(folder: Path) -> None:
    """One of them has lost its journal: its runs are taken back as well."""
    for name in ("a.csv", "b.csv"):
        write_sheet(folder / name)
    assert run(folder, "*.csv").returncode == 0
    before = paid(folder)
    (folder / "task.py-pay.journal.db").unlink()
    assert run(folder, "*.csv", command="check").returncode == 0
    assert run(folder, "*.csv").returncode == 0
    assert paid(folder) == before


def test_the_two_options_exclude_each_other(folder: Path) -> None:
    """Taken back or left: not both."""
    write_sheet(folder / "in.csv")
    done = run(folder, "in.csv", "--adopt-output", "--ignore-output")
    assert done.returncode == 2
    assert "say one of them" in done.stderr


def test_the_folder_of_the_index_can_be_said(folder: Path) -> None:
    """`$BATCH_RUNNER_STATE`: what one knows, another doesn't; and nobody calls it an unknown option."""
    write_sheet(folder / "in.csv")
    one, other = str(folder / "one"), str(folder / "other")
    first = run_program("run", "in.csv", *COMMAND, cwd=folder, BATCH_RUNNER_STATE=one)
    assert (first.returncode, first.stderr) == (0, "")
    lose_journal(folder)
    assert run_program("run", "in.csv", *COMMAND, cwd=folder, BATCH_RUNNER_STATE=other).returncode == 2
    assert run_program("run", "in.csv", *COMMAND, cwd=folder, BATCH_RUNNER_STATE=one).returncode == 0
    assert paid(folder) == ["10", "20"]


@pytest.mark.long
def test_a_journal_that_another_program_has_locked_while_it_is_opened(folder: Path) -> None:
    """Refused within seconds, with nothing sent: what to do is said, and then the same command goes on."""
    write_sheet(folder / "in.csv")
    assert run(folder, "in.csv", "--rows", "2").returncode == 0
    with closing(sqlite3.connect(folder / "task.py-pay.journal.db", isolation_level=None)) as shell:
        shell.execute("BEGIN EXCLUSIVE")
        done = run(folder, "in.csv")
        shell.execute("ROLLBACK")
    assert done.returncode == 2
    assert "another program has locked the journal (a database shell, a backup?), so nothing was sent" in done.stderr
    assert paid(folder) == ["10"]
    assert run(folder, "in.csv").returncode == 0
    assert paid(folder) == ["10", "20"]
