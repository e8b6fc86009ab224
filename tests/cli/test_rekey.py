"""`rekey`: a journal knows its rows by other columns from now on, and nothing runs again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from program import run_program

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TASK = """
def pay(params):
    with open("paid.txt", "a") as paid:
        paid.write(params["No"])
    return {}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two rows ran, without a key."""
    (tmp_path / "task.py").write_text(TASK)
    write(tmp_path, "ACME,1,old", "ACME,2,old")
    run(tmp_path)
    return tmp_path


def write(folder: Path, *rows: str) -> None:
    (folder / "in.csv").write_text("\n".join(("Vendor,No,Note", *rows, "")))


def run(folder: Path, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_program("run", "in.csv", "--task", "task.py:pay", "--journal", "j.db", *more, cwd=folder)
    assert done.returncode == code, done.stderr
    return done


def paid(folder: Path) -> str:
    return "".join(sorted((folder / "paid.txt").read_text()))


def test_a_row_that_is_edited_afterwards_is_the_same(folder: Path) -> None:
    """Known by its number now, an edited note starts nothing; a number that is new does."""
    refused = run(folder, "--key", "No", code=2).stderr
    assert "batch-runner rekey" in refused
    done = run_program("rekey", "j.db", "--key", "Vendor,No", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "j.db: 2 rows that ran are known by Vendor, No from now on\n")
    write(folder, "ACME,2,new", "ACME,1,old", "ACME,3,old")
    words = ("in.csv", "--task", "task.py:pay", "--journal", "j.db", "--key", "Vendor,No", "--json")
    checked = run_program("check", *words, cwd=folder)
    assert json.loads(checked.stdout)["plan"]["start"] == 1
    run(folder, "--key", "Vendor,No")
    assert paid(folder) == "123"
    story = run_program("status", "j.db", "--key-value", "Vendor=ACME", "--key-value", "No=2", cwd=folder)
    assert "1 attempt" in story.stdout


def test_the_output_knows_what_left_the_sheet(folder: Path) -> None:
    """The sheet is next month's by now: the rows are found in the output of the night that ran them."""
    write(folder, "ACME,3,x")
    assert run_program("rekey", "j.db", "--key", "No", cwd=folder).returncode == 0
    write(folder, "ACME,1,new", "ACME,3,x")
    run(folder, "--key", "No")
    assert paid(folder) == "123"


def test_a_row_that_can_not_be_found_changes_nothing(folder: Path) -> None:
    """It was edited, and the output is gone: one sentence says which and what to do, and the journal is as it was."""
    (folder / "in.results.csv").unlink()
    write(folder, "ACME,1,old", "ACME,2,new")
    done = run_program("rekey", "j.db", "--key", "No", cwd=folder)
    assert done.returncode == 2
    assert "1 rows (3) ran and can't be found" in done.stderr
    write(folder, "ACME,1,old", "ACME,2,old")
    run(folder)
    assert paid(folder) == "12"


@pytest.mark.parametrize(("key", "why"), [("Vendor", "have no key of their own in Vendor"), ("Nope", "no column")])
def test_a_key_that_is_none(folder: Path, key: str, why: str) -> None:
    """Two rows that ran would have one key, or the sheet has no such column: refused."""
    done = run_program("rekey", "j.db", "--key", key, cwd=folder)
    assert (done.returncode, why in done.stderr) == (2, True), done.stderr
    run(folder)
    assert paid(folder) == "12"


def test_the_job_says_which_columns_were_sent(tmp_path: Path) -> None:
    """Without a key what is sent is the key: the job file, given instead of the journal, knows it."""
    (tmp_path / "task.py").write_text(TASK)
    write(tmp_path, "ACME,1,old")
    job = 'input = "in.csv"\ntask = "task.py:pay"\njournal = "j.db"\ncolumns = ["No"]\n'
    (tmp_path / "job.toml").write_text(job)
    assert run_program("run", "job.toml", cwd=tmp_path).returncode == 0
    assert run_program("rekey", "j.db", "--key", "Vendor", cwd=tmp_path).returncode == 2
    assert run_program("rekey", "job.toml", "--key", "Vendor", cwd=tmp_path).returncode == 0
    write(tmp_path, "ACME,5,old")
    (tmp_path / "job.toml").write_text(f'{job}key = ["Vendor"]\n')
    assert run_program("run", "job.toml", cwd=tmp_path).returncode == 0
    assert paid(tmp_path) == "1"


def test_a_journal_without_any_run_takes_any_key(tmp_path: Path) -> None:
    """Nothing was started, so nothing can be started again."""
    (tmp_path / "task.py").write_text(TASK)
    write(tmp_path, "ACME,,x")
    run(tmp_path, "--columns", "No", code=3)
    write(tmp_path, "ACME,1,x")
    run(tmp_path, "--key", "No")
    assert paid(tmp_path) == "1"
