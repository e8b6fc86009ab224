"""The routes of the Tasks API v2: JSON in, JSON out, every refusal an ErrorResponse.

What the contract leaves open, as decided here:
- `version` may be absent, `latest` or `1`; a task that runs here has no other, so any other is a 404.
- A `session_id` that is not known yet begins a session of that name: this service has no other way to make one, and
  all that a session is here is the order of its runs, one after another. So `cleanup_sessions` changes nothing.
- `identity_id` is handed to the task; nothing here could check it, so `identity_skip_validation` changes nothing.

What it has beyond the contract, and says so in `GET /healthz`: a start may carry an Idempotency-Key, and the number of
its row for the task; a client may wait for a run's end, and stop a run.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from batch_runner._version import __version__
from batch_runner.service.protocol import (
    APPLIED_HEADER,
    IDEMPOTENCY_HEADER,
    KEY_HEADER,
    MEMORY_HEADER,
    PREFER_HEADER,
    ROW_HEADER,
    ErrorDetail,
    ErrorResponse,
    Health,
    LookFailed,
    Run,
    RunRequest,
    RunSeen,
    Started,
    StartRequest,
    unquoted,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from batch_runner.service.local.service import LocalService


def json_answer(status_code: int, value: msgspec.Struct) -> Response:
    """A struct as JSON."""
    return Response(msgspec.json.encode(value), status_code, media_type="application/json")


def error_answer(status_code: int, sentence: str) -> Response:
    """An ErrorResponse; its code is the HTTP status."""
    return json_answer(status_code, ErrorResponse(ErrorDetail(status_code, sentence)))


class TaskVersions(msgspec.Struct, frozen=True):
    """The body of a task's versions."""

    versions: tuple[dict[str, str], ...]


HEALTH = "/healthz"
"""The one path that needs no key: whoever watches over the service needn't be one who may use it."""

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")


@lru_cache(maxsize=64)
def is_surely_loopback(host: str) -> bool:
    """Whether a name or an address means this very machine, whoever is asked.

    `a.localhost` isn't sure: a client takes it for this machine, but a resolver may have another answer to listen on.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class KeyMiddleware:
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


class LoopbackMiddleware:
    """Refuses a request that was made for another machine's name.

    A page in a browser could otherwise reach this port under a name of its own that resolves to 127.0.0.1. A service
    that listens for other machines has no such door: it can't know all its names, and asks for a key that no page has.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        host = _HOST.fullmatch(_header(scope, "host").decode("latin-1"))
        if scope["type"] != "http" or (host and is_surely_loopback(host[1])):
            await self._app(scope, receive, send)
        else:
            answer = error_answer(400, "This service answers to this machine only, as localhost or 127.0.0.1.")
            await answer(scope, receive, send)


def _header(scope: Scope, name: str) -> bytes:
    value: bytes = dict(scope.get("headers", ())).get(name.encode(), b"")
    return value


OPENAPI = "/openapi.json"
"""Where this API is described, for programs."""
_NOT_200 = {
    "400": "what was asked for makes no sense",
    "401": "the key is missing or wrong",
    "404": "there is no such task or run",
    "413": "the body is too long",
    "422": "the Idempotency-Key is another start's",
    "429": "too many runs wait",
    "500": "a bug",
    "503": "not now",
}


def describe_api() -> dict[str, Any]:
    """The OpenAPI page of this service, made of the very types that it reads and writes."""
    types = (RunRequest, _plain(Run), ErrorResponse, Health, TaskVersions)
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    # What is no text is taken as its JSON text.
    schemas["RunRequest"]["properties"]["input_params"]["additionalProperties"] = {
        "type": ["string", "number", "boolean", "null"]
    }
    task, run = _path_param("taskId"), _path_param("runId")
    start = {
        **_operation("startRun", "Start a run of a task", Run, task, *_NOT_200),
        "requestBody": {"required": True, "content": _json_of(RunRequest)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tasks API v2, served by batch-runner", "version": __version__},
        "security": [{"key": []}, {}],
        "paths": {
            "/v2/tasks/{taskId}/run": {"post": start},
            "/v2/tasks/{taskId}/versions": {
                "get": _operation("taskVersions", "The versions of a task", TaskVersions, task, "401", "404")
            },
            "/v2/tasks/runs/{runId}/status": {"get": _operation("runStatus", "How a run is", Run, run, "401", "404")},
            "/v2/tasks/runs/{runId}": {"delete": _operation("stopRun", "Stop a run", Run, run, "401", "404")},
            HEALTH: {"get": _operation("health", "How the service is, and what it can do", Health, None, "503")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": KEY_HEADER}},
        },
    }


def _plain(kind: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The type with any JSON where it holds JSON as it came, whose default no schema can have."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(kind):
        if field.required:
            fields.append((field.name, field.type))
        else:
            is_raw = field.type is msgspec.Raw
            fields.append((field.name, Any if is_raw else field.type, None if is_raw else field.default))
    return msgspec.defstruct(kind.__name__, fields)


def _path_param(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _json_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}


def _operation(
    name: str, summary: str, answer: type[msgspec.Struct], param: dict[str, Any] | None, *refusals: str
) -> dict[str, Any]:
    refused = Health if answer is Health else ErrorResponse
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [] if param is None else [param],
        "responses": {
            "200": {"description": summary, "content": _json_of(answer)},
            **{code: {"description": _NOT_200[code], "content": _json_of(refused)} for code in refusals},
        },
    }


async def _openapi(_: Request) -> Response:
    return Response(msgspec.json.encode(describe_api()), media_type="application/json")


LONGEST_WAIT = 60.0
"""Seconds that a client may wait for a run's end with one request, whatever it prefers."""


def make_app(service: LocalService, api_key: str | None = None) -> ASGIApp:
    """The ASGI application. With a key, every request but that for its health has to carry it, as `anchor-api-key`."""
    routes = _Routes(service)
    return Starlette(
        routes=[
            # A task's id may be a path (FILE.py:FUNCTION); its slashes come as %2F and are decoded by now.
            Route("/v2/tasks/{task_id:path}/run", routes.start, methods=["POST"]),
            Route("/v2/tasks/runs/{run_id}/status", routes.status, methods=["GET"]),
            Route("/v2/tasks/{task_id:path}/versions", routes.versions, methods=["GET"]),
            Route("/v2/tasks/runs/{run_id}", routes.stop, methods=["DELETE"]),
            Route(HEALTH, routes.health, methods=["GET"]),
            Route(OPENAPI, _openapi, methods=["GET"]),
        ],
        middleware=[
            *([Middleware(KeyMiddleware, api_key=api_key)] if api_key else []),
            Middleware(_MemoryHeader, service=service),
        ],
        exception_handlers={HTTPException: _refusal, Exception: _bug},
    )


class _MemoryHeader:
    """Says with every answer whose memory this is, and how far back it knows each start by its key."""

    def __init__(self, app: ASGIApp, service: LocalService) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def say(message: Message) -> None:
            begins = message["type"] == "http.response.start"
            if begins and (can := await self._service.capabilities()).memory:
                said = f"{can.memory};seconds={can.idempotency_seconds:.3f}"
                message["headers"] = [*message.get("headers", ()), (MEMORY_HEADER.encode(), said.encode())]
            await send(message)

        await self._app(scope, receive, say)


class _Routes:
    def __init__(self, service: LocalService) -> None:
        self._service = service

    async def start(self, request: Request) -> Response:
        """POST /v2/tasks/{taskId}/run"""
        answer = await self._service.start(await start_request(request))
        if isinstance(answer, Started):
            return json_answer(200, answer.run)
        assert answer.status_code is not None
        pause = answer.signal.retry_after
        headers = {} if pause is None else {"Retry-After": f"{pause:.0f}"}
        raise HTTPException(answer.status_code, answer.why, headers)

    async def status(self, request: Request) -> Response:
        """GET /v2/tasks/runs/{runId}/status; with `Prefer: wait=N` the answer comes when the run has ended."""
        wait = wait_of(request)
        seconds = min(wait or 0.0, LONGEST_WAIT)
        answer = _run_answer(await self._service.look(request.path_params["run_id"], seconds))
        if wait is not None:
            answer.headers[APPLIED_HEADER] = f"wait={seconds:.0f}"
        return answer

    async def stop(self, request: Request) -> Response:
        """DELETE /v2/tasks/runs/{runId}: not of the contract; a run that goes on ends as `cancelled`."""
        return _run_answer(await self._service.stop(request.path_params["run_id"]))

    async def versions(self, request: Request) -> Response:
        """GET /v2/tasks/{taskId}/versions: of a task that runs here there is only one."""
        task_id = request.path_params["task_id"]
        if not self._service.has_task(task_id):
            raise HTTPException(404, f"There is no task {task_id!r}.")
        return json_answer(200, TaskVersions(({"version": "1"},)))

    async def health(self, _: Request) -> Response:
        """GET /healthz"""
        health = await self._service.health()
        return json_answer(200 if health.status == "ok" else 503, health)


def _run_answer(found: RunSeen | LookFailed) -> Response:
    if isinstance(found, RunSeen):
        return json_answer(200, found.run)
    raise HTTPException(found.status_code or 500, found.why)


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_answer(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _bug(_: Request, error: Exception) -> Response:
    return error_answer(500, f"The service failed: {type(error).__name__}.")


_WAIT = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(;.*)?', re.ASCII)
BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a request's body."""


async def start_request(request: Request) -> StartRequest:
    """What a POST to /v2/tasks/{taskId}/run asks for. Raises HTTPException 400, and 413 for a body without an end."""
    key, row_number, body = _key(request), _row(request), await _body(request)
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"The body is no JSON: {error}.") from error
    try:
        run = msgspec.convert(_with_texts(fields, body), RunRequest)
    except msgspec.ValidationError as error:
        what = _param_that_is_no_text(fields) or f"The body is not a request to run a task: {error}."
        raise HTTPException(400, what) from error
    return StartRequest(request.path_params["task_id"], run, key, row_number)


def wait_of(request: Request) -> float | None:
    """The seconds that a client would wait for a run's end (RFC 7240, section 4.3); None where it says nothing."""
    preferences = request.headers.get(PREFER_HEADER, "").split(",")
    found = next(filter(None, map(_WAIT.fullmatch, preferences)), None)
    return float(found[1]) if found else None


def _key(request: Request) -> str | None:
    """The key that names this start among all, if it has one."""
    fields = request.headers.getlist(IDEMPOTENCY_HEADER)
    key = unquoted(fields[0]) if len(fields) == 1 else None
    if fields and key is None:
        raise HTTPException(
            400, f'{IDEMPOTENCY_HEADER} has to be one text of 1 to 255 ASCII characters in double quotes: "like-this".'
        )
    return key


def _row(request: Request) -> int | None:
    field = request.headers.get(ROW_HEADER)
    if field is not None and not re.fullmatch(r"[1-9]\d{0,8}", field.strip(), re.ASCII):
        raise HTTPException(400, f"{ROW_HEADER} has to be the number of a row, 1 or more.")
    return None if field is None else int(field)


async def _body(request: Request) -> bytes:
    """The body, if it says that it is JSON and isn't too long. A page in a browser can't send that unasked."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(400, "The body has to be JSON; say so by Content-Type: application/json.")
    too_long = HTTPException(413, f"The body is longer than {BODY_LIMIT} bytes.")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > BODY_LIMIT:
        raise too_long
    body = bytearray()
    try:
        async with contextlib.aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > BODY_LIMIT:
                    raise too_long
    except ClientDisconnect as error:
        raise HTTPException(400, "The client went away before the body had come.") from error
    return bytes(body)


class _RawParams(msgspec.Struct):
    """Params as they were written: `1.10` stays `1.10`."""

    input_params: dict[str, msgspec.Raw]


def _with_texts(fields: Any, body: bytes) -> Any:
    """The body's fields, with the JSON text of each param that is a number, true, false or null."""
    params = fields.get("input_params") if isinstance(fields, dict) else None
    if not isinstance(params, dict) or all(isinstance(value, str) for value in params.values()):
        return fields
    raw = msgspec.json.decode(body, type=_RawParams).input_params
    texts = {
        name: bytes(raw[name]).decode().strip() if value is None or isinstance(value, bool | int | float) else value
        for name, value in params.items()
    }
    return {**fields, "input_params": texts}


def _param_that_is_no_text(fields: Any) -> str | None:
    """A sentence that names the param; msgspec would call it `[...]`."""
    params = fields.get("input_params") if isinstance(fields, dict) else None
    if not isinstance(params, dict):
        return None
    wrong = next((name for name, value in params.items() if isinstance(value, list | dict)), None)
    return None if wrong is None else f"input_params has to map text to text, and the value of {wrong!r} is no text."
