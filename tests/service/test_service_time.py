"""Hours in a moment: async tasks under trio's virtual clock, and nothing of the service uses a thread or a process."""

from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from contract import speaking

from batch_runner.service.local import store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOUR = 3600.0


def in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_run_of_an_hour_takes_no_time_and_no_thread() -> None:
    """An async task sleeps on the loop's own clock, and starts neither thread nor process."""

    async def main() -> None:
        threads = set(threading.enumerate())
        async with speaking("in process on trio", run_timeout=2 * HOUR) as service:
            began = trio.current_time()
            _, run = await service.start("sleep_in_loop", {"seconds": "3600"}, sync=True)
            assert (run["status"], trio.current_time() - began) == ("success", HOUR)
            assert set(threading.enumerate()) <= threads  # one of another test may end meanwhile
            assert not multiprocessing.active_children()

    in_virtual_time(main)


def test_the_time_limit_counts_from_the_beginning_of_the_run_not_from_its_start() -> None:
    """With room for one, the second of two runs of 40 minutes waits for 40, and both are within a limit of 50."""

    async def main() -> None:
        async with speaking("in process on trio", run_timeout=3000, async_runs=1) as service:
            ids = [(await service.start("sleep_in_loop", {"seconds": "2400"}))[1]["run_id"] for _ in range(2)]
            await trio.sleep(4801)
            assert [(await service.status(run))[1]["status"] for run in ids] == ["success", "success"]

    in_virtual_time(main)


def test_never_more_at_once_than_the_bound_and_as_many() -> None:
    """Of twenty runs exactly as many go on at once as the bound says."""

    async def main() -> None:
        async with speaking("in process on trio", async_runs=3) as service:
            await service.start("reset_gauge", sync=True)
            ids = [(await service.start("gauge"))[1]["run_id"] for _ in range(20)]
            await trio.sleep(HOUR)
            assert max([(await service.status(run))[1]["result"] for run in ids]) == 3

    in_virtual_time(main)


def test_an_ended_run_is_known_until_so_many_others_were_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose end was never told is kept for longer, so that a slow client loses nothing."""
    monkeypatch.setattr(store, "TOLD_KEPT", 3)

    async def main() -> None:
        async with speaking("in process on trio") as service:
            _, told = await service.start("echo_in_loop", sync=True)
            _, untold = await service.start("sleep_in_loop", {"seconds": "1"})
            await trio.sleep(2)
            for _ in range(2):
                await service.start("echo_in_loop", sync=True)
            assert (await service.status(told["run_id"]))[0] == 200
            await service.start("echo_in_loop", sync=True)
            assert (await service.status(told["run_id"]))[0] == 404
            assert (await service.status(untold["run_id"]))[1]["status"] == "success"

    in_virtual_time(main)


def test_an_error_of_the_block_passes_through_the_service_as_it_is() -> None:
    """Not wrapped in a group of exceptions, also while runs go on."""

    async def fail_within() -> None:
        async with speaking("in process on trio") as service:
            await service.start("sleep_in_loop", {"seconds": "3600"})
            raise LookupError("mine")

    async def main() -> None:
        with pytest.raises(LookupError, match="mine"):
            await fail_within()
        assert trio.current_time() < HOUR

    in_virtual_time(main)


def test_where_runs_are_short_a_start_tells_the_end_and_where_one_is_not_the_next_start_is_answered_at_once() -> None:
    """Nobody has to look for a run that ends in a moment; one slow run, and no start waits for an end any more."""

    async def main() -> None:
        async with speaking("in process on trio") as service:

            async def start(seconds: str) -> tuple[str, float]:
                began = trio.current_time()
                _, run = await service.start("sleep_in_loop", {"seconds": seconds})
                return run["status"], trio.current_time() - began

            assert (await start("0.01"))[0] == "queued"  # nobody knows yet that runs are short
            for _ in range(20):
                await start("0")
                await trio.sleep(1)
            status, waited = await start("0.01")
            assert (status, waited < 0.02) == ("success", True)
            status, waited = await start("3")
            assert status != "success"
            assert waited <= 0.5
            await trio.sleep(3)
            assert await start("0.01") == ("queued", 0.0)

    in_virtual_time(main)
