"""`--json` prints its object however the command ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from program import run_program

from batch_runner.fs import hold_lock
from batch_runner.job.job import Job

if TYPE_CHECKING:
    from pathlib import Path

TASK = "async def pay(params):\n    return {}\n"
RUN = ("run", "in.csv", "--task", "task.py:pay")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Row\n1\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "variables", "why"),
    [
        (("run", "no.csv", "--task", "invoice", "--json"), {}, "no such file"),
        ((*RUN, "--json", "--concurrency", "x"), {}, "whole number"),
        ((*RUN, "--json", "--no-such-option"), {}, "No such option"),
        ((*RUN, "--rate", "x"), {"BATCH_RUNNER_JSON": "true"}, "rate"),
        (("run", "job.toml"), {}, "no such key"),
    ],
)
def test_what_is_refused(folder: Path, words: tuple[str, ...], variables: dict[str, str], why: str) -> None:
    """A wrong command, job or sheet: exit 2, the sentence on stderr, and the object with code and reason."""
    (folder / "job.toml").write_text('input = "in.csv"\njson = true\nlimt = 5\n')
    done = run_program(*words, cwd=folder, **variables)
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"], told["batches"]) == (2, 2, [])
    assert why in told["not_run"][0]["why"]
    assert told["not_run"][0]["input"] == words[1]
    assert done.stderr.startswith("batch-runner: ")


def test_a_journal_that_is_busy(folder: Path) -> None:
    """Another batch holds it: 6, and the object says so."""
    with hold_lock(Job(input=str(folder / "in.csv"), task=f"{folder}/task.py:pay").journal_path):
        done = run_program(*RUN, "--json", cwd=folder)
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"]) == (6, 6)
    assert "another batch holds this journal" in told["not_run"][0]["why"]


def test_a_bug(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw: 1, a traceback on stderr for the report, and the object."""
    monkeypatch.setattr("batch_runner.runner.night.open_job", lambda *_: 1 / 0)
    done = run_program(*RUN, "--json", cwd=folder)
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"]) == (1, 1)
    assert "a bug of batch-runner (ZeroDivisionError)" in told["not_run"][0]["why"]


def test_one_object_and_no_more(folder: Path) -> None:
    """A batch that ran prints one line, as ever."""
    done = run_program(*RUN, "--json", cwd=folder)
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout)["counts"] == {"success": 1}
