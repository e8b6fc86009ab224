"""The routes of the Tasks API v2: JSON in, JSON out, every refusal an ErrorResponse.

What the contract leaves open, as decided here:
- `version` may be absent, `latest` or `1`; a task that runs here has no other, so any other is a 404.
- A `session_id` that is not known yet begins a session of that name: this service has no other way to make one, and
  all that a session is here is the order of its runs, one after another. So `cleanup_sessions` changes nothing.
- `identity_id` is handed to the task; nothing here could check it, so `identity_skip_validation` changes nothing.

What it has beyond the contract, and says so in `GET /healthz`: a start may carry an Idempotency-Key, and the number of
its row for the task.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from batch_runner._version import __version__
from batch_runner.service.local.request import asked_by
from batch_runner.service.local.runs import KeyReused, NotStarted, QueueFull, Stopping, Trouble
from batch_runner.service.local.store import NotRecorded
from batch_runner.service.wire import (
    IDEMPOTENCY_FEATURE,
    KEY_HEADER,
    MEMORY_HEADER,
    ROW_FEATURE,
    ErrorDetail,
    ErrorResponse,
    Health,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from batch_runner.service.local.request import Asked
    from batch_runner.service.local.runs import Runs
    from batch_runner.service.local.store import Store
    from batch_runner.service.local.tasks import Task, Tasks
    from batch_runner.service.wire import Run


def json_answer(status_code: int, value: msgspec.Struct) -> Response:
    """A struct as JSON."""
    return Response(msgspec.json.encode(value), status_code, media_type="application/json")


def error_answer(status_code: int, sentence: str) -> Response:
    """An ErrorResponse; its code is the HTTP status."""
    return json_answer(status_code, ErrorResponse(ErrorDetail(status_code, sentence)))


HEALTH = "/healthz"
"""The one path that needs no key: whoever watches over the service needn't be one who may use it."""

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this very machine, whoever is asked."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class KeyDoor:
    """Lets nothing through that doesn't carry the key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        given = _header(scope, KEY_HEADER)
        if scope["type"] != "http" or scope["path"] == HEALTH or hmac.compare_digest(given, self._key):
            await self._app(scope, receive, send)
        else:
            how = "is wrong" if given else "is missing"
            await error_answer(401, f"The API key in the header {KEY_HEADER} {how}.")(scope, receive, send)


class LoopbackDoor:
    """Refuses a request that was made for another machine's name.

    A page in a browser could otherwise reach this port under a name of its own that resolves to 127.0.0.1. A service
    that listens for other machines has no such door: it can't know all its names, and asks for a key that no page has.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        host = _HOST.fullmatch(_header(scope, "host").decode("latin-1"))
        if scope["type"] != "http" or (host and is_loopback(host[1])):
            await self._app(scope, receive, send)
        else:
            answer = error_answer(400, "This service answers to this machine only, as localhost or 127.0.0.1.")
            await answer(scope, receive, send)


def _header(scope: Scope, name: str) -> bytes:
    value: bytes = dict(scope.get("headers", ())).get(name.encode(), b"")
    return value


VERSIONS = (None, "latest", "1")

_LATER = {"Retry-After": "5"}
"""Seconds after which a start may be tried again; that there are any says that no run was started."""

_REFUSALS: dict[type[Exception], tuple[int, dict[str, str]]] = {
    KeyReused: (422, {}),
    QueueFull: (429, _LATER),
    Stopping: (503, _LATER),
    Trouble: (503, _LATER),
    NotRecorded: (503, _LATER),
}


def make_app(tasks: Tasks, runs: Runs, store: Store, api_key: str | None) -> ASGIApp:
    """The ASGI application. With a key, every request but that for its health has to carry it, as `anchor-api-key`."""
    routes = _Routes(tasks, runs, store)
    return Starlette(
        routes=[
            # A task's id may be a path (FILE.py:FUNCTION); its slashes come as %2F and are decoded by now.
            Route("/v2/tasks/{task_id:path}/run", routes.start, methods=["POST"]),
            Route("/v2/tasks/runs/{run_id}/status", routes.status, methods=["GET"]),
            Route(HEALTH, routes.health, methods=["GET"]),
        ],
        middleware=[*([Middleware(KeyDoor, api_key=api_key)] if api_key else []), Middleware(_Memory, store=store)],
        exception_handlers={HTTPException: _refusal, Exception: _bug},
    )


class _Memory:
    """Says with every answer whose memory this is, and how far back it knows each start by its key."""

    def __init__(self, app: ASGIApp, store: Store) -> None:
        self._app = app
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def say(message: Message) -> None:
            if message["type"] == "http.response.start" and (promise := self._store.promise()):
                said = f"{promise.memory};seconds={promise.seconds:.3f}"
                message["headers"] = [*message.get("headers", ()), (MEMORY_HEADER.encode(), said.encode())]
            await send(message)

        await self._app(scope, receive, say)


class _Routes:
    def __init__(self, tasks: Tasks, runs: Runs, store: Store) -> None:
        self._tasks = tasks
        self._runs = runs
        self._store = store

    async def start(self, request: Request) -> Response:
        """POST /v2/tasks/{taskId}/run"""
        asked = await asked_by(request)
        run = await self._started(asked)
        return json_answer(200, await self._runs.wait(run.run_id) if asked.request.sync else run)

    async def status(self, request: Request) -> Response:
        """GET /v2/tasks/runs/{runId}/status"""
        run_id = request.path_params["run_id"]
        run = self._runs.tell(run_id)
        if run is None:
            raise HTTPException(404, f"There is no run {run_id!r}.")
        return json_answer(200, run)

    async def health(self, _: Request) -> Response:
        """GET /healthz"""
        promise, running = self._store.promise(), self._runs.running
        trouble = await self._runs.trouble()
        status = "stopping" if self._runs.is_stopping else "ok" if trouble is None else "trouble"
        health = Health(
            status=status,
            trouble=trouble,
            version=__version__,
            features=(*([IDEMPOTENCY_FEATURE] if promise else []), ROW_FEATURE),
            idempotency_seconds=promise.seconds if promise else None,
            memory=promise.memory if promise else None,
            queued=len(self._runs.going) - running,
            running=running,
        )
        return json_answer(200 if status == "ok" else 503, health)

    async def _started(self, asked: Asked) -> Run:
        try:
            return await self._runs.start(asked, self._task)
        except NotRecorded as error:
            raise _refused(error, f"The run could not be recorded, so it was not started: {error}.") from error
        except NotStarted as error:
            raise _refused(error, str(error)) from error

    def _task(self, asked: Asked) -> Task:
        task_id, version = asked.task_id, asked.request.version
        task = self._tasks.find(task_id)
        if task is None:
            raise HTTPException(404, f"There is no task {task_id!r}; there is {', '.join(sorted(self._tasks.by_id))}.")
        if version not in VERSIONS:
            raise HTTPException(404, f"The task {task_id!r} has no version {version!r}; it has 1, which is the latest.")
        return task


def _refused(error: Exception, sentence: str) -> HTTPException:
    """That no run was started: what refuses this start for good, and what may be otherwise in a moment."""
    status_code, headers = _REFUSALS[type(error)]
    return HTTPException(status_code, sentence, headers)


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_answer(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _bug(_: Request, error: Exception) -> Response:
    return error_answer(500, f"The service failed: {type(error).__name__}.")
