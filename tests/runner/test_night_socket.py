"""Whole batches over a real socket, journal on disk: pauses, long requests, timeouts, limits of the process."""

from __future__ import annotations

import asyncio
import csv
import json
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from program import COMMAND, PATIENCE, environment
from remembering_service import Service, on_a_socket
from scripted_server import answer, serving

from batch_runner.batch import worker
from batch_runner.errors import ExitCode
from batch_runner.job.job import Job
from batch_runner.runner.run import run_batch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from scripted_server import Connection

    from batch_runner.report.summary import Summary

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("impatient")]

REFUSED = b'{"error": {"code": 429, "message": "Too Many Requests"}}'


class Starts:
    """A service whose runs end at once; `answers` is asked for the answer to each start, None cuts the connection."""

    def __init__(self, answers: Callable[[int], Awaitable[bytes | None]]) -> None:
        self._answers = answers
        self._numbers = count()
        self.times: list[float] = []
        self.url = ""

    async def script(self, connection: Connection) -> None:
        while await connection.request():
            self.times.append(monotonic())
            said = await self._answers(next(self._numbers))
            if said is None:
                connection.reset()
                return
            await connection.send(said)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Starts]:
        async with serving(self.script) as server:
            self.url = server.url
            yield self


def done(number: int, *headers: str) -> bytes:
    return answer(b'{"run_id": "run-%d", "status": "success"}' % number, 200, *headers)


def write_rows(folder: Path, rows: int) -> None:
    (folder / "sheet.csv").write_text("Row\n" + "".join(f"r{row}\n" for row in range(rows)))


async def batch(folder: Path, url: str, **options: object) -> Summary:
    """Run the folder's sheet."""
    job = Job(input=str(folder / "sheet.csv"), task="t", service=url, **options)  # type: ignore[arg-type]
    return await run_batch(job)


def records(folder: Path) -> list[dict[str, str]]:
    with (folder / "sheet.results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
async def test_a_pause_until_a_date(tmp_path: Path) -> None:
    """After a 429 with a date as Retry-After no start arrives before that date, whichever worker it is."""

    async def answers(number: int) -> bytes:
        if number != 5:
            return done(number)
        now = datetime.now(UTC).replace(microsecond=0)
        until = format_datetime(now + timedelta(seconds=1), usegmt=True)
        return answer(REFUSED, 429, f"Retry-After: {until}", f"Date: {format_datetime(now, usegmt=True)}")

    write_rows(tmp_path, 20)
    async with Starts(answers).serving() as service:
        summary = await batch(tmp_path, service.url, concurrency=4)
    # One start may have left before the refusal arrived.
    late = [at - service.times[5] for at in service.times[6:]]
    assert len([gap for gap in late if gap < 0.99]) <= 3, late
    assert max(late) >= 0.99
    assert len(service.times) == 21
    assert summary.count("success") == 20


@pytest.mark.long
async def test_a_told_window_is_never_run_into(tmp_path: Path) -> None:
    """Five starts a second are told with each answer: no second sees a sixth, and none is refused."""

    async def answers(number: int) -> bytes:
        recent = [at for at in service.times if at > monotonic() - 1]
        policy = 'RateLimit-Policy: "5-in-1s"; q=5; w=1'
        assert len(recent) <= 5
        return done(number, policy, f'RateLimit: "5-in-1s"; r={5 - len(recent)}; t=1')

    write_rows(tmp_path, 9)
    async with Starts(answers).serving() as service:
        summary = await batch(tmp_path, service.url, concurrency=9)
    assert summary.count("success") == 9
    assert len(service.times) == 9
    assert all(later - earlier >= 1 for earlier, later in zip(service.times, service.times[5:], strict=False))


@pytest.mark.long
async def test_one_long_request_for_each_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--sync` an answer may come late; one that never comes, or is cut, is `unknown` and says so."""
    monkeypatch.setattr(worker, "SYNC_MARGIN", 2.0)

    async def answers(number: int) -> bytes | None:
        await asyncio.sleep([0.4, 60.0, 0.1][number])
        return None if number == 2 else done(number)

    write_rows(tmp_path, 3)
    async with Starts(answers).serving() as service:
        summary = await batch(tmp_path, service.url, sync=True, run_timeout="0.3s")
    assert len(service.times) == 3
    assert sorted(record["status"] for record in records(tmp_path)) == ["success", "unknown", "unknown"]
    assert all("its answer lost, a run may exist" in row["error"] for row in records(tmp_path) if row["error"])
    assert summary.exit_code == ExitCode.SOME_UNKNOWN


@pytest.mark.long
async def test_the_same_command_goes_on_with_the_very_same_runs(tmp_path: Path) -> None:
    """`--run-timeout` leaves the rows `running`; the next night follows those runs and starts none."""
    write_rows(tmp_path, 4)
    is_slow = True

    def body(request: bytes) -> bytes:
        if request.startswith(b"POST "):
            row = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]["Row"]
            starts.append(row)
            return json.dumps({"run_id": f"run-{row}", "status": "queued"}).encode()
        run_id = request.split()[1].split(b"/")[-2].decode()
        return json.dumps({"run_id": run_id, "status": "running" if is_slow else "success"}).encode()

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            await connection.send(answer(body(request)))

    starts: list[str] = []
    async with serving(script) as server:
        first = await batch(tmp_path, server.url, run_timeout="1s", poll_rate="1000/s")
        before = records(tmp_path)
        is_slow = False
        second = await batch(tmp_path, server.url, run_timeout="20s", poll_rate="1000/s")
    assert [record["status"] for record in before] == ["running"] * 4
    assert "still going after 1s" in before[0]["error"]
    assert first.exit_code == ExitCode.SOME_FAILED
    assert [record["status"] for record in records(tmp_path)] == ["success"] * 4
    assert [record["run_id"] for record in records(tmp_path)] == [record["run_id"] for record in before]
    assert sorted(starts) == ["r0", "r1", "r2", "r3"]
    assert second.exit_code == ExitCode.OK


async def test_canaries_are_rows_that_still_have_to_be_sent(tmp_path: Path) -> None:
    """Rows carried over from another night are no canaries: the first new ones are, and they hold back the rest."""

    async def answers(number: int) -> bytes:
        if number == 3:
            return answer(b'{"run_id": "run-3", "status": "failure", "error": "no such invoice"}')
        return done(number)

    write_rows(tmp_path, 3)
    async with Starts(answers).serving() as service:
        await batch(tmp_path, service.url, canary=1)
        write_rows(tmp_path, 9)
        again = await batch(tmp_path, service.url, canary=1)
    assert [record["status"] for record in records(tmp_path)] == ["success"] * 3 + ["failure"] + ["not_started"] * 5
    assert again.carried == 3
    assert again.exit_code == ExitCode.STOPPED
    assert len(service.times) == 4


@pytest.mark.long
def test_concurrency_stays_under_the_limit_of_open_files(tmp_path: Path) -> None:
    """Under `ulimit -n 128` a concurrency of 500 is held at 64, says so, and no row is lost."""
    write_rows(tmp_path, 150)
    command = [*COMMAND, "run", "sheet.csv", "--task", "t", "--concurrency", "500", "--json", "--poll-rate", "5000/s"]
    with on_a_socket(Service(looks=1)) as service:
        told = subprocess.run(
            ["bash", "-c", 'ulimit -n 128; exec "$@"', "bash", *command, "--service", service.url],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert told.returncode == ExitCode.OK, told.stderr
    assert "may open 128 files, so 64 runs are in flight at most instead of 500" in " ".join(
        json.loads(told.stdout)["notes"]
    )
    assert set(service.starts_of.values()) == {1}
    assert len(service.starts_of) == 150
