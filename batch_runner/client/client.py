"""One start, one poll. Says of each failure whether a run can exist.

The client speaks the Tasks API over any httpx transport: `AiohttpTransport` for a service on the network,
`httpx.ASGITransport` for the embedded one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

import anyio
import msgspec

from batch_runner.client.answer import message_in, run_in
from batch_runner.client.body import TooLarge, read_body
from batch_runner.client.fate import Fate, Reach, fate_of_error, fate_of_status, may_poll_again, reach_of_status
from batch_runner.client.features import NO_FEATURES, Features
from batch_runner.client.request import DEFAULT_TIMEOUTS, Requests, Timeouts
from batch_runner.client.signals import NO_SIGNAL, Signal, read_signal
from batch_runner.client.veil import Veil

if TYPE_CHECKING:
    from types import TracebackType

    import httpx

    from batch_runner.api import Run, RunRequest
    from batch_runner.client.body import Body

FEATURES_TIMEOUT = 5.0
"""Seconds that the question for a service's features may take in all; most services don't know it."""
MAX_REASON = 500
"""Characters of the service's own words in a `why`."""


class Started(msgspec.Struct, frozen=True):
    """The service has started a run (or, with `sync`, ended one)."""

    run: Run
    signal: Signal


class Refused(msgspec.Struct, frozen=True):
    """It is certain that no run was started. `status_code` is None where no answer came."""

    why: str
    status_code: int | None
    reach: Reach
    signal: Signal


class Lost(msgspec.Struct, frozen=True):
    """A run may exist, and its id is not known."""

    why: str


class Seen(msgspec.Struct, frozen=True):
    """A run as it is now."""

    run: Run
    signal: Signal


class Trouble(msgspec.Struct, frozen=True):
    """A poll that told nothing; `again` says whether another may tell more. How often is the caller's budget."""

    why: str
    status_code: int | None
    again: bool
    signal: Signal


class _Answer(msgspec.Struct, frozen=True):
    status: int
    signal: Signal
    body: Body


class Client:
    """Starts and polls runs of one service; used as an async context manager, which closes the transport.

    No failure of the network or the service is raised: it is what `start` and `poll` return. An empty `api_key` sends
    none. `is_embedded`: it is our own, in this process. A `UsageError` says that the base URL or the key can't be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        transport: httpx.AsyncBaseTransport,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        *,
        is_embedded: bool = False,
    ) -> None:
        self._is_embedded = is_embedded
        self._requests = Requests(base_url, api_key, timeouts)
        self._veil = Veil(api_key)
        self._transport = transport

    def __repr__(self) -> str:
        return f"Client({self._requests.base!r})"

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def features(self) -> Features:
        """Ask the service once what it can do beyond the API. Whatever goes wrong says: nothing."""
        with anyio.move_on_after(FEATURES_TIMEOUT):
            try:
                answer = await self._ask(self._requests.health(FEATURES_TIMEOUT))
            except Exception:  # noqa: BLE001  it is a question on the side: the first start will tell what is wrong
                return NO_FEATURES
            # A service that is just stopping (503) will be there again, and be the same.
            return Features.said_in(answer.body.data) if answer.status in (200, 503) else NO_FEATURES
        return NO_FEATURES

    async def start(
        self,
        task_id: str,
        request: RunRequest,
        *,
        read_timeout: float | None = None,
        idempotency_key: str | None = None,
        row: int | None = None,
    ) -> Started | Refused | Lost:
        """Send one start, once. With `sync` give a `read_timeout` of the longest run and a margin, in seconds.

        Give an `idempotency_key` and the `row`'s number where the service says (`features`) that it knows them.
        """
        try:
            post = self._requests.start(
                task_id, msgspec.json.encode(request), read_timeout, idempotency_key=idempotency_key, row=row
            )
        except ValueError as error:
            return Refused(self._words(f"the start can't be sent: {error}"), None, Reach.ROW, NO_SIGNAL)
        try:
            answer = await self._ask(post)
        except Exception as error:  # noqa: BLE001  what the table doesn't know may have started a run
            return self._unanswered(error)
        return self._started(answer)

    async def poll(self, run_id: str) -> Seen | Trouble:
        """Ask once how a run is."""
        try:
            get = self._requests.poll(run_id)
        except ValueError as error:
            return Trouble(self._words(f"the run can't be asked for: {error}"), None, again=False, signal=NO_SIGNAL)
        try:
            answer = await self._ask(get)
        except Exception as error:  # noqa: BLE001  a poll may be repeated whatever its end
            return Trouble(self._words(f"no answer to a poll: {_named(error)}"), None, again=True, signal=NO_SIGNAL)
        return self._seen(answer, run_id)

    def _unanswered(self, error: Exception) -> Refused | Lost:
        if fate_of_error(error) is Fate.NO_RUN:
            return Refused(self._words(f"no connection was made: {_named(error)}"), None, Reach.AGAIN, NO_SIGNAL)
        return Lost(self._words(f"the start was sent and its answer lost, a run may exist: {_named(error)}"))

    def _started(self, answer: _Answer) -> Started | Refused | Lost:
        fate = fate_of_status(answer.status, answer.signal)
        if fate is Fate.NO_RUN:
            return Refused(self._said(answer), answer.status, reach_of_status(answer.status), answer.signal)
        run = self._run_in(answer) if fate is Fate.RUN else None
        if run is None:
            return Lost(f"a run may exist: {self._said(answer)}")
        return Started(run if run.status else msgspec.structs.replace(run, status="queued"), answer.signal)

    def _seen(self, answer: _Answer, run_id: str) -> Seen | Trouble:
        run = self._run_in(answer) if 200 <= answer.status < 300 else None
        if run is None or not run.status:
            again = not isinstance(answer.body.cut, TooLarge) and may_poll_again(answer.status)
            return Trouble(self._said(answer), answer.status, again, answer.signal)
        if run.run_id != run_id:
            why = self._words(f"the service told of another run, {run.run_id}, when asked for {run_id}")
            return Trouble(why, answer.status, again=True, signal=answer.signal)
        return Seen(run, answer.signal)

    def _run_in(self, answer: _Answer) -> Run | None:
        """The run that an answer tells, with no key in its result and error, though the service may send it back."""
        run = run_in(answer.body.data)
        if run is None:
            return None
        return msgspec.structs.replace(
            run,
            status=self._veil.over_text(run.status),
            result=msgspec.Raw(self._veil.over_json(bytes(run.result))),
            error=run.error and self._veil.over_text(run.error),
            never_began=run.never_began and self._is_sure_of(run, answer.signal),
        )

    def _is_sure_of(self, run: Run, signal: Signal) -> bool:
        """Whether a service of ours says of a run that it never began, and says nothing else that tells otherwise."""
        is_ours = self._is_embedded or signal.memory is not None
        return is_ours and run.status in ("failure", "cancelled") and not bytes(run.result)

    def _said(self, answer: _Answer) -> str:
        """What an answer that is no run's says, as one sentence."""
        if answer.body.cut:
            return self._words(f"the service said {answer.status}, and no more: {_named(answer.body.cut)}")
        told = "" if answer.status >= 300 else " and told no run"
        return self._words(f"the service said {answer.status}{told}: {message_in(answer.body.data[:65536])}")

    def _words(self, text: str) -> str:
        """One line, not endless, and never with the key in it, which a service may well send back."""
        line = self._veil.over_words(" ".join(text.split()).rstrip(": "))
        return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}…"

    async def _ask(self, request: httpx.Request) -> _Answer:
        """Send a request and read its answer. What is raised here is raised before the answer's status is known."""
        response = await self._transport.handle_async_request(request)
        signal = read_signal(response.headers.raw, time.time())
        return _Answer(response.status_code, signal, await read_body(response))


def _named(error: Exception) -> str:
    return f"{error} ({type(error).__name__})" if str(error) else type(error).__name__
