"""`check` and `run` agree: what one refuses the other refuses, in the same words, and nothing is made on the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from program import files_in, run_program
from systems import slashes

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TASKS = """
async def pay(params):
    return params

async def other(params):
    return params
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sheet, a file of tasks, and a folder among them."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text("Id,No\n1,RE-1\n2,RE-2\n")
    (tmp_path / "folder").mkdir()
    return tmp_path


def both(folder: Path, *options: str) -> list[subprocess.CompletedProcess[str]]:
    """`check` first: it must leave nothing that would help `run`."""
    said = options if "--task" in options else ("--task", "tasks.py:pay", *options)
    return [run_program(command, "sheet.csv", *said, cwd=folder) for command in ("check", "run")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--log-file", "no/x.log"), "no/x.log: the log can't be written there: no such file or directory"),
        (("--log-file", "folder"), "folder: the log can't be written there: is a directory; use --log-file"),
        (("--log-file", ""), "--log-file: '': not a file; name a file to write"),
        (("--journal", "no/x.db"), "/no/x.db: there is no folder"),
        (("--journal", "folder"), "/folder: the journal is a folder; name a file"),
        (("--journal", "."), "--journal: '.': not a file; name a file to write"),
        (("--journal", "tasks.py"), "tasks.py: this is no journal, but a text, such as a job file"),
    ],
)
def test_check_and_run_agree_about_log_and_journal(folder: Path, options: tuple[str, ...], sentence: str) -> None:
    """Where the one or the other can't be is 2 for both, and neither makes anything."""
    before = files_in(folder)
    for done in both(folder, *options):
        assert (done.returncode, sentence in slashes(done.stderr)) == (2, True), done.stderr
        assert files_in(folder) == before


def test_check_and_run_agree_about_places_of_a_job_file(folder: Path) -> None:
    """There "" and "." are the job file's own folder."""
    for line in ('journal = "."', 'journal = ""', 'log_file = ""'):
        (folder / "n.toml").write_text(f'input = "sheet.csv"\ntask = "tasks.py:pay"\n{line}\n')
        assert [run_program(command, "n.toml", cwd=folder).returncode for command in ("check", "run")] == [2, 2], line


def test_check_and_run_agree_about_another_task(folder: Path) -> None:
    """A journal is one task's."""
    assert run_program("run", "sheet.csv", "--task", "tasks.py:pay", cwd=folder).returncode == 0
    checked, ran = both(folder, "--task", "tasks.py:other", "--journal", "tasks.py-pay.journal.db")
    assert (checked.returncode, ran.returncode) == (2, 2)
    assert (
        "tasks.py-pay.journal.db: this journal has the task tasks.py:pay, and this batch has tasks.py:other"
        in ran.stderr
    )
    assert checked.stderr.partition("this journal")[2] == ran.stderr.partition("this journal")[2]


def test_a_log_file_that_can_be_is_not_made(folder: Path) -> None:
    """`check` writes nothing, nor to one that is there."""
    options = ("--task", "tasks.py:pay", "--log-level", "debug")
    (folder / "old.log").write_text("old\n")
    for name in ("new.log", "old.log"):
        assert run_program("check", "sheet.csv", *options, "--log-file", name, cwd=folder).returncode == 0
    assert not (folder / "new.log").exists()
    assert (folder / "old.log").read_text() == "old\n"


def test_check_says_which_rows_unique_will_refuse(folder: Path) -> None:
    """Duplicates within the sheet and those that ran on an earlier night, with the sentences of `run`, which it leaves
    all to do: 3, and no journal is made or changed."""
    (folder / "sheet.csv").write_text("Id,No\n1,RE-1\n2,re-01\n3,RE-3\n")
    options = ("--key", "Id", "--unique", "No", "--json")
    checked, ran = (json.loads(done.stdout) for done in both(folder, *options))
    assert (checked["refused_rows"], checked["rows"]) == (1, 3)
    assert checked["refused"] == [f"row 3: {ran['failures'][0]['error']}"]
    assert "duplicate: the same No stands in row 2 of this sheet, too" in checked["refused"][0]

    (folder / "sheet.csv").write_text("Id,No\n1,RE-1\n2,re-01\n3,RE-3\n4,re - 3\n")
    before = (folder / "tasks.py-pay.journal.db").read_bytes()
    text = run_program("check", "sheet.csv", "--task", "tasks.py:pay", *options[:4], cwd=folder)
    assert text.returncode == 3
    assert (folder / "tasks.py-pay.journal.db").read_bytes() == before
    checked, ran = (json.loads(done.stdout) for done in both(folder, *options))
    assert [sentence.partition(": ")[2] for sentence in checked["refused"]] == [
        group["error"] for group in ran["failures"]
    ]
    assert "refused: 2 of 4 rows:\n  row 3: duplicate: the same No " in text.stdout
    assert "  row 5: duplicate: the same No ran before, as row 4 of sheet.csv on the night of " in text.stdout


def test_check_makes_no_journal_for_unique(folder: Path) -> None:
    """Nor anything else; rows that are let through are no refusals."""
    (folder / "sheet.csv").write_text("Id,No\n1,RE-1\n2,re-1\n")
    before = files_in(folder)
    command = ("check", "sheet.csv", "--task", "tasks.py:pay", "--unique", "No")
    assert run_program(*command, cwd=folder).returncode == 3
    assert run_program(*command, "--allow-duplicates", cwd=folder).returncode == 0
    assert files_in(folder) == before


def test_check_knows_the_duplicates_of_rows_that_ran_before_unique_was_asked_for(folder: Path) -> None:
    """As a batch does, from the sheet; what it learns it forgets."""
    assert run_program("run", "sheet.csv", "--task", "tasks.py:pay", "--key", "Id", cwd=folder).returncode == 0
    (folder / "sheet.csv").write_text("Id,No\n1,RE-1\n2,RE-2\n3,re - 1\n")
    checked, ran = both(folder, "--key", "Id", "--unique", "No")
    assert (checked.returncode, ran.returncode) == (3, 3)
    assert "refused: 1 of 3 rows:\n  row 4: duplicate: the same No ran before, as row 2 of sheet.csv" in checked.stdout


def test_check_names_the_cluster_that_will_run_the_task(folder: Path) -> None:
    """`--dask` sends the rows elsewhere: a person sees where to, and so does a program."""
    words = ("check", "sheet.csv", "--task", "tasks.py:pay", "--dask", "tcp://127.0.0.1:9")
    assert "task:    tasks.py:pay on the Dask cluster tcp://127.0.0.1:9\n" in run_program(*words, cwd=folder).stdout
    told = json.loads(run_program(*words, "--json", cwd=folder).stdout)
    assert (told["service"], told["dask"]) == ("local", "tcp://127.0.0.1:9")
    assert "on local\n" in run_program(*words[:-2], cwd=folder).stdout


def test_check_names_columns_as_a_person_would_have_to_say_them(folder: Path) -> None:
    """A name with a comma in it isn't taken for two; and no journal is named after a task that nobody named."""
    (folder / "sheet.csv").write_text("Vendor, City;Amount\nACME;1,50\nBETA;2,30\n")
    told = run_program("check", "sheet.csv", cwd=folder).stdout
    assert '  columns: "Vendor, City", Amount\n' in told
    assert "  journal: not known until a task is named\n" in told
