"""The first steps: a sheet's name alone is enough, and what was found ends with what to type next."""

from __future__ import annotations

import shlex
from pathlib import Path
from shutil import copy

import pytest
from program import run_program

from batch_runner.errors import quote_words

LIST = quote_words(["my list.csv"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text("def act(params):\n    return params\n", "utf-8")
    (tmp_path / "my list.csv").write_text("No,Full Name\n1,Ada\n2,Bo\n", "utf-8")
    (tmp_path / "job.toml").write_text('input = "my list.csv"\ntask = "tasks.py:act"\n', "utf-8")
    return tmp_path


def next_line(text: str) -> str:
    """What `check` says to type next."""
    return text.splitlines()[-1].removeprefix("next: ")


def test_a_file_alone_is_checked(folder: Path) -> None:
    """`batch-runner FILE` is `batch-runner check FILE`, with all its options; it ends with the next command."""
    short = run_program("my list.csv", "--task", "tasks.py:act", "--key", "No", cwd=folder)
    long = run_program("check", "my list.csv", "--task", "tasks.py:act", "--key", "No", cwd=folder)
    assert (short.returncode, short.stdout) == (long.returncode, long.stdout) == (0, short.stdout)
    assert next_line(short.stdout) == f"batch-runner run {LIST} --task tasks.py:act --key No"


def test_the_next_command_says_all_that_was_said(folder: Path) -> None:
    """Typed as it stands it runs what was checked: flags that name columns with spaces, pairs, and marks alone."""
    said = (
        "--task",
        "tasks.py:act",
        "--rename",
        "Full Name=Name",
        "--param",
        "Land=DE",
        "--expand",
        "--columns",
        "No,Full Name",
    )
    checked = run_program("my list.csv", *said, cwd=folder)
    words = shlex.split(next_line(checked.stdout))
    assert words[:2] == ["batch-runner", "run"]
    done = run_program(*words[1:], cwd=folder)
    assert done.returncode == 0, done.stderr
    assert '"Land":"DE"' in (folder / "my list.results.csv").read_text("utf-8-sig").replace('""', '"')


def test_without_a_task_the_next_step_is_to_name_one(folder: Path) -> None:
    """No dead end: the command that is shown is one that can be typed."""
    done = run_program("my list.csv", cwd=folder)
    assert next_line(done.stdout).startswith(f"batch-runner check {LIST} --task invoice")


def test_the_next_step_names_the_sheets_own_columns(tmp_path: Path) -> None:
    """A key that is each row's own, and the column with the PDFs: three commands lead to rows that succeed."""
    copy(Path("samples/invoices/harbour-paper-2026-0117.pdf"), tmp_path / "a.pdf")
    copy(Path("samples/invoices/bloemen-de-vries-20260033.pdf"), tmp_path / "b.pdf")
    rows = "Beleg-Nr.;Datei;Betrag\r\n101;a.pdf;1.234,50\r\n102;b.pdf;89,90\r\n"
    (tmp_path / "Posten.csv").write_bytes(rows.encode("cp1252"))
    first = next_line(run_program("Posten.csv", cwd=tmp_path).stdout)
    words = shlex.split(first.partition("   (")[0])
    assert shlex.join(words[1:]) == "check Posten.csv --task invoice --rename 'Datei=File Name' --key Beleg-Nr."
    second = next_line(run_program(*words[1:], cwd=tmp_path).stdout)
    done = run_program(*shlex.split(second)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "2 success" in done.stdout


def test_a_job_is_checked_and_run_by_its_name(folder: Path) -> None:
    """What stands in the job isn't said again."""
    assert next_line(run_program("job.toml", cwd=folder).stdout) == "batch-runner run job.toml"
    assert (
        next_line(run_program("job.toml", "--limit", "1", cwd=folder).stdout) == "batch-runner run job.toml --limit 1"
    )


@pytest.mark.parametrize("word", ["chekc", "list", "my list"])
def test_what_is_neither_command_nor_file_is_refused(folder: Path, word: str) -> None:
    """A mistyped command is no sheet."""
    done = run_program(word, cwd=folder)
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_a_sheet_that_is_not_there_is_named(folder: Path) -> None:
    """It is refused as `check` refuses it, with what the folder has."""
    done = run_program("my lits.csv", cwd=folder)
    assert done.returncode == 2
    assert "no such file" in done.stderr


def test_a_suspect_row_is_left_out_by_the_next_command(folder: Path) -> None:
    """One flag, which is proposed, and both ways are said; with it said, nothing of it is proposed any more."""
    with (folder / "my list.csv").open("a", encoding="utf-8") as file:
        file.write("Summe,\n")
    checked = run_program("my list.csv", "--task", "tasks.py:act", cwd=folder)
    assert "--suspect-rows skip leaves such rows out, --suspect-rows run sends them" in checked.stdout
    command, _, why = next_line(checked.stdout).partition("   ")
    assert why == "(skip leaves row 4 out; run sends it, too)"
    again = run_program("check", *shlex.split(command)[2:], cwd=folder)
    assert again.returncode == 0
    assert next_line(again.stdout) == command


def test_a_missing_file_is_missed_in_a_folder_that_is_named(tmp_path: Path) -> None:
    """Not in `.`: whoever reads the output tomorrow stands somewhere else."""
    (tmp_path / "a.csv").write_text("File Name\nnope.pdf\n")
    done = run_program("run", "a.csv", "--task", "invoice", "--files", ".", cwd=tmp_path)
    assert f"There is no file 'nope.pdf' in the folder {tmp_path}." in done.stdout
