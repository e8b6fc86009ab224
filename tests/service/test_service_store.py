"""Runs in a file: what is kept, for how long, and which files are refused."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from contract import OWN, Speaker, until
from disks import mount

from batch_runner.errors import RunsBusy, UsageError
from batch_runner.service.local import store_file
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.store_file import open_runs
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.protocol import RunRequest, Started, StartRequest
from batch_runner.service.serve.app import make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

DAY = 86400.0
ECHO = "echo_in_loop"


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 24, 2, tzinfo=UTC)
        self.passed = 0.0

    def __call__(self) -> datetime:
        return self.moment

    def pass_by(self, seconds: float) -> None:
        self.passed += seconds
        self.set_by(seconds)

    def set_by(self, seconds: float) -> None:
        """Somebody sets it; no time passes."""
        self.moment += timedelta(seconds=seconds)


@asynccontextmanager
async def serving(path: Path, clock: Clock, keep: float = 7 * DAY) -> AsyncIterator[Speaker]:
    """A service that keeps its runs at `path`."""
    with open_runs(path, keep, clock, lambda: clock.passed) as store:
        tasks = load_tasks(OWN, files=path.parent)
        async with (
            LocalService(tasks, 1, store=store) as service,
            httpx.AsyncClient(
                transport=httpx.ASGITransport(make_app(service)), base_url="http://service.invalid"
            ) as http,
        ):
            yield Speaker(http, service)


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        number: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return number


async def promised(service: Speaker) -> float:
    seconds: float = (await service.http.get("/healthz")).json()["idempotency_seconds"]
    return seconds


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for old runs all the time."""
    monkeypatch.setattr(store_file, "UPKEEP_GAP", 0.005)


async def test_old_runs_are_forgotten_with_their_results_and_keys(tmp_path: Path, often: None) -> None:
    """A run is kept for so long after its end; then it is a 404, its key is free, and nothing of it is in the file."""
    path, clock = tmp_path / "runs.db", Clock()
    async with serving(path, clock) as service:
        _, old = await service.start(ECHO, {"who": "Mrs Example"}, key="k", sync=True)
        clock.pass_by(5 * DAY)
        _, young = await service.start(ECHO, {"who": "Mr Sample"}, sync=True)
        await anyio.sleep(0.05)
        assert await service.status(old["run_id"]) == (200, old)
        clock.pass_by(2 * DAY + 1)
        await until(lambda: count(path, "result") == 1)
        assert (await service.status(old["run_id"]))[0] == 404
        assert await service.status(young["run_id"]) == (200, young)
        assert (await service.start(ECHO, {"who": "Mrs Example"}, key="k"))[1]["run_id"] != old["run_id"]
    assert b"Mr Sample" in path.read_bytes()


async def test_what_was_forgotten_is_not_left_in_the_file(tmp_path: Path, often: None) -> None:
    """Results hold personal data: a page that is free is empty."""
    path, clock = tmp_path / "runs.db", Clock()
    async with serving(path, clock) as service:
        await service.start(ECHO, {"who": "Mrs Example" * 2000}, sync=True)
    assert b"Mrs Example" in path.read_bytes()
    clock.pass_by(8 * DAY)
    async with serving(path, clock):
        await until(lambda: count(path, "run") == 0)
    assert b"Mrs Example" not in path.read_bytes()


async def test_many_old_runs_are_forgotten_in_pieces(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are, and all of them."""
    monkeypatch.setattr(store_file, "_FORGOTTEN_AT_ONCE", 3)
    path, clock = tmp_path / "runs.db", Clock()
    async with serving(path, clock) as service:
        for _ in range(10):
            await service.start(ECHO, sync=True)
        clock.pass_by(8 * DAY)
        await until(lambda: count(path, "run") == 0)


async def test_runs_that_go_on_are_never_forgotten(tmp_path: Path, often: None) -> None:
    """However old they are."""
    path, clock = tmp_path / "runs.db", Clock()
    async with serving(path, clock) as service:
        _, run = await service.start("sleep_in_loop", {"seconds": "600"}, key="k")
        clock.pass_by(30 * DAY)
        await anyio.sleep(0.05)
        assert (await service.start("sleep_in_loop", {"seconds": "600"}, key="k"))[1]["run_id"] == run["run_id"]


async def test_no_more_is_promised_than_what_is_known(tmp_path: Path, often: None) -> None:
    """A new file knows nothing of what was before it; one that kept for a day knows no more when it keeps for seven."""
    path, clock = tmp_path / "runs.db", Clock()
    async with serving(path, clock, keep=DAY) as service:
        assert await promised(service) == 0.0
        clock.pass_by(60)
        assert await promised(service) == 60.0
        clock.pass_by(10 * DAY)
        assert await promised(service) == DAY
        await until(lambda: _since(path) == "2026-12-03T02:01:00.000Z")
    clock.pass_by(60)
    async with serving(path, clock, keep=7 * DAY) as service:
        assert await promised(service) == DAY + 60
    async with serving(path, clock, keep=60) as service:
        assert await promised(service) == 60


@pytest.mark.parametrize("wrong", [8 * DAY, -8 * DAY])
async def test_a_clock_that_was_set_takes_the_promise_back(tmp_path: Path, often: None, wrong: float) -> None:
    """By a clock that is or was wrong a run is forgotten too soon: who relied on its key would start it twice."""
    path, clock = tmp_path / "runs.db", Clock()
    async with serving(path, clock) as service:
        clock.pass_by(6 * DAY)
        clock.set_by(min(wrong, 0))
        await service.start(ECHO, key="one", sync=True)
        clock.set_by(abs(wrong))
        await until(lambda: count(path, "run") == 0)
        clock.set_by(-max(wrong, 0))
        clock.pass_by(60)
        assert await promised(service) <= 60
    async with serving(path, clock) as service:
        assert await promised(service) <= 60


async def test_the_memory_has_a_name_that_lasts_and_another_file_another(tmp_path: Path) -> None:
    """So a client sees that behind the same address there is one that knows nothing of its keys."""
    names = []
    for name in ("a.db", "a.db", "b.db"):
        async with serving(tmp_path / name, Clock()) as service:
            names.append((await service.http.get("/healthz")).json()["memory"])
    assert names[0] == names[1] != names[2]


async def test_what_begins_at_once_is_on_disk_as_begun_with_its_start(tmp_path: Path) -> None:
    """After a kill just then nobody may say that it never began; of a run that waits for its place that is said."""
    path = tmp_path / "runs.db"
    request = StartRequest("sleep_in_loop", RunRequest(input_params={"seconds": "60"}))
    with open_runs(path, DAY, Clock()) as store:
        async with LocalService(load_tasks(OWN, files=tmp_path), 1, async_runs=1, store=store) as service:
            for has_begun in (True, False):
                assert isinstance(await service.start(request), Started)
                with closing(sqlite3.connect(path)) as connection:
                    found = connection.execute("SELECT status, began NOTNULL FROM run ORDER BY number DESC").fetchone()
                assert found == (("running", 1) if has_begun else ("queued", 0))


async def test_a_result_comes_back_to_the_letter(tmp_path: Path) -> None:
    """From the file, after a restart: Unicode, numbers, any JSON."""
    path, runs = tmp_path / "runs.db", {}
    async with serving(path, Clock()) as service:
        for task in ("some_list", "some_text", "fail_in_loop", ECHO):
            _, run = await service.start(task, {"ä 日本": "1.10\n\u0000"}, sync=True)
            runs[run["run_id"]] = run
    async with serving(path, Clock()) as service:
        for run_id, run in runs.items():
            assert await service.status(run_id) == (200, run)


async def test_params_are_not_in_the_file(tmp_path: Path) -> None:
    """What was asked for stands there as a hash."""
    path = tmp_path / "runs.db"
    async with serving(path, Clock()) as service:
        await service.start("fail_in_loop", {"Vendor": "Mrs Example"}, key="k", sync=True)
    assert b"Mrs Example" not in path.read_bytes()


async def test_ended_runs_are_not_held_in_memory(tmp_path: Path) -> None:
    """They stand in the file alone; nothing that grows is left of them."""
    async with serving(tmp_path / "runs.db", Clock()) as service:
        for number in range(20):
            await service.start(ECHO, key=f"k{number}", session_id=f"s{number}", sync=True)
        runs: Any = service.service.runs
        held = [runs._going, runs._going_by_key, runs._sessions._locks, runs._store._unwritten]
        assert [len(each) for each in held] == [0, 0, 0, 0]
        assert runs._async_queue.taken == 0


@pytest.mark.long
async def test_a_full_disk_refuses_starts_loses_no_end_and_heals(small_disk: Path) -> None:
    """503 with Retry-After and no run; the end of one that went on is told, and written when there is room."""
    path, clock = small_disk / "runs.db", Clock()
    async with serving(path, clock) as service:
        _, going = await service.start("sleep_in_loop", {"seconds": "1"})
        await until(lambda: service.service.runs.running == 1)
        _fill(small_disk / "filler")
        refused = []
        with anyio.fail_after(60):
            while (await service.status(going["run_id"]))[1]["status"] == "running":
                answer = await service.http.post(f"/v2/tasks/{ECHO}/run", json={"input_params": {}})
                refused.append((answer.status_code, answer.headers.get("retry-after")))
                await anyio.sleep(0.01)
        assert refused[-1] == (503, "5")
        answer = await service.http.get("/healthz")
        assert (answer.status_code, answer.json()["status"]) == (503, "trouble")
        assert answer.json()["trouble"].startswith("The runs can't be recorded, so none is started: ")
        assert (await service.status(going["run_id"]))[1]["status"] == "success"
        mount("-o", "remount,size=50m", "none", str(small_disk))
        answer = await service.http.get("/healthz")
        assert (answer.status_code, answer.json()["trouble"]) == (200, None)
        assert (await service.run(ECHO))["status"] == "success"
    async with serving(path, clock) as service:
        assert (await service.status(going["run_id"]))[1]["result"] == {"slept": "1"}


async def test_a_locked_file_refuses_starts_and_the_service_can_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a database shell that was left open: 503, no run, trouble in its health; it heals, or ends all the same."""
    monkeypatch.setattr(store_file, "LOCK_SECONDS", 0.1)
    path = tmp_path / "runs.db"
    with anyio.fail_after(60):
        async with serving(path, Clock()) as service:
            with closing(sqlite3.connect(path, isolation_level=None)) as shell:
                shell.execute("BEGIN IMMEDIATE")
                code, said = await service.start(ECHO, key="one")
                assert (code, "locked" in said["error"]["message"]) == (503, True)
                health = (await service.http.get("/healthz")).json()
                assert (health["status"], "locked" in health["trouble"]) == ("trouble", True)
            assert (await service.http.get("/healthz")).json()["status"] == "ok"
            _, run = await service.start(ECHO, key="one", sync=True)
            assert run["status"] == "success"
            with closing(sqlite3.connect(path, isolation_level=None)) as shell:
                _, run = await service.start("wait_for", {"mark": str(tmp_path / "m"), "until": str(tmp_path / "u")})
                await until((tmp_path / "m").exists)
                shell.execute("BEGIN IMMEDIATE")
                await service.service.wind_down(0)
                service.service.stop_all()
                await service.service.runs.all_ended()
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(UsageError, match="locked"), open_runs(path, DAY):
                pass


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A journal, a text, NULs: one sentence that names the file and the option."""
    journal = tmp_path / "journal.db"
    with closing(sqlite3.connect(journal)) as connection:
        connection.executescript("CREATE TABLE batch (id); PRAGMA application_id = 1651657265")
    for name, content in (("text.db", b"Vendor,Amount\n" * 100), ("nul.db", bytes(8192))):
        (tmp_path / name).write_bytes(content)
    for path in sorted(tmp_path.glob("*.db")):
        before = path.read_bytes()
        with pytest.raises(UsageError, match=rf"{path.name}: .*--runs"), open_runs(path, DAY):
            pass
        assert path.read_bytes() == before


def test_a_newer_or_damaged_file_is_refused(tmp_path: Path) -> None:
    """A key that was altered on disk would let its start run again."""
    path = tmp_path / "runs.db"
    with open_runs(path, DAY):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO run (run_id, key, asked, task, status, started) VALUES ('r', 'key-0001', '', '', 'queued', '')"
        )
        connection.commit()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"key-0001", b"key-0002", 1))
    with pytest.raises(UsageError, match="damaged"), open_runs(path, DAY):
        pass
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(UsageError, match="version 2"), open_runs(path, DAY):
        pass


def test_what_a_kill_left_of_a_new_file_is_no_obstacle(tmp_path: Path) -> None:
    """An empty file, or one with tables and no name for itself yet."""
    path = tmp_path / "runs.db"
    path.touch()
    with open_runs(path, DAY):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM memory")
        connection.commit()
    with open_runs(path, DAY) as store:
        assert store.promise().memory


def test_it_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    """The second is told so, and which process holds it; afterwards it is free."""
    path = tmp_path / "runs.db"
    for _ in range(2):
        with open_runs(path, DAY), pytest.raises(RunsBusy, match="process"), open_runs(path, DAY):
            pass


def _since(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        since: str = connection.execute("SELECT since FROM memory").fetchone()[0]
    return since


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return
