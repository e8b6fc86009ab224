"""The scheduler's record of what was begun is asked whenever something is lost: what only waited is sent again."""

from __future__ import annotations

import shutil
import signal
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import to_thread
from contract import until
from dask_cluster import kill
from distributed import Client, Scheduler, Worker
from distributed.worker_state_machine import FreeKeysEvent
from executing import all_ended, call, named, on_cluster
from test_cluster_losses import Follow, processing
from test_cluster_tasks import FREE, HOST

from batch_runner.service.local.dask import connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from dask_cluster import DaskCluster

    from batch_runner.service.local.dask.cluster import OnCluster

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)
pytestmark = [pytest.mark.anyio, pytest.mark.long]


class Waiting(Follow):
    """A call that waits at a worker behind another."""

    def __init__(self, folder: Path, *, repeatable: bool = False) -> None:
        folder.mkdir()
        super().__init__(folder, repeatable=repeatable)
        self.go.touch()


async def one_at_work_and_one_at_hand(
    cluster: DaskCluster, folder: Path, meanwhile: Callable[[OnCluster], Awaitable[None]]
) -> tuple[Follow, Waiting]:
    """On the one worker there is; then something happens, and another worker comes."""
    cluster.add_workers()
    begun, waiting = Follow(folder, repeatable=False), Waiting(folder / "waiting")
    async with on_cluster(cluster.address) as executor, anyio.create_task_group() as group:
        begun.call, waiting.call = named(begun.call, executor, 1), named(waiting.call, executor, 2)
        group.start_soon(begun.run, executor)
        await begun.has_begun()
        group.start_soon(waiting.run, executor)
        while await to_thread.run_sync(processing, cluster.address) < 2:
            await anyio.sleep(0.05)
        await meanwhile(executor)
        await to_thread.run_sync(cluster.add_workers)
    return begun, waiting


def restart(address: str) -> None:
    """Have all workers started again, and all tasks forgotten, as anybody may who shares the cluster."""
    with Client(address, set_as_default=False) as client, suppress(TimeoutError):
        client.restart(wait_for_workers=False, timeout=10)


@pytest.mark.parametrize("what", ["the cluster is restarted", "the connection breaks"])
async def test_what_only_waited_is_not_lost_when_all_is_forgotten(
    own_cluster: DaskCluster, tmp_path: Path, what: str
) -> None:
    """The scheduler forgets what its client wanted. It has it in its record which of the calls had begun."""

    async def meanwhile(executor: OnCluster) -> None:
        if what == "the cluster is restarted":
            await to_thread.run_sync(restart, own_cluster.address)
            return
        stream: Any = (await executor._connection.ready()).scheduler_comm
        stream.comm.abort()

    begun, waiting = await one_at_work_and_one_at_hand(own_cluster, tmp_path, meanwhile)
    assert begun.ending is not None
    assert begun.ending.cut_off
    assert waiting.ending is not None
    assert (waiting.ending.status, waiting.times_begun, begun.times_begun) == ("success", 1, 1)


async def test_an_interrupt_while_the_scheduler_stands_still(
    own_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears late of what is not to begin, and answers nobody any more: what waited has not begun all the same."""
    monkeypatch.setattr(connection, "STANDS_STILL", 0.5)
    begun, waiting = Follow(tmp_path, repeatable=False), Waiting(tmp_path / "waiting")
    own_cluster.add_workers()
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(begun.run, executor)
        await begun.has_begun()
        group.start_soon(waiting.run, executor)
        while await to_thread.run_sync(processing, own_cluster.address) < 2:
            await anyio.sleep(0.05)
        own_cluster.scheduler.send_signal(signal.SIGSTOP)
        executor.wind_down()
        await until(lambda: executor.trouble is not None)
        await anyio.sleep(1.0)
        own_cluster.scheduler.send_signal(signal.SIGCONT)
        await until(lambda: executor.trouble is None)
        begun.go.touch()
    assert begun.ending is not None
    assert begun.ending.status == "success"
    assert waiting.ending is not None
    assert waiting.ending.never_began
    assert waiting.times_begun == 0


async def test_an_interrupt_when_the_scheduler_is_another(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """It has no workers, so no record but ours: what waits for the first has not begun, and ends with that."""
    waiting = Waiting(tmp_path / "waiting")
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        first = executor.session
        await to_thread.run_sync(kill, own_cluster.scheduler)
        await to_thread.run_sync(own_cluster.start_scheduler)
        await until(lambda: executor.session != first and executor.trouble is None)
        waiting.call = named(waiting.call, executor, 1)
        group.start_soon(waiting.run, executor)
        await until(lambda: any(way.key for way in executor._under_way))
        executor.wind_down()
    assert waiting.ending is not None
    assert waiting.ending.never_began


async def test_a_new_record_knows_of_what_is_started_from_then_on(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """A program that ends after its scheduler was another: what it started before is not known, what came later is."""
    async with on_cluster(own_cluster.address) as executor:
        first = executor.session
        await to_thread.run_sync(kill, own_cluster.scheduler)
        await to_thread.run_sync(own_cluster.start_scheduler)
        await until(lambda: executor.session != first)
        second = executor.session
    async with on_cluster(own_cluster.address) as executor:
        assert [await executor.never_began(f"run_{session}") for session in (first, second)] == [False, True]


async def test_a_worker_whose_folder_was_swept_away(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """A cleaner of temporary files takes all that is a few days old; the next call is laid out anew."""
    file = tmp_path / "own.py"
    file.write_text("def f(params): return params")
    own_cluster.add_workers()
    async with on_cluster(own_cluster.address) as executor:
        run = partial(executor.run, call("f", file=str(file)))
        assert (await run()).status == "success"
        for path in (tmp_path / "dask").rglob("own.py"):
            path.unlink()
        assert (await run()).status == "success"
        for path in (tmp_path / "dask").iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        assert (await run()).status == "success"


async def test_a_worker_whose_disk_takes_nothing_declines(
    own_cluster: DaskCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here: there is a file where its folder was. The call goes to another, and begins once."""
    file = tmp_path / "own.py"
    file.write_text("def f(params):\n    with open(params['count'], 'ab') as file:\n        file.write(b'.')")
    own_cluster.add_workers()
    async with on_cluster(own_cluster.address) as executor:
        for scratch in (tmp_path / "dask").glob("*/worker-*"):
            if scratch.is_dir():
                shutil.rmtree(scratch)
                scratch.touch()
        (address,) = executor._connection._there
        await to_thread.run_sync(own_cluster.add_workers)
        await until(lambda: len(executor._connection._there) == 2)
        ends = await all_ended(executor, [call("f", file=str(file), count=str(tmp_path / str(n))) for n in range(6)])
    assert {ending.status for ending in ends} == {"success"}
    assert [(tmp_path / str(number)).read_text() for number in range(6)] == ["."] * 6
    assert f"The Dask worker {address} can't lay out the run's files" in caplog.text


async def test_a_scheduler_that_comes_back_without_this_program(
    own_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can't keep the record, so nothing is sent to it, and a start is told why. With one that can it goes on."""
    bare = tmp_path / "bare" / "batch_runner"
    bare.mkdir(parents=True)
    (bare / "__init__.py").write_text("raise ImportError('it is not here')")
    async with on_cluster(own_cluster.address) as executor:
        await to_thread.run_sync(kill, own_cluster.scheduler)
        with monkeypatch.context() as patch:
            patch.setenv("PYTHONPATH", str(bare.parent))
            await to_thread.run_sync(own_cluster.start_scheduler)
        await until(lambda: "can't be used (it is not here)" in str(executor.trouble))
        await to_thread.run_sync(kill, own_cluster.scheduler)
        await to_thread.run_sync(own_cluster.start_scheduler)
        await to_thread.run_sync(own_cluster.add_workers)
        await until(lambda: executor.trouble is None)
        assert (await executor.run(call("echo"))).status == "success"


async def test_the_record_can_not_be_asked_while_the_client_is_closed(own_cluster: DaskCluster) -> None:
    """Dask's own client gives up a scheduler that is away: what is asked just then is not known, and nothing breaks."""
    async with on_cluster(own_cluster.address) as executor:
        client: Any = await executor._connection.ready()
        await client.rpc.close()
        assert not await executor.never_began(f"run_{executor.session}")
        assert await executor._connection.withdraw({"key": [f"run_{executor.session}"]}) == {}


async def test_a_worker_keeps_no_answer_that_nobody_takes(tmp_path: Path) -> None:
    """A call may be cancelled just when it has ended: its task is forgotten and was never there to be taken."""
    async with (
        Scheduler(host=HOST, port=0, dashboard_address=FREE) as scheduler,
        Worker(
            scheduler.address, nthreads=1, local_directory=str(tmp_path), host=HOST, dashboard_address=FREE
        ) as worker,
        on_cluster(scheduler.address) as executor,
    ):
        assert (await executor.run(call("echo"))).status == "success"
        seat: Any = worker.plugins["batch_runner"]
        ended: list[str] = []

        class Cancelled(dict[str, Any]):
            def __setitem__(self, key: str, answer: Any) -> None:
                super().__setitem__(key, answer)
                ended.append(key)
                worker.handle_stimulus(FreeKeysEvent(keys=[key], stimulus_id="cancelled"))

        seat._ended = Cancelled()
        async with anyio.create_task_group() as group:
            group.start_soon(executor.run, call("echo"))
            await until(lambda: bool(ended) and ended[0] not in worker.state.tasks)
            group.cancel_scope.cancel()
        assert seat._ended == {}
