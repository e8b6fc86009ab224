"""Runs that never end, or of which nothing can be learned: they hold up no other row, and are told truly."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest
from nights import Fault, night, numbered, say
from scripted_server import Connection, answer, serving

from batch_runner.errors import ExitCode
from batch_runner.job.job import Job
from batch_runner.journal.resolve import Finding, resolve
from batch_runner.runner.run import run_batch

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio


@pytest.mark.long
async def test_a_run_that_never_ends_takes_nobodys_place(tmp_path: Path) -> None:
    """The night after, new rows go first with the only place; the summary says since when, and `resolve` takes it."""
    asked: list[str] = []

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            if request.startswith(b"POST "):
                row = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]["Row"]
                asked.append(f"start {row}")
            else:
                row = request.split()[1].split(b"/")[-2].decode().removeprefix("run-")
                asked.append(f"look {row}")
            status = "running" if row == "stuck" else "success"
            await connection.send(answer(json.dumps({"run_id": f"run-{row}", "status": status}).encode()))

    def job(*rows: str) -> Job:
        (tmp_path / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in rows))
        return Job(input=str(tmp_path / "sheet.csv"), task="t", service=server.url, concurrency=1, run_timeout="1s")

    async with serving(script) as server:
        first = await run_batch(job("stuck"))
        assert first.count("running") == 1
        asked.clear()
        second = await run_batch(job("stuck", "a", "b"))
        assert asked == ["start a", "start b", "look stuck"]
        group = next(group for group in second.failures if group.status == "running")
        assert "still going after 1s, since 20" in group.error
        assert "running: still going after" in second.to_text()
        resolve(job("stuck", "a", "b").journal_path, [2], Finding("failure", "nobody will ever know", "Ada"))
        asked.clear()
        third = await run_batch(job("stuck", "a", "b"))
    assert asked == []
    assert third.count("failure") == 1
    assert third.exit_code == ExitCode.SOME_FAILED


@pytest.mark.long
async def test_a_run_that_never_ends_is_looked_at_once_when_all_else_is_done(tmp_path: Path) -> None:
    """The night after ends with its last new row, not a whole run timeout later; an end is found all the same."""
    asked: list[str] = []
    states = {"stuck": "running", "late": "running"}

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            if request.startswith(b"POST "):
                row = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]["Row"]
                asked.append(f"start {row}")
            else:
                row = request.split()[1].split(b"/")[-2].decode().removeprefix("run-")
                asked.append(f"look {row}")
                if row in states and len(asked) > 2 and not asked.count(f"fault {row}") and is_faulty:
                    asked.append(f"fault {row}")
                    await connection.send(answer(b"oops", 500))
                    continue
            body = {"run_id": f"run-{row}", "status": states.get(row, "success")}
            await connection.send(answer(json.dumps(body).encode()))

    def job(*rows: str, run_timeout: str) -> Job:
        (tmp_path / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in rows))
        return Job(input=str(tmp_path / "sheet.csv"), task="t", service=server.url, run_timeout=run_timeout)

    is_faulty = False
    async with serving(script) as server:
        await run_batch(job("stuck", "late", run_timeout="1s"))
        with sqlite3.connect(job("stuck", run_timeout="1s").journal_path) as journal:
            journal.execute("UPDATE attempt SET intended_at = '2026-01-02T03:04:05+00:00'")
        journal.close()
        states["late"] = "success"
        is_faulty = True
        asked.clear()
        with anyio.fail_after(300):
            done = await run_batch(job("stuck", "late", "a", "b", run_timeout="20m"))
    assert done.count("running") == 1
    assert done.count("success") == 3
    assert sorted(asked[:2]) == ["start a", "start b"]
    assert sorted(asked[2:]) == sorted([f"{what} {row}" for row in states for what in ("look", "fault", "look")])
    group = next(group for group in done.failures if group.status == "running")
    assert "still going after 20m, since 2026-01-02" in group.error


def test_polls_that_tell_nothing_are_told_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The row says since when nothing was learned and what was said; one warning, and the others end."""

    def within(app: ASGIApp) -> ASGIApp:
        lost: list[str] = []

        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == "GET" and "/status" in scope["path"]:
                lost[:] = lost or [scope["path"]]
                if scope["path"] == lost[0]:
                    await say(Fault(307, (("Location", "/elsewhere"),)), send)
                    return
            await app(scope, receive, send)

        return front

    done = night(tmp_path, numbered(3, Seconds="30"), within=within)
    assert sorted(done.statuses) == ["queued", "success", "success"]
    row = next(record for record in done.records if record["status"] == "queued")
    assert row["error"].startswith("how it stands could not be learned since ")
    assert "the service said 307" in row["error"]
    assert sum("could not be learned" in record.message for record in caplog.records) == 1
    assert "could not be learned" in done.summary.to_text()
