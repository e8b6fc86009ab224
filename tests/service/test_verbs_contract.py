"""What holds of every service behind the three verbs: our tasks called directly, `serve`, a user's own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from contract import OWN, until
from thirds import ThirdService

from batch_runner.service.http.client import Client
from batch_runner.service.http.transport import AiohttpTransport
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.store_file import open_runs
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.protocol import (
    LookFailed,
    RefusalScope,
    Refused,
    Run,
    RunCertainty,
    RunRequest,
    RunSeen,
    Started,
    StartRequest,
)
from batch_runner.service.serve.server import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batch_runner.service.protocol import Service

pytestmark = pytest.mark.anyio
SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(params=["local", "local and kept in a file", "serve", "a third"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def _reached(way: str, folder: Path) -> AsyncIterator[Service]:
    if way == "a third":
        async with anyio.create_task_group() as group:
            yield ThirdService(group)
            group.cancel_scope.cancel()
        return
    with open_runs(folder / "runs.db", keep=86400) as store:
        tasks = load_tasks(OWN, files=SAMPLES)
        async with LocalService(tasks, 2, 20.0, store=None if way == "local" else store) as local:
            if way != "serve":
                yield local
                return
            async with listen(local) as url, Client(url, "", AiohttpTransport()) as client:
                await client.capabilities()
                yield client


@pytest.fixture
async def service(way: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with _reached(way, tmp_path) as service:
        yield service


def request(task: str, params: dict[str, str] | None = None, key: str | None = None) -> StartRequest:
    return StartRequest(task, RunRequest(input_params=params or {}), key, 7)


async def started(service: Service, task: str, seconds: str = "0", key: str | None = None) -> Run:
    answer = await service.start(request(task, {"seconds": seconds}, key))
    assert isinstance(answer, Started), answer
    assert answer.certainty is RunCertainty.RUN
    return answer.run


async def ended(service: Service, run: Run, wait: float = 5.0) -> Run:
    """As it is at its end, told by looks that wait."""
    with anyio.fail_after(60):
        while True:
            seen = await service.look(run.run_id, wait)
            assert isinstance(seen, RunSeen), seen
            if seen.run.has_ended:
                return seen.run


async def test_a_start_gives_a_run_and_a_look_its_end(service: Service) -> None:
    """With its result to the letter; the end is the same however often it is asked for."""
    run = await started(service, "sleep_in_loop", "0.1")
    assert (run.run_id != "", run.status in ("queued", "running")) == (True, True)
    end = await ended(service, run)
    assert (end.run_id, end.status, bytes(end.result)) == (run.run_id, "success", b'{"slept":"0.1"}')
    assert await ended(service, run, wait=0.0) == end


async def test_a_failed_task_is_a_run_that_failed(service: Service) -> None:
    """What a task raises is data: its run's error."""
    end = await ended(service, await started(service, "fail_in_loop"))
    assert (end.status, end.error, bytes(end.result)) == ("failure", "LookupError: no such customer", b"")


async def test_a_look_without_wait_answers_at_once(service: Service) -> None:
    """A run that goes on is seen to do so."""
    run = await started(service, "sleep_in_loop", "600")
    with anyio.fail_after(60):
        seen = await service.look(run.run_id)
    assert isinstance(seen, RunSeen)
    assert not seen.run.has_ended


@pytest.mark.long
async def test_an_end_is_told_to_the_look_that_waits_for_it(service: Service) -> None:
    """At once, not when the time is up; a look whose time is up says how the run is then."""
    assert (await service.capabilities()).tells_ends
    run = await started(service, "sleep_in_loop", "0.3")
    with anyio.fail_after(60):
        seen = await service.look(run.run_id, 600.0)
    assert isinstance(seen, RunSeen)
    assert (seen.waited, seen.run.status) == (True, "success")
    slow = await service.look((await started(service, "sleep_in_loop", "600")).run_id, 1.0)
    assert isinstance(slow, RunSeen)
    assert (slow.waited, slow.run.has_ended) == (True, False)


async def test_a_run_is_stopped(service: Service) -> None:
    """It ends as cancelled, and whoever waits for it hears it; one that has ended stays as it was."""
    assert (await service.capabilities()).stops
    done = await ended(service, await started(service, "echo_in_loop"))
    run = await started(service, "sleep_in_loop", "600")
    ends: list[Run] = []

    async def hear() -> None:
        ends.append(await ended(service, run, 600.0))

    async with anyio.create_task_group() as group:
        group.start_soon(hear)
        assert isinstance(await service.stop(run.run_id), RunSeen)
    assert [end.status for end in ends] == ["cancelled"]
    again = await service.stop(done.run_id)
    assert isinstance(again, RunSeen)
    assert again.run == done


async def test_what_is_not_there_is_no_run(service: Service) -> None:
    """A task that nobody knows: certainly no run, for any row. A run that nobody knows: nothing is known of it."""
    refused = await service.start(request("no_such_task"))
    assert isinstance(refused, Refused)
    assert (refused.certainty, refused.scope, refused.status_code) == (RunCertainty.NO_RUN, RefusalScope.TASK, 404)
    assert "no_such_task" in refused.why
    for failed in (await service.look("run_0"), await service.look("run_0", 1.0), await service.stop("run_0")):
        assert isinstance(failed, LookFailed)
        assert failed.status_code == 404


async def test_one_key_is_one_run(service: Service) -> None:
    """The same start again gives the same run, going on or ended; another start with its key is refused."""
    first, again = [await started(service, "sleep_in_loop", "0.2", "k-1") for _ in range(2)]
    assert first.run_id == again.run_id
    end = await ended(service, first)
    assert (await started(service, "sleep_in_loop", "0.2", "k-1")) == end
    other = await service.start(request("sleep_in_loop", {"seconds": "1"}, "k-1"))
    assert isinstance(other, Refused)
    assert (other.scope, other.status_code) == (RefusalScope.ROW, 422)
    assert (await started(service, "sleep_in_loop", "0.2", "k-2")).run_id != first.run_id


@pytest.mark.long
async def test_many_at_once_have_each_their_own_end(service: Service) -> None:
    """Nothing is lost or swapped where a hundred are started and waited for at once."""
    ends: dict[int, bytes] = {}

    async def one(number: int) -> None:
        answer = await service.start(request("echo_in_loop", {"n": str(number)}))
        assert isinstance(answer, Started)
        ends[number] = bytes((await ended(service, answer.run)).result)

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(one, number)
    assert ends == {number: b'{"n":"%d"}' % number for number in range(100)}


@pytest.mark.long
async def test_a_graceful_end_does_not_wait_for_those_who_wait(tmp_path: Path) -> None:
    """`serve` is told to stop while looks of a minute are open: they are answered, and it ends at once."""
    tasks = load_tasks(OWN, files=SAMPLES)
    seen: list[RunSeen | LookFailed] = []
    with anyio.fail_after(60):
        async with (
            LocalService(tasks, 1) as local,
            listen(local) as url,
            Client(url, "", AiohttpTransport()) as client,
            anyio.create_task_group() as group,
        ):
            await client.capabilities()
            run = await started(client, "sleep_in_loop", "600")

            async def wait() -> None:
                seen.append(await client.look(run.run_id, 60.0))

            group.start_soon(wait)
            await until(lambda: local.runs.running == 1)
            await anyio.sleep(0.2)
            await local.wind_down(0.1)
            local.stop_all()
    assert isinstance(seen[0], RunSeen)
    assert seen[0].run.status == "cancelled"


async def test_where_ends_are_not_told_a_look_asks_for_nothing_beyond_the_api(tmp_path: Path) -> None:
    """A client that was not told that the service waits sends no preference, and is answered at once."""
    async with (
        LocalService(load_tasks(OWN, files=SAMPLES), 1) as local,
        listen(local) as url,
        Client(url, "", AiohttpTransport()) as client,
    ):
        run = await started(client, "sleep_in_loop", "600")
        with anyio.fail_after(60):
            seen = await client.look(run.run_id, 600.0)
    assert isinstance(seen, RunSeen)
    assert (seen.waited, seen.run.has_ended) == (False, False)
