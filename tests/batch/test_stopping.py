"""When a batch stops starting runs: limits, the same error again and again, a deadline, an interrupt."""

from __future__ import annotations

import anyio
import pytest
import trio
import trio.testing

from batch_runner.batch.stop import SAME_ERRORS, Stop, Stopping
from batch_runner.errors import ExitCode
from batch_runner.units import FailureLimit

DEADLINE = Stop("the deadline was reached; the same command goes on with the rest", ExitCode.STOPPED)
REFUSED = Stop("the key was refused", ExitCode.STOPPED)
CTRL_C = Stop("interrupted", ExitCode.INTERRUPTED)
SIGTERM = Stop("terminated", ExitCode.TERMINATED)


def stopping(limit: str | None = None, rows: int = 100) -> Stopping:
    return Stopping(None if limit is None else FailureLimit.parse(limit), rows, None)


def fail(stop: Stopping, times: int, error: str = "no", *, started: bool = True) -> None:
    for _ in range(times):
        stop.row_ended("failure" if started else "error", error, started=started)


def test_nothing_stops_a_batch_by_itself() -> None:
    """Without a limit any number of runs may fail: that is data."""
    plain = stopping()
    fail(plain, 1000)
    assert plain.stop is None
    assert not plain.is_stopped()
    assert not plain.has_deadline


@pytest.mark.parametrize(("limit", "enough"), [("1", 1), ("20", 20), ("5%", 5), ("0.5%", 1), ("100%", 100)])
def test_the_failure_limit(limit: str, enough: int) -> None:
    """So many rows, or so many of a hundred rows of the batch, and nothing more is started; successes don't count."""
    some = stopping(limit)
    fail(some, enough - 1)
    for _ in range(50):
        some.row_ended("success", "", started=True)
    assert not some.is_stopped()
    fail(some, 1)
    rows = "1 row" if enough == 1 else f"{enough} rows"
    assert some.stop == Stop(f"{rows} did not succeed: the failure limit is reached", ExitCode.STOPPED)


def test_every_way_not_to_succeed_counts() -> None:
    """A timeout, a refusal, a lost answer: each row that did not succeed counts towards the limit."""
    some = stopping("4")
    for status in ("timeout", "cancelled", "error", "unknown"):
        assert not some.is_stopped()
        some.row_ended(status, "no", started=status in ("timeout", "cancelled"))
    assert some.is_stopped()


def test_the_same_error_again_and_again_stops() -> None:
    """Ten starts in a row that end with the same words: the eleventh would, too."""
    alike = stopping()
    fail(alike, SAME_ERRORS - 1, "bad param", started=False)
    assert not alike.is_stopped()
    fail(alike, 1, "bad param", started=False)
    assert alike.stop is not None
    assert alike.stop.exit_code is ExitCode.STOPPED
    assert "bad param" in alike.stop.why


@pytest.mark.parametrize(("status", "error", "started"), [
    ("success", "", True), ("failure", "no", True), ("error", "another error", False),
])  # fmt: skip
def test_anything_else_in_between_begins_the_count_anew(status: str, error: str, started: bool) -> None:
    """A run that was started, or another error, shows that not every start ends alike."""
    mixed = stopping()
    fail(mixed, SAME_ERRORS - 1, "bad param", started=False)
    mixed.row_ended(status, error, started=started)
    fail(mixed, SAME_ERRORS - 1, "bad param", started=False)
    assert not mixed.is_stopped()


def test_who_set_a_limit_gets_that_limit() -> None:
    """A person who said how many failures are too many is taken at their word."""
    limited = stopping("50")
    fail(limited, 49, "bad param", started=False)
    assert not limited.is_stopped()
    fail(limited, 1, "bad param", started=False)
    assert limited.is_stopped()


def test_the_first_reason_stands() -> None:
    """What comes after the first reason is its consequence."""
    first = stopping()
    first.now(REFUSED)
    first.now(DEADLINE)
    assert first.stop == REFUSED


def test_an_interrupt_beats_any_other_reason() -> None:
    """130 and 143 come before 5, whichever was first."""
    before, after = stopping(), stopping()
    before.now(CTRL_C)
    before.now(REFUSED)
    after.now(REFUSED)
    assert not after.is_interrupted
    after.now(SIGTERM)
    assert (before.stop, after.stop) == (CTRL_C, SIGTERM)
    assert before.is_interrupted
    assert after.is_interrupted


def test_the_deadline_is_looked_at() -> None:
    """Asking whether it is over looks at the clock; a reason that was there before stands."""
    late = False
    timed = Stopping(None, 1, lambda: late)
    assert timed.has_deadline
    assert not timed.is_stopped()
    late = True
    assert timed.is_stopped()
    assert timed.stop == DEADLINE
    refused = Stopping(None, 1, lambda: True)
    refused.now(REFUSED)
    assert refused.is_stopped()
    assert refused.stop == REFUSED


async def waited(stop: Stopping, seconds: float) -> float:
    """How long a wait before a start takes."""
    began = anyio.current_time()
    with stop.cut_short():
        await anyio.sleep(seconds)
    return anyio.current_time() - began


def test_a_stop_cuts_waits_short() -> None:
    """Who waits for a turn hears of the stop in that instant, everyone of them, and nobody waits after it."""

    async def scene() -> None:
        one = stopping()
        waits: list[float] = []

        async def wait() -> None:
            waits.append(await waited(one, 3600))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.sleep(5)
            one.now(REFUSED)
        assert waits == [5, 5, 5]
        assert await waited(one, 3600) == 0

    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))


def test_without_a_stop_a_wait_is_whole() -> None:
    """A wait that isn't cut short ends by itself, and what comes after it runs."""

    async def scene() -> None:
        one = stopping()
        assert await waited(one, 3600) == 3600
        one.now(REFUSED)

    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_wait_cut_short_hides_no_error() -> None:
    """Only the wait is ended by a stop: an error in it comes through."""

    async def scene() -> None:
        with pytest.raises(ZeroDivisionError), stopping().cut_short():
            raise ZeroDivisionError

    trio.run(scene)


def test_the_interrupt_is_heard_by_who_waits_for_it() -> None:
    """Whoever gives runs in flight their last seconds wakes on an interrupt, and on nothing else."""

    async def scene() -> None:
        one = stopping()
        async with anyio.create_task_group() as group:
            heard: list[float] = []

            async def listen() -> None:
                await one.interrupted()
                heard.append(anyio.current_time())

            began = anyio.current_time()
            group.start_soon(listen)
            one.now(REFUSED)
            await anyio.sleep(7)
            assert heard == []
            one.now(CTRL_C)
        assert heard == [began + 7]

    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))
