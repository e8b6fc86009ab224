"""A batch over services that tell ends by themselves: our `serve`, and one of a user's own behind the three verbs."""

from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from program import run_program
from served import served
from thirds import ThirdService

from batch_runner.job.job import Job
from batch_runner.journal.journal import Journal
from batch_runner.progress import Progress
from batch_runner.runner.run import info, open_job, run_opened

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.report.summary import Summary

ROWS = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in.csv").write_text("seconds\n" + "".join(f"0.{number:03}\n" for number in range(100, 100 + ROWS)))
    return tmp_path


def results(folder: Path) -> list[tuple[str, str]]:
    with (folder / "in.results.csv").open(newline="") as file:
        return [(row["status"], json.loads(row["result"])["slept"]) for row in csv.DictReader(file)]


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ends_at_serve_are_told_not_polled(folder: Path) -> None:
    """With one poll a minute thirty polled runs would take half an hour."""
    with served(folder) as service:
        options = ("--service", service.url, "--poll-rate", "1/min", "--concurrency", "10", "--json")
        done = run_program("run", "in.csv", "--task", "sleep_in_loop", *options, cwd=folder)
    assert (done.returncode, json.loads(done.stdout)["counts"]) == (0, {"success": ROWS}), done.stderr
    assert json.loads(done.stdout)["seconds"] < 600
    assert results(folder) == [("success", f"0.{number:03}") for number in range(100, 100 + ROWS)]


@pytest.mark.long
def test_a_batch_runs_on_a_service_of_a_users_own(folder: Path) -> None:
    """Three verbs are all that it needs; each row is started once, and has its own end."""
    job = Job(input=str(folder / "in.csv"), task="sleep_in_loop", service="http://third.invalid", concurrency=10)

    async def main() -> tuple[Summary, ThirdService]:
        with open_job(job) as opened:
            async with Journal.in_memory(info(opened)) as journal, anyio.create_task_group() as group:
                third = ThirdService(group)
                summary = await run_opened(opened, third, journal, Progress())
        return summary, third

    summary, third = anyio.run(main)
    assert summary.count("success") == ROWS
    assert len(third.starts) == len({request.key for request in third.starts}) == ROWS
    assert [request.row_number for request in third.starts] == list(range(2, ROWS + 2))
    assert results(folder) == [("success", f"0.{number:03}") for number in range(100, 100 + ROWS)]
