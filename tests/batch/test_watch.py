"""Following runs to their ends, in virtual time, against a service that is a script."""

from __future__ import annotations

import pickle
import random
from contextlib import asynccontextmanager
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest
import trio.testing
from poll_simulation import follow_to_its_end

from batch_runner.batch.poll_schedule import PollLimits, Schedule
from batch_runner.batch.poller import Followed, Overdue, Poller, Unreachable, Vanished
from batch_runner.batch.stop import POLLS
from batch_runner.service.protocol import NO_SIGNAL, LookFailed, Run, RunSeen, Signal
from batch_runner.units import Rate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    Script = Callable[[str, float], RunSeen | LookFailed]

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Service:
    """Answers polls by a script of (run id, seconds since the begin), some time after they came."""

    def __init__(self, script: Script, takes: float = 0.05) -> None:
        self.script = script
        self.takes = takes
        self.began = anyio.current_time()
        self.polls: list[float] = []
        self.open = 0
        self.most_open = 0

    async def poll(self, run_id: str) -> RunSeen | LookFailed:
        self.polls.append(anyio.current_time() - self.began)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await anyio.sleep(self.takes)
        finally:
            self.open -= 1
        return self.script(run_id, anyio.current_time() - self.began)

    def polling(self, run_timeout: float = 1800.0) -> AbstractAsyncContextManager[Poller]:
        return driven(Poller(self.poll, Schedule(PollLimits.fixed(Rate(20, 1.0))), run_timeout, random.Random(1)))


@asynccontextmanager
async def driven(poller: Poller) -> AsyncIterator[Poller]:
    async with anyio.create_task_group() as group:
        group.start_soon(poller.drive)
        yield poller
        group.cancel_scope.cancel()


def seen(status: str) -> RunSeen:
    return RunSeen(Run("r", status), NO_SIGNAL)


def trouble(status_code: int | None, *, again: bool = True, retry_after: float | None = None) -> LookFailed:
    return LookFailed(f"the service said {status_code}", status_code, again, Signal(retry_after=retry_after))


def ending_at(end: float, going: RunSeen | LookFailed | None = None) -> Script:
    return lambda _, now: seen("success") if now >= end else going or seen("running")


async def follow(service: Service, run_timeout: float = 1800.0, age: float | None = 0.0) -> tuple[Followed, list[str]]:
    told: list[str] = []
    async with service.polling(run_timeout) as poller:
        found = await follow_to_its_end(poller, Run("r", "queued"), told.append, age)
    return found, told


async def test_a_run_is_followed_to_its_end() -> None:
    """The end is noticed soon, the last answer is what comes back, and each new status is told once."""
    service = Service(ending_at(60))
    found, told = await follow(service)
    assert found == Run("r", "success")
    assert told == ["running"]
    assert 60 <= anyio.current_time() - service.began < 63


async def test_a_run_of_a_second_is_noticed_within_two() -> None:
    """Nobody waits for half a minute for what took a second."""
    service = Service(ending_at(1))
    await follow(service)
    assert anyio.current_time() - service.began < 2.5


async def test_a_status_may_go_backwards_and_may_be_unknown() -> None:
    """Neither is an error: all that isn't final goes on."""
    words = ["running", "queued", "pondering", "running", "success"]
    service = Service(lambda _run, now: seen(words[min(int(now / 30), 4)]))
    found, told = await follow(service)
    assert found == Run("r", "success")
    assert told == words[:4]


async def test_a_run_that_takes_too_long_is_overdue() -> None:
    """After the run timeout the last status comes back, to the second."""
    service = Service(ending_at(inf))
    found, _ = await follow(service, run_timeout=600)
    assert found == Overdue("running")
    assert anyio.current_time() - service.began == pytest.approx(600)


async def test_no_run_waits_for_a_poll_to_be_overdue() -> None:
    """With a hundred runs, a poll a second and a pause of a minute, each is given up on time: nobody is asked then."""
    service = Service(lambda _run, now: seen("running") if now < 590 else trouble(503, retry_after=60), takes=0.5)
    followed: list[float] = []
    poller = Poller(service.poll, Schedule(PollLimits.fixed(Rate(1, 1.0))), 600, random.Random(1))

    async def follow_one(began: float) -> None:
        assert isinstance(await follow_to_its_end(poller, Run("r", "queued"), lambda _: None), Overdue)
        followed.append(anyio.current_time() - began)

    async with driven(poller), anyio.create_task_group() as runs:
        for _ in range(100):
            runs.start_soon(follow_one, anyio.current_time())
            await anyio.sleep(0.1)
    assert followed == pytest.approx([600] * 100)
    assert len(service.polls) < 620


def test_runs_that_have_ended_are_forgotten() -> None:
    """A run that is stuck for long keeps nothing of the thousands that end meanwhile."""
    schedule = Schedule(PollLimits.fixed(Rate(20, 1.0)))
    schedule.add(0, 0.0, until=1800.0)
    for run in range(1, 5_000):
        schedule.add(run, run / 10, until=run / 10 + 1800)
        schedule.remove(run)
        schedule.due(run / 10)
    assert len(pickle.dumps(schedule)) < 10_000


async def test_a_fresh_run_may_be_unknown_for_a_while() -> None:
    """A 404 that is over within 30 seconds does no harm."""
    service = Service(lambda _run, now: trouble(404) if now < 25 else seen("success"))
    found, _ = await follow(service)
    assert found == Run("r", "success")


async def test_a_run_that_stays_unknown_has_vanished() -> None:
    """A 404 for 30 seconds is final, and not much later."""
    service = Service(lambda *_: trouble(404))
    found, _ = await follow(service)
    assert found == Vanished("the service said 404")
    assert 30 <= anyio.current_time() - service.began <= 31.5


async def test_a_404_after_an_outage_has_its_own_30_seconds() -> None:
    """A service that comes back after five minutes and still has to find its runs is given the time for it."""
    service = Service(
        lambda _run, now: trouble(502) if now < 300 else trouble(404) if now < 320 else ending_at(0)("r", now)
    )
    found, _ = await follow(service)
    assert found == Run("r", "success")


async def test_an_outage_is_waited_out() -> None:
    """Ten minutes of refused connections cost a few dozen polls and no run."""
    service = Service(lambda _run, now: trouble(None) if now < 600 else seen("success"))
    found, _ = await follow(service)
    assert found == Run("r", "success")
    assert len(service.polls) < 50


async def test_a_run_that_stays_unreachable_is_given_up() -> None:
    """After the budget of polls that tell nothing, with the reason and the last status."""
    service = Service(lambda _run, now: seen("running") if now < 10 else trouble(500))
    found, _ = await follow(service)
    assert isinstance(found, Unreachable)
    assert (found.why, found.status, found.status_code) == ("the service said 500", "running", 500)
    assert POLLS.budget <= found.seconds < POLLS.budget + 75
    assert POLLS.budget <= anyio.current_time() - service.began < POLLS.budget + 75


async def test_what_will_not_change_is_not_asked_again() -> None:
    """A key that was taken away: one poll, and no more."""
    service = Service(lambda *_: trouble(401, again=False))
    found, _ = await follow(service)
    assert found == Unreachable("the service said 401", "queued", 401)
    assert len(service.polls) == 1


async def test_a_run_is_polled_once_a_second_at_most_where_polls_fail() -> None:
    """Whatever comes back, and whatever chance says of the next try."""
    answers: list[RunSeen | LookFailed] = [trouble(404), trouble(500)]
    service = Service(lambda _run, now: answers[int(now * 7) % 2])
    await follow(service, run_timeout=20)
    assert all(after - before >= 1 for before, after in pairwise(service.polls))
    assert len(service.polls) > 5


async def test_a_long_run_is_polled_once_a_second_at_most() -> None:
    """Whatever status it has: more often than that only as long as it may be a short one."""
    answers = ["running", "queued", "pondering"]
    service = Service(lambda _run, now: seen(answers[int(now * 7) % 3]))
    await follow(service, run_timeout=120)
    late = [at for at in service.polls if at > 11]
    assert all(after - before >= 1 - 1e-9 for before, after in pairwise(late))
    assert all(after - before >= 0.05 - 1e-9 for before, after in pairwise(service.polls))
    assert len(late) > 30


async def test_retry_after_holds_all_polls() -> None:
    """One 429 for a poll, and for so long none goes out for any run, not even for one that was started since."""
    service = Service(lambda _run, now: trouble(429, retry_after=20) if now < 5 else seen("success"))
    async with service.polling() as poller, anyio.create_task_group() as group:
        group.start_soon(follow_to_its_end, poller, Run("first", "queued"), lambda _: None)
        await anyio.sleep(6)
        await follow_to_its_end(poller, Run("second", "queued"), lambda _: None)
    assert service.polls[1] >= service.polls[0] + 20


async def test_troubles_that_end_are_forgotten() -> None:
    """A service that is down every other ten minutes is borne for hours: the budget is for one outage."""
    service = Service(lambda _run, now: trouble(500) if now % 1200 < 600 else ending_at(9000)("r", now))
    found, _ = await follow(service, run_timeout=20_000)
    assert found == Run("r", "success")


async def test_a_slow_answer_holds_up_no_other_run() -> None:
    """Answers that take 40 seconds are waited for side by side, within the budget."""
    service = Service(ending_at(100), takes=40.0)
    async with service.polling() as poller, anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(follow_to_its_end, poller, Run(f"r{number}", "queued"), lambda _: None)
    assert service.most_open == 100
    assert anyio.current_time() - service.began < 200


async def test_a_run_of_another_night_is_looked_at_at_once() -> None:
    """It may have ended hours ago: nobody waits for what is known."""
    service = Service(ending_at(0))
    await follow(service, age=None)
    assert anyio.current_time() - service.began < 0.2


async def test_nothing_is_told_by_a_look_that_was_cut_off() -> None:
    """An answer that comes after its look was cancelled reaches nobody, and the run isn't polled again."""
    told: list[str] = []
    service = Service(ending_at(120), takes=10)
    async with service.polling() as poller:
        with anyio.move_on_after(5):
            await follow_to_its_end(poller, Run("r", "queued"), told.append)
        await anyio.sleep(20)
    assert len(service.polls) == 1
    assert not told


async def test_a_look_that_lasts_is_cut_off_at_the_run_timeout() -> None:
    """A service that is slow to answer holds nobody beyond that, and a run without a turn is overdue by then, too."""
    service = Service(ending_at(inf), takes=40.0)
    found, _ = await follow(service, run_timeout=100)
    assert found == Overdue("running")
    assert anyio.current_time() - service.began == pytest.approx(100)


async def test_a_run_whose_look_fails_is_followed_no_more() -> None:
    """Its new status couldn't be recorded, say: its row has ended with that, and would end once more."""

    def full(_status: str) -> None:
        raise OSError("the disk is full")

    service = Service(ending_at(60))
    async with service.polling() as poller:
        with pytest.raises(OSError, match="full"):
            await follow_to_its_end(poller, Run("r", "queued"), full)
        poller.hurry()
        await anyio.sleep(120)
    assert len(service.polls) == 1
