"""A service over HTTP, Anchor's or our own: starts, polls and stops its runs."""

from __future__ import annotations

import ipaddress
import time
from math import ceil
from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import quote
from uuid import uuid4

import anyio
import httpx
import msgspec

from batch_runner._version import __version__
from batch_runner.errors import UsageError
from batch_runner.log import Redactor
from batch_runner.outcomes import STATUSES
from batch_runner.service.http.classify import (
    FORBIDDEN,
    MISSING,
    REFUSING_US,
    advice_on_error,
    certainty_of_error,
    certainty_of_status,
    may_poll_again,
    scope_of_status,
)
from batch_runner.service.http.response import (
    TooLarge,
    fields_in,
    message_in,
    read_body,
    read_signal,
    run_in,
)
from batch_runner.service.protocol import (
    APPLIED_HEADER,
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    NO_CAPABILITIES,
    PREFER_HEADER,
    ROW_HEADER,
    Capabilities,
    LookFailed,
    Lost,
    RefusalScope,
    Refused,
    RunCertainty,
    RunSeen,
    Signal,
    Started,
    StartRequest,
    let_next_be_large,
    quoted,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from batch_runner.service.http.response import Body, Response
    from batch_runner.service.protocol import Run


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `read` is the wait for a poll's answer, `start_read` that for a start's.

    A start waits long: an answer given up on is a row that nobody knows the end of.
    """

    connect: float = 10.0
    write: float = 60.0
    read: float = 30.0
    start_read: float = 120.0


DEFAULT_TIMEOUTS = Timeouts()


class Request(msgspec.Struct, frozen=True):
    """One request, with all its headers.

    `connect`, `write` and `read` are seconds: for the connection, for its body, and for each wait for bytes.
    """

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    connect: float
    write: float
    read: float

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.url!r})"  # the key is in the headers


class Transport(Protocol):
    """What brings requests to a service. It raises the errors of httpx."""

    async def send(self, request: Request, /) -> Response:
        """Send it, a start exactly once; a body that hasn't come whole is still to be read."""

    async def aclose(self) -> None:
        """Close all connections."""


class Requests:
    """Makes the requests to one service. A `UsageError` says that its address or the key can't be used."""

    def __init__(self, base_url: str, api_key: str, timeouts: Timeouts) -> None:
        self.base = _base(base_url)
        self._timeouts = timeouts
        self._headers = _headers(self.base, api_key)

    def start(self, request: StartRequest) -> Request:
        """The POST that starts a run; a ValueError where the id can't stand in a path, or the key in a header."""
        body, row = msgspec.json.encode(request.run), request.row_number
        headers = [
            *self._headers,
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            *([] if request.key is None else [(IDEMPOTENCY_HEADER, quoted(request.key))]),
            *([] if row is None else [(ROW_HEADER, str(row))]),
        ]
        read = request.answer_within or self._timeouts.start_read
        return self._request("POST", f"/v2/tasks/{_segment(request.task_id)}/run", headers, body, read)

    def look(self, run_id: str, wait: float = 0.0) -> Request:
        """The GET that asks for a run; a ValueError where the id can't stand in a path."""
        path = f"/v2/tasks/runs/{_segment(run_id)}/status"
        prefer = [(PREFER_HEADER, f"wait={ceil(wait)}")] if wait else []
        return self._request("GET", path, [*self._headers, *prefer], b"", self._timeouts.read + wait)

    def stop(self, run_id: str) -> Request:
        """The DELETE that stops a run, as our own service knows it."""
        return self._request("DELETE", f"/v2/tasks/runs/{_segment(run_id)}", self._headers, b"", self._timeouts.read)

    def versions(self, task_id: str) -> Request:
        """The GET that asks for a task's versions."""
        return self._request("GET", f"/v2/tasks/{_segment(task_id)}/versions", self._headers, b"", self._timeouts.read)

    def health(self, seconds: float) -> Request:
        """The GET that asks what the service can do, given so long for each step of it."""
        return self._request("GET", "/healthz", self._headers, b"", seconds)

    def _request(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes, read: float) -> Request:
        limits = self._timeouts
        return Request(method, self.base + path, headers, body, limits.connect, limits.write, read)


def _segment(identifier: str) -> str:
    """An id as one segment of a path. `.` and `..` can't be one: they would be a way up (RFC 3986, section 5.2.4)."""
    if identifier in {"", ".", ".."} or len(identifier) > 1000:
        raise ValueError(f"{identifier[:50]!r} can't be an id")
    return quote(identifier, safe="", errors="surrogatepass")


def _base(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise UsageError(f"The service's address can't be read: {error}.") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise UsageError("The service's address must begin with http:// or https:// and name a host.")
    if url.userinfo or url.query or url.fragment:
        raise UsageError("The service's address may hold no user, password, query or fragment.")
    return str(url).rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address, without asking anybody: `a.localhost`, too (RFC 6761)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _headers(base: str, api_key: str) -> list[tuple[str, str]]:
    headers = [
        ("Host", httpx.URL(base).netloc.decode()),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", f"batch-runner/{__version__}"),
    ]
    if not api_key:
        return headers
    if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise UsageError("The API key holds a space, a line break or another character that a key can't have.")
    return [*headers, (KEY_HEADER, api_key)]


HEALTH_TIMEOUT = 5.0
"""Seconds that the question for a service's features may take in all; most services don't know it."""
MAX_REASON = 500
"""Characters of the service's own words in a `why`."""


class Probe(msgspec.Struct, frozen=True):
    """Whether something is right, None where the service didn't tell; and what it said otherwise."""

    is_right: bool | None
    why: str = ""
    status_code: int | None = None


class _Answer(msgspec.Struct, frozen=True):
    status: int
    signal: Signal
    body: Body
    waited: bool
    location: str = ""
    """Where else a redirect shows to."""


class Client:
    """Starts and polls runs of one service; used as an async context manager, which closes the transport.

    See `protocol.Service`. An empty `api_key` sends none. A `UsageError` says that the base URL or the key can't be
    used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        transport: Transport,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self._tells_ends = False
        self._memories: set[str | None] = set()
        self._requests = Requests(base_url, api_key, timeouts)
        self._redactor = Redactor(api_key)
        self._transport = transport

    def __repr__(self) -> str:
        return f"Client({self._requests.base!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def capabilities(self) -> Capabilities:
        """Ask the service once what it can do beyond the API. Whatever goes wrong says: nothing."""
        found = NO_CAPABILITIES
        with anyio.move_on_after(HEALTH_TIMEOUT):
            try:
                answer = await self._ask(self._requests.health(HEALTH_TIMEOUT))
            except Exception:  # noqa: BLE001  it is a question on the side: the first start will tell what is wrong
                return found
            # A service that is just stopping (503) will be there again, and be the same.
            found = Capabilities.read_from(answer.body.data) if answer.status in (200, 503) else found
            self._tells_ends = found.tells_ends
        if len(self._memories) > 1:
            found = msgspec.structs.replace(found, memory=None, idempotency_seconds=None, several=True)
        return found

    async def probe_key(self) -> Probe:
        """Whether the service takes the key: asked by a look at a run that nobody has started."""
        said = await self.look(f"probe-{uuid4().hex}")
        if isinstance(said, RunSeen) or said.status_code in (400, MISSING, 410, 422):
            return Probe(True)
        is_refused = said.status_code is None or said.status_code in REFUSING_US or said.status_code == FORBIDDEN
        return Probe(False if is_refused else None, said.why, said.status_code)

    async def probe_task(self, task_id: str) -> Probe:
        """Whether the service has a task: asked by its versions, which not every service tells."""
        try:
            answer = await self._ask(self._requests.versions(task_id))
        except Exception as error:  # noqa: BLE001  as with a poll
            return Probe(False, self._words(f"no answer: {_describe(error)}"))
        said = self._said(answer)
        is_refused = answer.status in (FORBIDDEN, MISSING) and scope_of_status(answer.status, said) is RefusalScope.TASK
        return Probe(True if _is_2xx(answer) else False if is_refused else None, said, answer.status)

    async def start(self, request: StartRequest) -> Started | Refused | Lost:
        """Send one start, once. Give a key and the row's number where the service may know them."""
        try:
            post = self._requests.start(request)
        except ValueError as error:
            return Refused(self._words(f"the start can't be sent: {error}"), None, RefusalScope.ROW)
        try:
            answer = await self._ask(post)
        except Exception as error:  # noqa: BLE001  what the table doesn't know may have started a run
            return self._unanswered(error)
        _keep(told := self._started(answer))
        return told

    async def look(self, run_id: str, wait: float = 0.0) -> RunSeen | LookFailed:
        """Ask once how a run is. It waits only where the service has said that it tells ends (RFC 7240, `wait`)."""
        wait = wait if self._tells_ends else 0.0
        return await self._look_at(run_id, lambda: self._requests.look(run_id, wait))

    async def stop(self, run_id: str) -> RunSeen | LookFailed:
        """Stop a run, where that can be done; the Tasks API knows no way to."""
        if not (await self.capabilities()).stops:
            return LookFailed("this service can't stop a run", None, again=False)
        return await self._look_at(run_id, lambda: self._requests.stop(run_id))

    async def _look_at(self, run_id: str, ask: Callable[[], Request]) -> RunSeen | LookFailed:
        try:
            request = ask()
        except ValueError as error:
            return LookFailed(self._words(f"the run can't be asked for: {error}"), None, again=False)
        try:
            answer = await self._ask(request)
        except Exception as error:  # noqa: BLE001  a poll may be repeated whatever its end
            advice = advice_on_error(error)
            why = f"no answer to a poll: {_describe(error)}" + (f"; {advice}" if advice else "")
            return LookFailed(self._words(why), None, again=advice is None)
        _keep(told := self._seen(answer, run_id))
        return told

    def _unanswered(self, error: Exception) -> Refused | Lost:
        if certainty_of_error(error) is RunCertainty.NO_RUN:
            why = self._words(f"no connection was made: {_describe(error)}")
            if (advice := advice_on_error(error)) is not None:
                return Refused(f"{why}; {advice}", None, RefusalScope.TASK)
            return Refused(why, None, RefusalScope.LATER)
        return Lost(self._words(f"the start was sent and its answer lost, a run may exist: {_describe(error)}"))

    def _started(self, answer: _Answer) -> Started | Refused | Lost:
        """What a start came to. A body that names a run is a run, whatever the status code says."""
        run = self._run_in(answer)
        if run is not None and (run.has_ended or self._redactor.redact_text(run.run_id) == run.run_id):
            told = run.status if _is_2xx(answer) or run.status in STATUSES else ""
            return Started(self._without_key(msgspec.structs.replace(run, status=told or "queued")), answer.signal)
        if run is not None:
            return Lost("a run may exist: the service told the API key as its run's id, so it can't be asked for")
        if certainty_of_status(answer.status, answer.signal) is RunCertainty.NO_RUN:
            said = self._said(answer)
            return Refused(said, answer.status, scope_of_status(answer.status, said), answer.signal)
        return Lost(f"a run may exist: {self._said(answer)}")

    def _seen(self, answer: _Answer, run_id: str) -> RunSeen | LookFailed:
        run = self._run_in(answer)
        if run is None or not (run.status if _is_2xx(answer) else run.status in STATUSES):
            again = not isinstance(answer.body.cut, TooLarge) and may_poll_again(answer.status)
            return LookFailed(self._said(answer), answer.status, again, answer.signal)
        if run.run_id != run_id:
            why = self._words(f"the service told of another run, {run.run_id}, when asked for {run_id}")
            return LookFailed(why, answer.status, again=True, signal=answer.signal)
        return RunSeen(self._without_key(run), answer.signal, answer.waited)

    def _run_in(self, answer: _Answer) -> Run | None:
        """The run that an answer tells."""
        run = run_in(answer.body.data)
        if run is None or not (run.never_began or run.cut_off):
            return run
        return msgspec.structs.replace(
            run,
            never_began=run.never_began and _is_sure_of(run, answer.signal),
            cut_off=run.cut_off and _is_sure_of(run, answer.signal),
        )

    def _without_key(self, run: Run) -> Run:
        """The run with no key in any of its texts, though the service may send it back."""
        redact, result = self._redactor.redact_text, run.result
        if self._redactor.is_in(memoryview(result)):
            result = msgspec.Raw(self._redactor.redact_json(bytes(result)))
        return msgspec.structs.replace(
            run,
            run_id=redact(run.run_id),
            status=redact(run.status),
            result=result,
            error=run.error and redact(run.error),
            session_id=run.session_id and redact(run.session_id),
        )

    def _said(self, answer: _Answer) -> str:
        """What an answer that is no run's says, as one sentence."""
        if answer.body.cut:
            return self._words(f"the service said {answer.status}, and no more: {_describe(answer.body.cut)}")
        told = "" if answer.status >= 300 else " and told no run"
        told = f" and shows to {answer.location}" if answer.location else told
        return self._words(f"the service said {answer.status}{told}: {message_in(answer.body.data[:65536])}")

    def _words(self, text: str) -> str:
        """One line, not endless, and never with the key in it, which a service may well send back."""
        line = self._redactor.redact_words(" ".join(text.split()).rstrip(": "))
        return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON]}…"

    def _trusted(self, signal: Signal, status: int) -> Signal:
        """What an answer tells; and that several services stand there, once another memory has answered, too.

        A gateway's own refusal has no memory, so that only an answer without one that is no error says something.
        """
        if signal.memory is not None or 200 <= status < 300:
            self._memories.add(signal.memory)
        if len(self._memories) < 2:
            return signal
        return msgspec.structs.replace(signal, several=True)

    async def _ask(self, request: Request) -> _Answer:
        """Send a request and read its answer. What is raised here is raised before the answer's status is known."""
        response = await self._transport.send(request)
        fields = fields_in(response.headers)
        signal = self._trusted(read_signal(fields, time.time()), response.status)
        waited = fields.get(APPLIED_HEADER, "").strip().startswith("wait=")
        location = fields.get("location", "") if 300 <= response.status < 400 else ""
        body = await read_body(response.body, fields.get("content-encoding", ""))
        return _Answer(response.status, signal, body, waited, location)


def _is_2xx(answer: _Answer) -> bool:
    return 200 <= answer.status < 300


def _is_sure_of(run: Run, signal: Signal) -> bool:
    """Whether a service of ours says of a run what only it can say, and says nothing else that tells otherwise."""
    return signal.memory is not None and run.status in ("failure", "cancelled") and not bytes(run.result)


def _describe(error: Exception) -> str:
    return f"{error} ({type(error).__name__})" if str(error) else type(error).__name__


def _keep(told: Started | Refused | Lost | RunSeen | LookFailed) -> None:
    """Only of a run that has ended is there something large to be kept."""
    if not (isinstance(told, Started | RunSeen) and told.run.has_ended):
        let_next_be_large()
