"""The routes of the Tasks API v2: JSON in, JSON out, every refusal an ErrorResponse.

What the contract leaves open, as decided here:
- `version` may be absent, `latest` or `1`; a task that runs here has no other, so any other is a 404.
- A `session_id` that is not known yet begins a session of that name: this service has no other way to make one, and
  all that a session is here is the order of its runs, one after another. So `cleanup_sessions` changes nothing.
- `identity_id` is handed to the task; nothing here could check it, so `identity_skip_validation` changes nothing.
"""

from __future__ import annotations

import contextlib
import hmac
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from batch_runner.api import KEY_HEADER, ErrorDetail, ErrorResponse, RunRequest

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from batch_runner.service.runs import Runs
    from batch_runner.service.tasks import Task, Tasks

BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a request's body."""

VERSIONS = (None, "latest", "1")


def make_app(tasks: Tasks, runs: Runs, api_key: str | None) -> ASGIApp:
    """The ASGI application. With a key, every request has to carry it in the header `anchor-api-key`."""
    routes = _Routes(tasks, runs)
    return Starlette(
        routes=[
            # A task's id may be a path (FILE.py:FUNCTION); its slashes come as %2F and are decoded by now.
            Route("/v2/tasks/{task_id:path}/run", routes.start, methods=["POST"]),
            Route("/v2/tasks/runs/{run_id}/status", routes.status, methods=["GET"]),
        ],
        middleware=[Middleware(_KeyCheck, api_key=api_key)] if api_key else [],
        exception_handlers={HTTPException: _refusal, Exception: _bug},
    )


class _Routes:
    def __init__(self, tasks: Tasks, runs: Runs) -> None:
        self._tasks = tasks
        self._runs = runs

    async def start(self, request: Request) -> Response:
        """POST /v2/tasks/{taskId}/run"""
        body = _decoded(await _body(request))
        task = self._task(request.path_params["task_id"], body.version)
        if self._runs.is_stopping:
            raise HTTPException(503, "The service is stopping and starts no more runs.", {"Retry-After": "5"})
        if trouble := self._runs.trouble(task):
            raise HTTPException(503, trouble, {"Retry-After": "5"})
        run = self._runs.start(task, body)
        return _json(200, await self._runs.wait(run.run_id) if body.sync else run)

    async def status(self, request: Request) -> Response:
        """GET /v2/tasks/runs/{runId}/status"""
        run_id = request.path_params["run_id"]
        run = self._runs.tell(run_id)
        if run is None:
            raise HTTPException(404, f"There is no run {run_id!r}.")
        return _json(200, run)

    def _task(self, task_id: str, version: str | None) -> Task:
        task = self._tasks.find(task_id)
        if task is None:
            raise HTTPException(404, f"There is no task {task_id!r}; there is {', '.join(sorted(self._tasks.by_id))}.")
        if version not in VERSIONS:
            raise HTTPException(404, f"The task {task_id!r} has no version {version!r}; it has 1, which is the latest.")
        return task


class _KeyCheck:
    """Lets nothing through that doesn't carry the key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(KEY_HEADER.encode(), b"")
        if scope["type"] != "http" or hmac.compare_digest(given, self._key):
            await self._app(scope, receive, send)
        else:
            how = "is wrong" if given else "is missing"
            await error_answer(401, f"The API key in the header {KEY_HEADER} {how}.")(scope, receive, send)


async def _body(request: Request) -> bytes:
    """The body, if it says that it is JSON and isn't too long. A page in a browser can't send that unasked."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(400, "The body has to be JSON; say so by Content-Type: application/json.")
    body = bytearray()
    async with contextlib.aclosing(request.stream()) as parts:
        async for part in parts:
            body += part
            if len(body) > BODY_LIMIT:
                raise HTTPException(413, f"The body is longer than {BODY_LIMIT} bytes.")
    return bytes(body)


def _decoded(body: bytes) -> RunRequest:
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"The body is no JSON: {error}.") from error
    try:
        return msgspec.convert(fields, RunRequest)
    except msgspec.ValidationError as error:
        what = _param_that_is_no_text(fields) or f"The body is not a request to run a task: {error}."
        raise HTTPException(400, what) from error


def _param_that_is_no_text(fields: Any) -> str | None:
    """A sentence that names the param; msgspec would call it `[...]`."""
    params = fields.get("input_params") if isinstance(fields, dict) else None
    if not isinstance(params, dict):
        return None
    wrong = next((name for name, value in params.items() if not isinstance(value, str)), None)
    return wrong if wrong is None else f"input_params has to map text to text, and the value of {wrong!r} is no text."


def _json(status_code: int, value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), status_code, media_type="application/json")


def error_answer(status_code: int, sentence: str) -> Response:
    """An ErrorResponse; its code is the HTTP status."""
    return _json(status_code, ErrorResponse(ErrorDetail(status_code, sentence)))


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_answer(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _bug(_: Request, error: Exception) -> Response:
    return error_answer(500, f"The service failed: {type(error).__name__}.")
