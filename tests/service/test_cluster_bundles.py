"""Short calls, bundled on a Dask cluster: of each that may not be repeated it is known whether it has begun."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
from anyio import to_thread
from contract import until
from dask_cluster import DaskCluster, kill
from distributed import Client
from executing import all_ended, call, on_cluster
from test_cluster_losses import retire

from batch_runner.service.local import result
from batch_runner.service.local.dask import cluster as executor_module
from batch_runner.service.local.dask.bundle import BEGUN_BEFORE, LEFT, Done, merged

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from distributed import Scheduler

    from batch_runner.service.local.dask.cluster import OnCluster
    from batch_runner.service.local.result import RunEnd
    from batch_runner.service.local.tasks import Call

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)
pytestmark = [pytest.mark.anyio, pytest.mark.long]

SHORT = """
import time
from pathlib import Path
def short(params):
    with Path(params["count"]).open("ab") as file:
        file.write(b".")
    while params.get("until") and not Path(params["until"]).exists():
        time.sleep(0.005)
    return params["count"]
"""
WHOLE = executor_module.MOST_UNREPEATABLE
STUCK = 3
"""The place of the call that waits, in a bundle of `WHOLE`."""
UNCUT = "from batch_runner.service.local.dask import bundle; bundle.AHEAD_SECONDS = 600.0"


@pytest.fixture
def uncut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that send no bundle back because it takes long, so that it is one to its end on any machine."""
    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__PRELOAD", repr([UNCUT]))


class Bundled:
    """So many calls that go to the cluster as one bundle, of which one waits until `go` is there."""

    def __init__(self, folder: Path) -> None:
        self.file, self.go, self._folder = folder / "short.py", folder / "go", folder
        self.file.write_text(SHORT)
        self.endings: dict[int, RunEnd] = {}
        self.scopes = {place: anyio.CancelScope() for place in range(WHOLE)}

    def call(self, **params: str) -> Call:
        return msgspec.structs.replace(call("short", 60.0, file=str(self.file)), params=params)

    async def send(self, executor: OnCluster) -> None:
        """As the executor believes that they are short; all wait until there is room for one bundle."""
        executor._pace[self.call().source] = 0.001
        executor._bundles += executor._most_bundles
        async with anyio.create_task_group() as group:
            for place in range(WHOLE):
                group.start_soon(self._run, executor, place)
            await until(lambda: len(executor._waiting) == WHOLE)
            executor._bundles -= 1
            executor._send()
            executor._bundles -= executor._most_bundles - 1

    async def _run(self, executor: OnCluster, place: int) -> None:
        waits = {"until": str(self.go)} if place == STUCK else {}
        with self.scopes[place]:
            the_call = self.call(count=str(self._folder / f"count-{place}"), **waits)
            self.endings[place] = await executor.run(the_call)

    @property
    def begun(self) -> dict[int, int]:
        """How often each was begun."""
        paths = self._folder.glob("count-*")
        return {int(path.name.removeprefix("count-")): path.stat().st_size for path in paths}

    @property
    def statuses(self) -> list[str]:
        """The ending of each; `unknown` where it may have been done."""
        ends = [self.endings[place] for place in sorted(self.endings)]
        return ["unknown" if ending.cut_off else ending.status for ending in ends]

    async def is_stuck(self) -> None:
        """Wait until the one that waits has begun."""
        await until(lambda: self.begun.get(STUCK) == 1)


async def play(
    cluster: DaskCluster, folder: Path, meanwhile: Callable[[Bundled, OnCluster], Awaitable[None]]
) -> Bundled:
    """Send a bundle to the one worker there is, do something while it is at work, and wait for all ends."""
    bundled = Bundled(folder)
    async with on_cluster(cluster.address) as executor, anyio.create_task_group() as group:
        group.start_soon(bundled.send, executor)
        await bundled.is_stuck()
        assert bundled.begun == dict.fromkeys(range(STUCK + 1), 1)
        await meanwhile(bundled, executor)
    return bundled


async def test_a_bundle_ends_as_its_calls_do(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """Behind one that was slow nothing more begins in that bundle: it goes to whoever is free."""
    own_cluster.add_workers()

    async def meanwhile(bundled: Bundled, _: OnCluster) -> None:
        await anyio.sleep(0.2)
        bundled.go.touch()

    bundled = await play(own_cluster, tmp_path, meanwhile)
    assert bundled.statuses == ["success"] * WHOLE
    assert bundled.begun == dict.fromkeys(range(WHOLE), 1)


@pytest.mark.usefixtures("uncut")
async def test_with_a_lost_worker_only_what_had_begun_is_unknown(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """The rest of its bundle begins on another worker, once; nothing begins twice."""
    (worker,) = own_cluster.add_workers()

    async def meanwhile(_: Bundled, __: OnCluster) -> None:
        await to_thread.run_sync(kill, worker)
        await to_thread.run_sync(own_cluster.add_workers)

    bundled = await play(own_cluster, tmp_path, meanwhile)
    assert bundled.statuses == ["unknown"] * (STUCK + 1) + ["success"] * (WHOLE - STUCK - 1)
    assert bundled.begun == dict.fromkeys(range(WHOLE), 1)


@pytest.mark.usefixtures("uncut")
@pytest.mark.parametrize("way", ["retired", "SIGTERM"])
async def test_a_worker_that_leaves_ends_what_is_at_work_and_no_more(
    own_cluster: DaskCluster, tmp_path: Path, way: str
) -> None:
    """What it has done counts; the rest of its bundle begins on another worker, once."""
    (worker,) = own_cluster.add_workers()

    async def meanwhile(bundled: Bundled, executor: OnCluster) -> None:
        (address,) = executor._connection._there
        await to_thread.run_sync(own_cluster.add_workers)
        if way == "retired":
            await to_thread.run_sync(retire, own_cluster.address, address)
        else:
            worker.send_signal(signal.SIGTERM)
        await until(lambda: address not in executor._connection._there)
        bundled.go.touch()

    bundled = await play(own_cluster, tmp_path, meanwhile)
    assert bundled.statuses == ["success"] * WHOLE
    assert bundled.begun == dict.fromkeys(range(WHOLE), 1)


def give_up(address: str, worker: str) -> None:
    """Have the scheduler take a worker for lost, as it does with one of which it has not heard for long."""

    async def remove(dask_scheduler: Scheduler) -> None:
        await dask_scheduler.remove_worker(worker, stimulus_id="given-up")

    with Client(address, set_as_default=False) as client:
        client.run_on_scheduler(remove)


@pytest.mark.usefixtures("uncut")
async def test_a_worker_that_stood_still_takes_nothing_back(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """The scheduler has given it up, and another one has the rest of its bundle when it goes on."""
    (worker,) = own_cluster.add_workers()

    async def meanwhile(bundled: Bundled, executor: OnCluster) -> None:
        (address,) = executor._connection._there
        await to_thread.run_sync(own_cluster.add_workers)
        worker.send_signal(signal.SIGSTOP)
        await to_thread.run_sync(give_up, own_cluster.address, address)
        await until(lambda: len(bundled.begun) == WHOLE)
        bundled.go.touch()
        worker.send_signal(signal.SIGCONT)
        await until(lambda: worker.poll() is not None)

    bundled = await play(own_cluster, tmp_path, meanwhile)
    assert bundled.statuses == ["unknown"] * (STUCK + 1) + ["success"] * (WHOLE - STUCK - 1)
    assert bundled.begun == dict.fromkeys(range(WHOLE), 1)


@pytest.mark.usefixtures("uncut")
async def test_an_interrupt_holds_back_what_has_not_begun(own_cluster: DaskCluster, tmp_path: Path) -> None:
    """Also of a bundle that is at work: its first calls end, the others say that they were not begun."""
    own_cluster.add_workers()

    async def meanwhile(bundled: Bundled, executor: OnCluster) -> None:
        executor.wind_down()
        await until(lambda: len(bundled.endings) == WHOLE - STUCK - 1)
        bundled.go.touch()

    bundled = await play(own_cluster, tmp_path, meanwhile)
    assert bundled.statuses == ["success"] * (STUCK + 1) + ["failure"] * (WHOLE - STUCK - 1)
    assert all(bundled.endings[place].never_began for place in range(STUCK + 1, WHOLE))
    assert len(bundled.begun) == STUCK + 1


@pytest.mark.usefixtures("uncut")
@pytest.mark.parametrize("place", [0, STUCK, WHOLE - 1])
async def test_a_cancelled_call_leaves_the_others_of_its_bundle(
    own_cluster: DaskCluster, tmp_path: Path, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not begun runs. One that hangs is killed: of what had begun with it nobody has heard."""
    own_cluster.add_workers()

    async def meanwhile(bundled: Bundled, executor: OnCluster) -> None:
        if place == STUCK:
            bundled.scopes[place].cancel()
            return
        monkeypatch.setattr(executor_module, "CANCELLED_WITHIN", 600.0)
        bundled.scopes[place].cancel()
        await until(lambda: any(way.key is None for way in executor._under_way))
        bundled.go.touch()

    bundled = await play(own_cluster, tmp_path, meanwhile)
    begun = "unknown" if place == STUCK else "success"
    known = [*[begun] * (STUCK + 1), *["success"] * (WHOLE - STUCK - 1)]
    assert bundled.statuses == known[:place] + known[place + 1 :]
    assert set(bundled.begun.values()) == {1}
    assert (WHOLE - 1 in bundled.begun) is (place != WHOLE - 1)


SAVED, BEFORE = Done(result.success(1), 0.1), BEGUN_BEFORE
DECLINED = Done(result.failure("It is declined."), 0.0, begun_before=1, declined_by="tcp://w:1")
NOT_LOADED = msgspec.structs.replace(DECLINED, begun_before=0)


@pytest.mark.parametrize(
    ("later", "earlier", "known"),
    [
        ([BEFORE, SAVED, SAVED], [SAVED], [SAVED] * 3),
        ([BEFORE, SAVED, LEFT], [], [None, SAVED, LEFT]),
        ([BEFORE, BEFORE, BEFORE], [SAVED, SAVED, LEFT], [SAVED, SAVED, LEFT]),
        ([BEFORE, BEFORE, BEFORE], [SAVED], [SAVED, None, None]),
        ([DECLINED], [SAVED], [SAVED, None, None]),
        ([DECLINED], [], [None] * 3),
        ([BEFORE, SAVED, SAVED], [NOT_LOADED], [LEFT, SAVED, SAVED]),
        ([BEFORE, BEFORE, SAVED], [NOT_LOADED], [LEFT, None, SAVED]),
    ],
)
async def test_what_two_workers_know_of_a_bundle_of_three(
    later: list[Done], earlier: list[Done], known: list[Done | None]
) -> None:
    """The rest has not begun only if one of them says so; where one declined, the other may have begun the rest."""
    assert merged(later, earlier, 3) == known


POISON = """
import os, signal
def f(params):
    if params:
        os.kill(os.getppid(), signal.SIGKILL)
    return "lived"
"""


async def test_a_call_that_takes_its_workers_down_takes_no_others_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that was lost with one worker after another (here the first) is sent again call by call."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    file = tmp_path / "poison.py"
    file.write_text(POISON)
    calls = [call("f", file=str(file), repeatable=True) for _ in range(32)]
    poison = call("f", file=str(file), repeatable=True, poison="yes")
    with DaskCluster(tmp_path) as own_cluster:
        own_cluster.add_workers(3)
        async with on_cluster(own_cluster.address) as executor:
            executor.places.total_tokens = 100
            await all_ended(executor, calls)
            executor.places.total_tokens = 100
            *others, poisoned = await all_ended(executor, [*calls, poison])
    assert {ending.status for ending in others} == {"success"}
    assert str(poisoned.error).startswith("worker lost: one Dask worker after another went away with it")
