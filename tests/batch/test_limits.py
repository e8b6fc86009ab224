"""Concurrency and rate against services that refuse, in virtual time."""

from __future__ import annotations

import random
from itertools import pairwise

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from limited_service import Batch, Service

from batch_runner.batch.limits import MOST_FILES, Limits, limit_by_files, open_files
from batch_runner.service.http.classify import is_for_concurrency
from batch_runner.service.protocol import Signal
from batch_runner.units import Rate

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.mark.parametrize("pause", [None, 5.0, 60.0])
@pytest.mark.parametrize("why", ["too many concurrent runs", ""])
async def test_eight_slots_and_a_concurrency_of_64(pause: float | None, why: str) -> None:
    """At least 90 % of what 8 slots can do, under 5 % of the starts refused, and 8 is what it settles on."""
    service, limits = Service(slots=lambda _: 8), Limits(64)
    service.pause, service.why = pause, why
    took = await Batch(limits, service).run(500)
    assert service.work / 8 / took >= 0.9
    assert service.refused / len(service.tries) < 0.05
    assert limits.settled == 8


@pytest.mark.parametrize("seed", range(10))
async def test_ends_that_are_noticed_late_do_not_mislead(seed: int) -> None:
    """A start gets the place of a run whose end isn't noticed yet: that is no ninth slot, and its refusal no sixth.

    Of 160 runs few starts are refused, and the slots are used but for the time in which ends go unnoticed.
    """
    chance = random.Random(seed)
    service, limits = Service(slots=lambda _: 8), Limits(64)
    took = await Batch(limits, service, notices=lambda: chance.uniform(0, 6)).run(160)
    assert service.refused / len(service.tries) <= 0.055
    assert service.work / 8 / took >= 0.9


@pytest.mark.long
async def test_what_was_refused_is_asked_for_ever_more_rarely() -> None:
    """Over 3,000 rows at 8 slots under 1 % of the starts are refused."""
    service, limits = Service(slots=lambda _: 8), Limits(64)
    await Batch(limits, service).run(3000)
    assert service.refused / len(service.tries) < 0.01


@pytest.mark.long
async def test_long_pauses_are_not_asked_for() -> None:
    """Runs of 5 s, and a pause of a minute for each start too many: still 90 % of what 8 slots can do."""
    service, limits = Service(median=5, slots=lambda _: 8), Limits(64)
    service.pause = 60
    took = await Batch(limits, service).run(3000)
    assert service.work / 8 / took >= 0.9


@pytest.mark.long
async def test_a_service_that_carries_more_again_is_filled_again() -> None:
    """8 slots for half an hour, then 64: within ten minutes nearly all are used."""
    service, limits = Service(slots=lambda now: 8 if now < 1800 else 64), Limits(64)
    with anyio.move_on_after(1800 + 600):
        await Batch(limits, service).run(5000)
    assert service.in_flight >= 60
    assert service.refused / len(service.tries) < 0.05


@pytest.mark.long
async def test_a_service_that_carries_less_is_not_pressed() -> None:
    """64 slots, then 8: the runs end, few starts are refused, and 8 stay filled."""
    service, limits = Service(slots=lambda now: 64 if now < 600 else 8), Limits(64)
    with anyio.move_on_after(3600):
        await Batch(limits, service).run(5000)
    assert service.refused / len(service.tries) < 0.05
    assert service.in_flight >= 7


@pytest.mark.parametrize("why", ["too many concurrent runs", ""])
async def test_a_refusal_with_nothing_in_flight_does_not_narrow(why: str) -> None:
    """What the service carries can't be learnt from a start that it refused while none of our runs was going on."""
    limits = Limits(20)
    async with limits.slot() as slot:
        await slot.turn()
        slot.refused(429, why, Signal(retry_after=40))
    assert limits.settled is None
    service = Service(median=60)
    await Batch(limits, service).run(200)
    assert service.now < 40 + 200 / 20 * 60 * 1.5


async def test_without_refusals_all_slots_are_used() -> None:
    """A service that takes everything gets the whole concurrency, within seconds."""
    service, limits = Service(), Limits(500)
    with anyio.move_on_after(5):
        await Batch(limits, service).run(1000)
    assert service.in_flight > 480
    assert limits.settled is None


async def test_long_answers_do_not_narrow_the_batch() -> None:
    """Where a start is answered when its run has ended (sync), all slots are used after a few seconds."""
    limits, out = Limits(20), 0

    async def row() -> None:
        nonlocal out
        async with limits.slot() as slot:
            await slot.turn()
            out += 1
            await anyio.sleep(600)
            slot.accepted()

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(row)
        await anyio.sleep(15)
        assert out == 20


@pytest.mark.parametrize("rate", [Rate(5, 60.0), Rate(20, 1.0), Rate(1, 1.0)])
async def test_a_rate_holds_in_every_window(rate: Rate) -> None:
    """No window of the rate's length, wherever it begins, has more starts; and no time is given away."""
    service, limits, rows = Service(median=5), Limits(1000, rate), 10 * rate.count
    await Batch(limits, service).run(rows)
    starts = service.tries
    assert all(last - first >= rate.per - 1e-9 for first, last in zip(starts, starts[rate.count :], strict=False))
    assert starts[-1] <= 9 * rate.per + 3


@pytest.mark.parametrize("tells", [True, False])
async def test_a_quota_is_waited_for(tells: bool) -> None:
    """5 starts a minute: told by the first refusals, it is kept from then on; untold, trying costs about one each."""
    service, limits = Service(median=30), Limits(25)
    service.quota, service.tells = 5, tells
    took = await Batch(limits, service).run(100)
    assert took <= 100 / 5 * 60 * 1.1
    assert service.refused <= (8 if tells else 120)
    assert limits.settled is None


async def test_a_quota_that_is_always_told_is_never_run_into() -> None:
    """Where every answer tells what is left, no start is refused, and none comes later than it must."""
    service, limits = Service(median=30), Limits(25)
    service.quota, service.tells_always = 5, True
    took = await Batch(limits, service).run(100)
    assert service.refused == 0
    assert took <= 100 / 5 * 60 * 1.1


async def test_a_window_with_nothing_left_is_waited_for() -> None:
    """`remaining` 0 in the answer to a start that was accepted holds the next one until the reset."""
    limits = Limits(10)
    async with limits.slot() as first, limits.slot() as second:
        await first.turn()
        first.accepted(Signal(remaining=0, reset=42.0))
        begin = anyio.current_time()
        await second.turn()
        assert anyio.current_time() - begin == pytest.approx(42)


@pytest.mark.parametrize(("status_code", "pause"), [(429, 30.0), (503, 90.0)])
async def test_a_pause_holds_all_starts(status_code: int, pause: float) -> None:
    """What one worker is told holds for all; after it one goes first, and the rest when that was accepted."""
    limits, starts = Limits(10), list[float]()
    async with limits.slot() as slot, anyio.create_task_group() as group:
        await slot.turn()
        slot.refused(status_code, "", Signal(retry_after=pause, remaining=0, reset=pause))
        begin = anyio.current_time()

        async def row() -> None:
            async with limits.slot() as other:
                await other.turn()
                starts.append(anyio.current_time() - begin)
                await anyio.sleep(0.1)
                other.accepted()

        for _ in range(9):
            group.start_soon(row)
    assert len(starts) == 9
    assert starts[0] == pytest.approx(pause)
    assert starts[1] >= pause + 0.1


async def test_a_run_of_another_night_takes_a_place() -> None:
    """Runs that are only followed count against what the service carries."""
    service, limits = Service(slots=lambda _: 8), Limits(20)
    service.in_flight = 6
    async with anyio.create_task_group() as group:

        async def old() -> None:
            async with limits.slot() as slot:
                slot.follows()
                await anyio.sleep(1e6)

        for _ in range(6):
            group.start_soon(old)
        await anyio.sleep(0)
        await Batch(limits, service).run(100)
        group.cancel_scope.cancel()
    assert limits.settled == 8


async def test_cancelled_waits_leave_no_trace() -> None:
    """A stop while waiting for a turn neither takes the turn nor blocks the line."""
    limits = Limits(3, Rate(1, 10.0))
    async with limits.slot() as first, limits.slot() as second, limits.slot() as third:
        await first.turn()
        first.accepted()
        with anyio.move_on_after(4):
            await second.turn()
            pytest.fail("the turn came too soon")
        begin = anyio.current_time()
        await third.turn()
        assert anyio.current_time() - begin == pytest.approx(6)


seconds = st.floats(0, 20)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.none() | st.integers(1, 5), st.lists(seconds, min_size=1, max_size=40), st.integers())
def test_never_more_than_allowed(concurrency: int, quota: int | None, cancels: list[float], seed: int) -> None:
    """Whatever is refused, lost or cancelled, slots held never exceed the concurrency, starts never the rate."""
    starts: list[float] = []
    most = 0

    async def main() -> None:
        limits, held, chance = Limits(concurrency, Rate(quota, 7.0) if quota else None), 0, random.Random(seed)

        async def row(patience: float) -> None:
            nonlocal held, most
            with anyio.move_on_after(patience):
                async with limits.slot() as slot:
                    held += 1
                    most = max(most, held)
                    try:
                        await slot.turn()
                        starts.append(anyio.current_time())
                        await anyio.sleep(chance.random())
                        if chance.random() < 0.3:
                            slot.refused(429, "", Signal(retry_after=chance.choice([None, 3.0])))
                            await slot.turn()
                            starts.append(anyio.current_time())
                        slot.accepted()
                        await anyio.sleep(chance.uniform(0, 10))
                    finally:
                        held -= 1

        async with anyio.create_task_group() as group:
            for patience in cancels:
                group.start_soon(row, patience)
        async with limits.slot() as slot:
            await slot.turn()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert most <= concurrency
    if quota:
        assert all(last - first >= 7.0 - 1e-9 for first, last in zip(starts, starts[quota:], strict=False))
    assert all(before <= after for before, after in pairwise(starts))


@pytest.mark.parametrize(
    ("why", "signal", "expected"),
    [
        ("Too many concurrent browsers", Signal(remaining=0, quota=5, window=60), True),
        ("5 runs already running", Signal(), True),
        ("Too many requests", Signal(retry_after=5), False),
        ("slow down: 5 per minute", Signal(), False),
        ("no", Signal(remaining=0, reset=5), False),
        ("no", Signal(remaining=3, reset=5), True),
        ("no", Signal(quota=5, window=60), False),
        ("no", Signal(retry_after=5), True),
    ],
)
def test_what_a_429_is_about(why: str, signal: Signal, expected: bool) -> None:
    """By its words, else by its numbers; one that tells nothing is about runs in flight."""
    assert is_for_concurrency(why, signal) is expected


def test_concurrency_under_the_limit_of_open_files() -> None:
    """Lowered with a sentence where there are too few open files, else left alone."""
    assert limit_by_files(1000, 4096) == (1000, None)
    assert limit_by_files(1000, None) == (1000, None)
    allowed, warning = limit_by_files(1000, 256)
    assert allowed == 192
    assert warning is not None
    assert "ulimit -n 1064" in warning
    assert limit_by_files(5, 10)[0] == 1


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [(256, 4096, 4096), (256, None, MOST_FILES), (4096, 4096, 4096), (100_000, -1, 100_000)],
)
def test_the_soft_limit_is_raised_as_far_as_the_system_lets_it(
    soft: int, hard: int | None, raised: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the hard one is endless, as in many containers."""
    resource = pytest.importorskip("resource")
    hard = resource.RLIM_INFINITY if hard is None else hard
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    assert open_files() == raised
    assert limits[-1] == (raised, hard)


def test_a_limit_that_is_said_to_be_endless_and_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the soft one stays, and no batch ends by it."""

    resource = pytest.importorskip("resource")

    def refuse(*_: object) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert open_files() == 256
