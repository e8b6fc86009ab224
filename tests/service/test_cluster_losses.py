"""A Dask cluster whose processes are killed while runs go on: what is lost, what is run again, and what is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import anyio
import psutil
import pytest
from anyio import to_thread
from contract import OWN, until
from dask_cluster import DaskCluster, kill
from distributed import Client
from executing import all_ended, call, is_alive, named, number_in, on_cluster

from batch_runner.log import facts_of
from batch_runner.service.local.dask import bundle, connection, worker_plugin
from batch_runner.service.local.dask import cluster as executor_module

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.service.local.result import RunEnd
    from batch_runner.service.local.tasks import Call, Executor

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)
pytestmark = [pytest.mark.anyio, pytest.mark.long]


class Follow:
    """A call that begins, leaves its mark and waits; followed in the background to its ending."""

    def __init__(self, folder: Path, *, repeatable: bool) -> None:
        self.mark, self.go, self._count = folder / "mark", folder / "go", folder / "count"
        params = {"mark": str(self.mark), "until": str(self.go), "count": str(self._count)}
        self.call: Call = call("counted", 60.0, repeatable=repeatable, **params)
        self.ending: RunEnd | None = None

    async def run(self, executor: Executor) -> None:
        self.ending = await executor.run(self.call)

    async def has_begun(self, times: int = 1) -> None:
        await until(lambda: self.times_begun >= times)
        await until(self.mark.exists)

    @property
    def times_begun(self) -> int:
        return self._count.stat().st_size if self._count.exists() else 0


def runs_twice(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    """Of which runs a person was told that they may have run twice, and why."""
    start = "may have run twice: "
    told = [record for record in caplog.records if record.getMessage().startswith(start)]
    return [(record.getMessage().removeprefix(start), facts_of(record).get("run_id")) for record in told]


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_lost_worker(
    own_cluster: DaskCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, repeatable: bool
) -> None:
    """What is declared repeatable runs again elsewhere; what isn't begins once and says that its worker was lost.

    Of what runs again it is said which run of which row may have run twice.
    """
    (worker,) = own_cluster.add_workers()
    following = Follow(tmp_path, repeatable=repeatable)
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(following.run, executor)
        await following.has_begun()
        process = await number_in(following.mark)
        await to_thread.run_sync(own_cluster.add_workers)
        worker.kill()
        await until(lambda: not is_alive(process))
        if repeatable:
            await following.has_begun(times=2)
            following.go.touch()
    assert following.ending is not None
    if repeatable:
        assert (following.ending.status, following.times_begun) == ("success", 2)
        assert runs_twice(caplog) == [("the Dask worker that had it went away", "run_1")]
    else:
        assert (following.ending.status, following.times_begun) == ("failure", 1)
        assert following.ending.cut_off
        assert runs_twice(caplog) == []
        assert str(following.ending.error).startswith("worker lost: the Dask worker that had it went away; it may")


def retire(address: str, worker: str) -> None:
    """Retire a worker, as an operator's scaling does."""
    with Client(address, set_as_default=False) as client:
        client.retire_workers(workers=[worker], close_workers=True)


@pytest.mark.parametrize(
    ("way", "repeatable"), [("retired", False), ("retired", True), ("SIGTERM", False), ("SIGTERM to a nanny", False)]
)
async def test_a_worker_that_is_closed_in_order_lets_its_run_end(
    own_cluster: DaskCluster, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture, *, repeatable: bool
) -> None:
    """The run ends there as it would have; it is begun once, and nothing new is begun there meanwhile."""
    (worker,) = await to_thread.run_sync(partial(own_cluster.add_workers, nanny=way.endswith("nanny")))
    following = Follow(tmp_path, repeatable=repeatable)
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(following.run, executor)
        await following.has_begun()
        process = await number_in(following.mark)
        (address,) = executor._connection._there
        await to_thread.run_sync(own_cluster.add_workers)
        await until(lambda: executor.places.total_tokens == 2 * executor_module.AT_HAND)
        if way == "retired":
            await to_thread.run_sync(retire, own_cluster.address, address)
        else:
            worker.send_signal(signal.SIGTERM)
        await until(lambda: executor.places.total_tokens == executor_module.AT_HAND)
        others = {int(bytes(ending.result)) for ending in await all_ended(executor, [call("pid")] * 4)}
        assert psutil.Process(process).ppid() not in {psutil.Process(other).ppid() for other in others}
        if way == "retired" and not repeatable:
            await anyio.sleep(3 * worker_plugin.STILL_AT_WORK)
        assert following.ending is None
        assert is_alive(process)
        following.go.touch()
    assert following.ending is not None
    assert (following.ending.status, following.times_begun) == ("success", 1)
    assert runs_twice(caplog) == []
    await until(lambda: worker.poll() is not None)


async def test_a_worker_that_ends_with_its_scheduler_waits_for_nobody(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """Both hear SIGTERM while a run is at work: nobody could hear of its end, so the worker and the run end, too."""
    (worker,) = own_cluster.add_workers()
    following = Follow(tmp_path, repeatable=False)
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(following.run, executor)
        await following.has_begun()
        process = await number_in(following.mark)
        own_cluster.scheduler.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGTERM)
        await until(lambda: worker.poll() is not None)
        await until(lambda: not is_alive(process))
    assert following.ending is not None
    assert following.ending.cut_off


async def test_a_worker_that_is_paused_until_it_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows what it does when it goes on, so its run is unknown; it is begun nowhere else."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "3s")
    following = Follow(tmp_path, repeatable=False)
    with DaskCluster(tmp_path) as own_cluster:
        (worker,) = own_cluster.add_workers()
        async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
            group.start_soon(following.run, executor)
            await following.has_begun()
            await to_thread.run_sync(own_cluster.add_workers)
            worker.send_signal(signal.SIGSTOP)
            await until(lambda: following.ending is not None)
        worker.send_signal(signal.SIGCONT)
    assert following.ending is not None
    assert following.ending.cut_off
    assert str(following.ending.error).startswith("worker lost: the Dask worker that had it went away; it may")
    assert following.times_begun == 1


async def test_a_call_that_had_not_begun_is_not_lost_with_its_worker(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """It waited at the worker behind another: it runs elsewhere, though it may not be repeated."""
    (worker,) = own_cluster.add_workers()
    begun, waiting = Follow(tmp_path, repeatable=False), call("echo", a="b")
    endings: list[RunEnd] = []

    async def run_the_other(executor: Executor) -> None:
        endings.append(await executor.run(waiting))

    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(begun.run, executor)
        await begun.has_begun()
        group.start_soon(run_the_other, executor)
        await to_thread.run_sync(own_cluster.add_workers)
        kill(worker)
    assert [ending.status for ending in endings] == ["success"]
    assert str(begun.ending and begun.ending.error).startswith("worker lost: ")


async def test_an_interrupt_begins_nothing_more(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """What waits here or in Dask never begins, and says so at once; what has begun goes on to its end."""
    own_cluster.add_workers()
    begun = Follow(tmp_path, repeatable=False)
    endings: list[RunEnd] = []

    async def run_another(executor: Executor, number: int) -> None:
        endings.append(await executor.run(named(call("echo"), executor, number)))

    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(begun.run, executor)
        await begun.has_begun()
        for number in range(executor._most_bundles + 3):
            group.start_soon(run_another, executor, number)
        await until(lambda: len(executor._waiting) >= 3)
        executor.wind_down()
        await until(lambda: len(endings) == executor._most_bundles + 3)
        begun.go.touch()
    assert {ending.never_began for ending in endings} == {True}
    assert begun.ending is not None
    assert begun.ending.status == "success"


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_scheduler_that_goes_away_and_comes_back(
    own_cluster: DaskCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, repeatable: bool
) -> None:
    """What was under way runs again if it may, else it says so; what comes later runs; nothing waits for ever."""
    own_cluster.add_workers()
    following = Follow(tmp_path, repeatable=repeatable)
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(following.run, executor)
        await following.has_begun()
        await to_thread.run_sync(kill, own_cluster.scheduler)
        await until(lambda: executor.trouble is not None)
        assert executor.trouble == f"The Dask scheduler at {own_cluster.address} is away; it is looked for."
        await to_thread.run_sync(own_cluster.start_scheduler)
        await to_thread.run_sync(own_cluster.add_workers)
        if repeatable:
            await following.has_begun(times=2)
        following.go.touch()
        assert (await executor.run(call("echo"))).status == "success"
        assert executor.trouble is None
    assert following.ending is not None
    assert following.times_begun == 1 + repeatable
    assert following.ending.status == ("success" if repeatable else "failure")
    if repeatable:
        assert runs_twice(caplog) == [("the Dask scheduler went away while it was under way", "run_1")]
    else:
        assert str(following.ending.error).startswith("worker lost: the Dask scheduler went away while it was under")


async def test_an_end_while_the_scheduler_is_away(
    own_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C while nobody can say what has begun: nothing breaks, also when Dask's own client has given up."""
    monkeypatch.setattr(connection, "FOUND_WITHIN", 1.0)
    own_cluster.add_workers()
    following = Follow(tmp_path, repeatable=False)
    async with on_cluster(own_cluster.address) as executor:
        first = await executor._connection.ready()
        async with anyio.create_task_group() as group:
            group.start_soon(following.run, executor)
            await following.has_begun()
            await to_thread.run_sync(kill, own_cluster.scheduler)
        await until(lambda: first.status == "closed")
        assert "start it and its workers again, or end this program with Ctrl-C" in caplog.text
        assert following.ending is not None
        assert str(following.ending.error).startswith("worker lost: the Dask scheduler went away")
        assert not await executor.never_began("of an earlier program")
        executor.wind_down()
        await anyio.wait_all_tasks_blocked()


async def test_a_scheduler_that_stands_still_is_told(
    own_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its connection is there, and nothing comes; nothing is started meanwhile, and nothing is lost by it."""
    monkeypatch.setattr(connection, "STANDS_STILL", 1.0)
    own_cluster.add_workers()
    endings: list[RunEnd] = []

    async def run_one(executor: Executor) -> None:
        endings.append(await executor.run(call("echo")))

    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        own_cluster.scheduler.send_signal(signal.SIGSTOP)
        await until(lambda: executor.trouble is not None)
        assert executor.trouble == f"The Dask scheduler at {own_cluster.address} stands still."
        assert "went away, or stands still; nothing is started until it answers" in caplog.text
        group.start_soon(run_one, executor)
        own_cluster.scheduler.send_signal(signal.SIGCONT)
        await until(lambda: executor.trouble is None)
    assert [ending.status for ending in endings] == ["success"]
    assert "the Dask scheduler answers again" in caplog.text


async def test_a_scheduler_that_comes_back_when_dask_has_given_up(
    own_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask's own client looks for so long (here less) and closes; we go on with a new one."""
    monkeypatch.setattr(connection, "FOUND_WITHIN", 2.0)
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        first = await executor._connection.ready()
        await to_thread.run_sync(kill, own_cluster.scheduler)
        await until(lambda: first.status == "closed")
        group.start_soon(to_thread.run_sync, own_cluster.start_scheduler)
        await until(lambda: executor.trouble is None)
        await to_thread.run_sync(own_cluster.add_workers)
        assert (await executor.run(call("echo"))).status == "success"


@pytest.mark.parametrize("is_sent", [True, False])
async def test_a_scheduler_that_stays_away(
    own_cluster: DaskCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    is_sent: bool,
) -> None:
    """After a quarter of an hour (here less) the runs that wait for it end with a sentence: whether they may have run.

    Until then they wait, those that were never sent, too, and a person is told.
    """
    own_cluster.add_workers()
    following = Follow(tmp_path, repeatable=True)
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        if is_sent:
            group.start_soon(following.run, executor)
            await following.has_begun()
        await to_thread.run_sync(kill, own_cluster.scheduler)
        await until(lambda: "the Dask scheduler went away, or stands still" in caplog.text)
        if not is_sent:
            group.start_soon(following.run, executor)
        await until(lambda: len(executor._under_way) == 1)
        assert following.ending is None
        monkeypatch.setattr(executor_module, "GIVEN_UP_AFTER", 0.5)
    assert following.ending is not None
    assert following.ending.status == "failure"
    began = "worker lost: " if is_sent else "It was not begun: "
    assert str(following.ending.error).startswith(f"{began}the Dask scheduler was away for ")
    assert following.ending.never_began is not is_sent


async def test_a_cluster_that_has_lost_its_workers_holds_no_run_for_ever(
    own_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute (here less) it is trouble, so that nothing is started; in the end (here soon) the runs end, too.

    They may not be repeated, and say that they were not begun, also the one that was handed to Dask.
    """
    monkeypatch.setattr(executor_module, "NO_WORKERS_FOR", 0.0)
    ended: list[RunEnd] = []

    async def run(executor: Executor) -> None:
        ended.append(await executor.run(call("echo")))

    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(run, executor)
        await until(lambda: executor.trouble is not None)
        assert str(executor.trouble).startswith("The Dask cluster has had no workers with batch_runner ")
        assert not ended
        monkeypatch.setattr(executor_module, "GIVEN_UP_AFTER", 0.5)
        await until(lambda: len(ended) == 5)
        assert str((await executor.run(call("echo"))).error).startswith("It was not begun: ")
        await to_thread.run_sync(own_cluster.add_workers)
        await until(lambda: executor.trouble is None)
        assert (await executor.run(call("echo"))).status == "success"
    assert all(str(ending.error).startswith("It was not begun: the Dask cluster had no workers") for ending in ended)
    assert all(ending.never_began for ending in ended)


async def test_a_cluster_that_gives_up_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask stops repeating what one worker after another was lost with (here: the first); the run says so."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    following = Follow(tmp_path, repeatable=True)
    with DaskCluster(tmp_path) as own_cluster:
        (worker,) = own_cluster.add_workers()
        async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
            group.start_soon(following.run, executor)
            await following.has_begun()
            kill(worker)
    assert following.ending is not None
    assert str(following.ending.error).startswith("worker lost: one Dask worker after another went away with it")


def processing(address: str) -> int:
    """How many tasks the workers have, at work or at hand."""
    with Client(address, set_as_default=False) as client:
        return sum(map(len, client.processing().values()))


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("most_losses", [0, 1])
async def test_a_call_that_only_waited_on_a_lost_worker_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, most_losses: int, repeatable: bool
) -> None:
    """Dask gives it up with the one at work there; it had not begun, and after too many losses it ends with that."""
    monkeypatch.setattr(bundle, "MOST_LOSSES", most_losses)
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    following = Follow(tmp_path, repeatable=repeatable)
    at_hand: list[RunEnd] = []

    async def run_at_hand(executor: Executor) -> None:
        at_hand.append(await executor.run(call("echo", repeatable=repeatable)))

    with DaskCluster(tmp_path) as own_cluster:
        (worker,) = own_cluster.add_workers()
        async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
            group.start_soon(following.run, executor)
            await following.has_begun()
            group.start_soon(run_at_hand, executor)
            while await to_thread.run_sync(processing, own_cluster.address) < 2:
                await anyio.sleep(0.05)
            kill(worker)
            await until(lambda: following.ending is not None)
            await to_thread.run_sync(own_cluster.add_workers)
    assert following.times_begun == 1
    assert at_hand[0].status == ("success" if most_losses else "failure")
    assert at_hand[0].never_began is not bool(most_losses)
    sentence = "It was not begun: one Dask worker after another went away, tcp://"
    assert str(at_hand[0].error).startswith("None" if most_losses else sentence)


async def test_workers_come_and_go(own_cluster: DaskCluster) -> None:
    """A call waits where there are none; places grow with their threads and shrink again; later ones run tasks too."""
    async with on_cluster(own_cluster.address) as executor, anyio.create_task_group() as group:
        assert executor.places.total_tokens == executor_module.AT_HAND
        group.start_soon(executor.run, call("echo"))
        (first,) = await to_thread.run_sync(own_cluster.add_workers)
        await to_thread.run_sync(own_cluster.add_workers, 1, 3)
        await until(lambda: executor.places.total_tokens == 4 * executor_module.AT_HAND)
        pids = await all_ended(executor, [call("pid") for _ in range(8)])
        assert {ending.status for ending in pids} == {"success"}
        kill(first)
        await until(lambda: executor.places.total_tokens == 3 * executor_module.AT_HAND)


PROGRAM = """
import sys, anyio
sys.path[:0] = {path!r}
from executing import call, on_cluster
async def main():
    async with on_cluster({address!r}) as executor:
        await executor.run(call("start_program", mark={mark!r}))
anyio.run(main)
"""


async def test_a_program_that_is_killed_leaves_nothing_running_there(cluster: DaskCluster, tmp_path: Path) -> None:
    """The scheduler sees its client go; the worker ends the run, with the program that its task has started."""
    text = PROGRAM.format(path=[os.path.dirname(OWN)], address=cluster.address, mark=str(tmp_path / "pid"))  # noqa: PTH120
    with subprocess.Popen([sys.executable, "-c", text]) as program:
        process = await number_in(tmp_path / "pid")
        program.kill()
    await until(lambda: not is_alive(process))
