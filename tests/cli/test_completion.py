"""What a shell offers where somebody presses Tab, asked as bash and zsh ask."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from program import run_program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sheet, a job, a file of tasks, and what no command reads."""
    (tmp_path / "invoices.csv").write_text("Invoice No,Due date,Amount\n1,2026-11-29,10.00\n")
    (tmp_path / "in box").mkdir()
    (tmp_path / "in.toml").write_text('input = "invoices.csv"\n')
    (tmp_path / "notes.txt").write_text("no sheet")
    (tmp_path / "tasks.py").write_text("def pay(params): ...\nasync def ask(params): ...\ndef _own(): ...\n1 / 0\n")
    (tmp_path / "broken.py").write_text("def f(:")
    return tmp_path


def offered(folder: Path, line: str, shell: str = "bash") -> list[str]:
    """What is offered for the last word of a line, without the kind of each."""
    words = shlex.split(line.replace("|", "''"))
    # bash and zsh tell which word it is, fish has the word itself (click.shell_completion).
    place = words[-1] if shell == "fish" else str(len(words) - 1)
    asked = {"COMP_WORDS": line.replace("|", ""), "COMP_CWORD": place}
    done = run_program(cwd=folder, _BATCH_RUNNER_COMPLETE=f"{shell}_complete", **asked)
    assert done.stderr == ""
    return list(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("batch-runner run i", [r"plain,in\ box/", "plain,in.toml", "plain,invoices.csv"]),
        ("batch-runner check n", []),
        ("batch-runner run invoices.csv --key I", [r"plain,Invoice\ No"]),
        ("batch-runner run invoices.csv --total Amount,D", [r"plain,Amount,Due\ date"]),
        ("batch-runner run invoices.csv --rename Am", ["plain,Amount="]),
        ("batch-runner run missing.csv --key |", []),
        ("batch-runner run invoices.csv --retry t", ["plain,timeout"]),
        ("batch-runner run invoices.csv --retry timeout,f", ["plain,timeout,failure"]),
        ("batch-runner run invoices.csv --hidden |", ["plain,include", "plain,skip"]),
        ("batch-runner run invoices.csv --service a", ["plain,anchor"]),
        ("batch-runner run invoices.csv --task |", ["plain,invoice", "plain,tasks.py:pay", "plain,tasks.py:ask"]),
        ("batch-runner run invoices.csv --output o", ["file,o"]),
        ("batch-runner run invoices.csv --files |", ["dir,"]),
        ("batch-runner inv", ["plain,invoices.csv"]),
        ("batch-runner invoices.csv --key I", [r"plain,Invoice\ No"]),
        ("batch-runner init in", [r"plain,in\ box/", "plain,in.toml", "plain,invoices.csv"]),
        ("batch-runner init invoices.csv --columns Amount,D", [r"plain,Amount,Due\ date"]),
        ("batch-runner help ni", ["plain,nights"]),
        ("batch-runner resolve invoices.csv --row 2 --as s", ["plain,success"]),
    ],
)
def test_a_shell_offers_what_can_stand_there(folder: Path, line: str, words: list[str]) -> None:
    """Files that can be read, the sheet's own columns, statuses, tasks (nothing is executed), an option's words."""
    assert offered(folder, line) == words


def test_only_bash_is_given_quoted_words(folder: Path) -> None:
    """The others quote by themselves."""
    assert "Invoice No" in offered(folder, "batch-runner run invoices.csv --key I", "zsh")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("batch-runner run inv", "invoices.csv"),
        ("batch-runner run invoices.csv --key I", "Invoice No"),
        ("batch-runner run invoices.csv --retry t", "timeout"),
        ("batch-runner help ni", "nights"),
    ],
)
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_are_offered_the_same(folder: Path, shell: str, line: str, word: str) -> None:
    """Files, columns, statuses and topics, each asked for as that shell asks."""
    said = offered(folder, line, shell)
    assert said == (["plain", word, "_"] if shell == "zsh" else [f"plain,{word}"])


SCRIPTS = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_help_tells_the_line_for_each_shell_and_what_it_prints_is_a_script(
    folder: Path, shell: str, tmp_path: Path
) -> None:
    """Where that shell is installed, it reads the script without a complaint."""
    assert f"_BATCH_RUNNER_COMPLETE={shell}_source batch-runner" in run_program("--help", cwd=folder).stdout
    done = run_program(cwd=folder, _BATCH_RUNNER_COMPLETE=f"{shell}_source")
    assert f"_BATCH_RUNNER_COMPLETE={shell}_complete" in done.stdout
    if path := shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(done.stdout)
        assert subprocess.run([path, SCRIPTS[shell], str(script)], capture_output=True, check=True).stderr == b""
