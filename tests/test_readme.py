"""What README says is what the program does."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from program import run_program

from batch_runner.cli.commands import program
from batch_runner.job.options import options

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def help_of(command: str) -> str:
    """A command's help as on a terminal of 80 columns, of which click leaves two free."""
    told = CliRunner().invoke(program, [command, "--help"], prog_name="batch-runner", terminal_width=78)
    return told.output.strip()


@pytest.mark.parametrize("command", ["run", "init", "serve", "status", "resolve"])
def test_help_texts_stand_in_readme(command: str) -> None:
    """The help of each command stands in README to the letter."""
    assert f"```text\n$ batch-runner {command} --help\n{help_of(command)}\n```" in README


def test_every_option_of_a_job_is_in_the_help() -> None:
    """No option of a job is missing from `run --help`."""
    text = help_of("run")
    assert all(option.flag in text for option in options().values())


def test_the_tasks_are_those_of_the_samples() -> None:
    """The functions that README shows stand in samples/my_tasks.py, but for their docstrings."""
    sample = re.sub(r'\n    """.+"""', "", (ROOT / "samples" / "my_tasks.py").read_text("utf-8"))
    shown = [block for block in re.findall(r"```python\n(.+?)```", README, re.DOTALL) if "LIMIT" in block]
    assert len(shown) == 2
    assert all(block in sample for block in shown)


def test_the_gate_runs_the_test_command_of_readme() -> None:
    """`.ci/run` holds README's test command to the letter."""
    commands = re.findall(r"```sh\n(.+)\n```", README)
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_the_first_command_names_what_is_there() -> None:
    """The first command's sheet exists, and all its words after the program's name are known to the program."""
    command = re.findall(r"```sh\n(.+)\n```", README)[0]
    words = shlex.split(command.rpartition("&&")[2])
    assert words[:2] == [".venv/bin/batch-runner", "run"]
    assert (ROOT / words[2]).is_file()
    assert words[3:] == ["--task", "invoice"]


def test_the_first_task_works_as_it_stands(tmp_path: Path) -> None:
    """Copied into a file, with the command that stands below it: every row of the sample succeeds."""
    section = README.partition("## Tasks of your own")[2]
    code, command = re.findall(r"```python\n(.+?)```\n\n    batch-runner ([^\n]+)\n", section, re.DOTALL)[0]
    (tmp_path / "my_task.py").write_text(code)
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    done = run_program(*shlex.split(command), cwd=tmp_path)
    assert (done.returncode, "14 success" in done.stdout) == (0, True), done.stderr
