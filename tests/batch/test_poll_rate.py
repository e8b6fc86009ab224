"""How many polls go out: the rate that rises and falls with the answers, and the one chosen by a person."""

from __future__ import annotations

import random
from collections import deque
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING

import anyio
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from poll_simulation import follow_to_its_end

from batch_runner.batch.poll_schedule import AUTO, AUTO_NEAR, CATCH_UP, IN_PROCESS, PollLimits, PollRate, Schedule
from batch_runner.batch.poller import Poller
from batch_runner.errors import UsageError
from batch_runner.job.config import load_job
from batch_runner.job.job import Job
from batch_runner.runner.connect import choose_service
from batch_runner.service.protocol import NO_SIGNAL, LookFailed, Run, RunSeen, Signal
from batch_runner.units import Rate

if TYPE_CHECKING:
    from pathlib import Path

TWENTY = PollLimits.fixed(Rate(20, 1.0))
HALF = PollLimits.fixed(Rate(30, 60.0))
events = st.lists(
    st.tuples(st.sampled_from(["take", "well", "refused", "hold"]), st.floats(0, 2), st.floats(0, 5)), max_size=200
)


def played(limits: PollLimits, events: list[tuple[str, float, float]]) -> PollRate:
    """A rate after these events, each some time after the one before; the last number is how long an answer took."""
    rate, now = PollRate(limits), 0.0
    for word, pause, took in events:
        now += pause
        opened = rate.opens_at
        match word:
            case "take" if now >= opened:
                rate.take(now - took, now)
                assert rate.opens_at >= opened
            case "well":
                rate.answered(now - took, now, was_late=True)
            case "refused":
                rate.refused(now - took, now)
            case "hold":
                rate.hold(now + took)
                assert rate.opens_at >= opened
            case _:
                pass
        assert limits.least <= rate.rate <= limits.most
    return rate


@given(events, st.sampled_from([AUTO, AUTO_NEAR]))
def test_the_rate_keeps_its_limits(events: list[tuple[str, float, float]], limits: PollLimits) -> None:
    """Whatever comes back and however late: never above the most, never below the least, never back in time."""
    played(limits, events)


@given(events, st.sampled_from([TWENTY, HALF]))
def test_a_number_means_that_number(events: list[tuple[str, float, float]], limits: PollLimits) -> None:
    """Neither refusals nor slow answers change what a person chose."""
    assert played(limits, events).rate == limits.first


def test_auto_can_be_said_wherever_an_option_can(tmp_path: Path) -> None:
    """By nobody, a flag, the environment, a job file and a program, in any case."""
    job_file = tmp_path / "job.toml"
    job_file.write_text('input = "a.csv"\npoll_rate = "auto"\n')
    jobs = [
        Job(input="a.csv"),
        Job(input="a.csv", poll_rate="auto"),
        load_job("a.csv", {"poll_rate": "Auto"}, {}).job,
        load_job("a.csv", {}, {"BATCH_RUNNER_POLL_RATE": "auto"}).job,
        load_job(str(job_file), {}, {}).job,
    ]
    assert [job.poll_budget for job in jobs] == [None] * 5
    assert Job(input="a.csv", poll_rate="30/min").poll_budget == Rate(30, 60.0)
    with pytest.raises(UsageError, match=r"'fast' is not a rate; write .*20/s.*auto"):
        Job(input="a.csv", poll_rate="fast")


@pytest.mark.parametrize(
    ("service", "limits"),
    [
        ("https://example.com", AUTO),
        ("http://127.0.0.1:8000", AUTO_NEAR),
        ("http://localhost:8000/under", AUTO_NEAR),
        ("http://[::1]:8000", AUTO_NEAR),
        ("local", IN_PROCESS),
    ],
)
def test_how_many_polls_are_fair_depends_on_whose_service_it_is(service: str, limits: PollLimits) -> None:
    """A service elsewhere is spared, one on this machine isn't; a number holds for each of them."""
    assert choose_service(Job(input="a.csv", task="invoice", service=service)).polls == limits
    assert choose_service(Job(input="a.csv", task="invoice", service=service, poll_rate="20/s")).polls == TWENTY


def test_a_burst_of_refusals_counts_once() -> None:
    """Polls that were out when the first refusal came say nothing about the lower rate."""
    rate = PollRate(AUTO)
    for number in range(10):
        rate.refused(0.1 * number, 2.0 + 0.1 * number)
    assert rate.rate == pytest.approx(14.0)
    rate.refused(3.5, 4.0)
    assert rate.rate == pytest.approx(9.8)


def test_what_waits_for_a_busy_process_does_not_wait_for_the_rate() -> None:
    """A timer that is a little late is made up for; a loop far behind gets neither a burst nor a higher rate."""
    rate = PollRate(AUTO)
    assert rate.take(1.0, 1.0) == 0
    assert rate.take(1.0, 1.05 + CATCH_UP / 2) == pytest.approx(0.05)
    assert rate.opens_at == pytest.approx(1.10)
    assert rate.take(1.0, 1.5) == 0
    assert rate.opens_at == pytest.approx(1.55)


def test_a_service_that_has_become_slow_is_not_asked_ever_less() -> None:
    """From 0.1 s to 1 s for good: the rate falls at once, and no more after two minutes."""
    rate, now, rates = PollRate(AUTO), 0.0, dict[float, float]()
    while now < 400:
        took = 0.1 if now < 60 else 1.0
        now += 1 / rate.rate
        rate.answered(now - took, now, was_late=True)
        rates[now] = rate.rate
    assert min(rates.values()) >= 1
    assert next(value for at, value in rates.items() if at > 65) < 200
    assert next(value for at, value in rates.items() if at > 300) == 200


class LimitedPolls:
    """A service that takes `most` polls in any second, refuses the others, and needs `takes` seconds for an answer.

    It works at `slots` polls at once and lets the others wait.
    """

    def __init__(self, most: float = inf, takes: float = 0.1, slots: int = 10**9) -> None:
        self.most = most
        self.takes = takes
        self.slots = anyio.Semaphore(slots)
        self.began = anyio.current_time()
        self.taken: deque[float] = deque()
        self.answers: list[tuple[float, float, bool]] = []
        """When each poll came and was answered, and whether it was refused."""

    @property
    def now(self) -> float:
        return anyio.current_time() - self.began

    async def poll(self, ends_at: str) -> RunSeen | LookFailed:
        """A run's id says when it ends."""
        came = self.now
        while self.taken and self.taken[0] <= came - 1:
            self.taken.popleft()
        is_refused = len(self.taken) >= self.most
        if not is_refused:
            self.taken.append(came)
        async with self.slots:
            await anyio.sleep(self.takes)
        self.answers.append((came, self.now, is_refused))
        if is_refused:
            return LookFailed("too many", 429, again=True, signal=Signal())
        return RunSeen(Run(ends_at, "success" if self.now >= float(ends_at) else "running"), NO_SIGNAL)

    async def follow(self, runs: int, seconds: float, limits: PollLimits = AUTO, lasting: float = inf) -> None:
        """Follow so many runs at once for so long; where one of them ends, another begins."""
        poller = Poller(self.poll, Schedule(limits), 3600.0, random.Random(1))

        async def follow_one_after_another() -> None:
            while True:
                await follow_to_its_end(poller, Run(str(self.now + lasting), "queued"), lambda _: None)

        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:
                group.start_soon(poller.drive)
                for _ in range(runs):
                    group.start_soon(follow_one_after_another)

    def polls_from(self, begin: float, end: float) -> float:
        """Polls a second in that time."""
        return sum(begin <= came < end for came, _, _ in self.answers) / (end - begin)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


pytestmark = pytest.mark.anyio


@pytest.mark.long
async def test_it_begins_gently_and_soon_suffices() -> None:
    """500 runs at once: 20 polls in the first second and not many more, 200 a second from the fifth on, never more."""
    service = LimitedPolls()
    await service.follow(500, 12)
    assert service.polls_from(0, 1) <= 60
    assert service.polls_from(5, 12) == pytest.approx(200, rel=0.02)
    times = sorted(came for came, _, _ in service.answers)
    assert all(later - first >= 0.98 for first, later in zip(times, times[200:], strict=False))


@pytest.mark.long
async def test_on_this_machine_there_is_no_end_to_it() -> None:
    """300 runs of which nothing is known but that they are long: as many polls as the floor of a second wants."""
    service = LimitedPolls(takes=0.001)
    await service.follow(300, 15, AUTO_NEAR)
    assert service.polls_from(12, 15) == pytest.approx(300, rel=0.1)


async def test_what_suffices_does_not_rise() -> None:
    """Ten long runs want fewer than ten polls a second, once they are known to be long."""
    service = LimitedPolls()
    await service.follow(10, 120)
    assert service.polls_from(20, 120) <= 10


@pytest.mark.long
@pytest.mark.parametrize("most", [5, 60])
async def test_it_finds_what_a_service_takes(most: int) -> None:
    """Of a service that refuses more than so many polls a second most of that is used, and little is refused."""
    service = LimitedPolls(most)
    await service.follow(200, 120, lasting=20.0)
    taken = [came for came, _, is_refused in service.answers if not is_refused and came > 30]
    refused = [came for came, _, is_refused in service.answers if is_refused and came > 30]
    assert len(taken) >= 0.75 * most * 90
    assert len(refused) <= 0.1 * len(taken)


@pytest.mark.long
async def test_a_service_that_slows_down_is_not_buried() -> None:
    """One that works at 10 polls at once, 0.2 s each: its queue stays short, and it is used well."""
    service = LimitedPolls(takes=0.2, slots=10)
    await service.follow(200, 120, lasting=20.0)
    waits = sorted(answered - came for came, answered, _ in service.answers if came > 30)
    assert waits[len(waits) * 9 // 10] < 1.0
    assert service.polls_from(30, 120) >= 0.7 * 50


async def test_polls_are_never_closer_than_a_number_says() -> None:
    """Whatever is answered, 20/s are 50 ms apart."""
    service = LimitedPolls(most=10)
    await service.follow(100, 30, TWENTY)
    times = sorted(came for came, _, _ in service.answers)
    assert all(after - before >= 0.05 - 1e-9 for before, after in pairwise(times))
