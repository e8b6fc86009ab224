"""Where a task runs: one seam, `Executor`, and the executor for async functions.

To run is one awaitable that gives the run's ending; to cancel it is to cancel that awaitable. A limit counts from the
moment that the task begins: neither waiting for a turn nor starting a worker is part of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import anyio

from batch_runner.service import endings

if TYPE_CHECKING:
    from batch_runner.service.endings import Ending
    from batch_runner.service.tasks import Call

ASYNC_RUNS = 1_000
"""How many async functions run at once: they wait more than they work, so the number of cores says nothing here."""


class Executor(Protocol):
    """Runs calls, in as many places as fit at once. Whoever runs a call holds one of the places meanwhile.

    `places` may grow and shrink while runs go on, where workers come and go.
    """

    places: anyio.CapacityLimiter

    @property
    def trouble(self) -> str | None:
        """Why no call can be run just now, a sentence; None while all is well."""

    async def open(self) -> None:
        """Make ready for calls. Raises UsageError, a sentence, if that is impossible."""

    async def run(self, call: Call) -> Ending:
        """The ending of one call. It never raises for what the task does; cancelled, it leaves nothing running."""

    def wind_down(self) -> None:
        """Begin nothing more, as far as that is in its hands: such calls end as never begun. Those at work go on."""

    async def aclose(self) -> None:
        """End what is left, at once."""


class InLoop:
    """Runs async functions in the event loop that is there: no thread, no process."""

    trouble: str | None = None

    def __init__(self, fits: int = ASYNC_RUNS) -> None:
        self.places = anyio.CapacityLimiter(fits)

    async def open(self) -> None:
        """See Executor: the loop is there."""

    async def run(self, call: Call) -> Ending:
        """See Executor. A function that swallows its cancellation can't be stopped: it shares this process."""
        with anyio.move_on_after(call.limit) as time:
            try:
                return endings.success(await call.bind(call.source.load())())
            except GeneratorExit:
                raise  # the event loop is gone
            except BaseException as error:  # noqa: BLE001  what a user's function raises is its run's ending
                if cancellation := _cancellation_in(error):
                    raise cancellation from None
                return endings.raised(error)
        assert time.cancelled_caught
        return endings.timed_out(call.limit)

    def wind_down(self) -> None:
        """See Executor: a call that has its place has begun."""

    async def aclose(self) -> None:
        """See Executor: every run has ended with its awaitable."""


def _cancellation_in(error: BaseException) -> BaseException | None:
    """What of it is the cancellation that this run was asked for; None where nobody asked, so the task raised it."""
    if anyio.current_effective_deadline() != -math.inf:
        return None
    kind = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):  # of a task group of the user's: what else is in it came too late
        return error.subgroup(kind)
    return error if isinstance(error, kind) else None
