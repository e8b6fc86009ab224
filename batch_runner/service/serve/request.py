"""What a start asks for, read and judged: what makes no sense is a 400 that names it."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.exceptions import HTTPException

from batch_runner.service.protocol import StartRequest
from batch_runner.service.wire import IDEMPOTENCY_HEADER, PREFER_HEADER, ROW_HEADER, RunRequest, unquoted

if TYPE_CHECKING:
    from starlette.requests import Request


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
        run = msgspec.convert(fields, RunRequest)
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
    async with contextlib.aclosing(request.stream()) as parts:
        async for part in parts:
            body += part
            if len(body) > BODY_LIMIT:
                raise too_long
    return bytes(body)


def _param_that_is_no_text(fields: Any) -> str | None:
    """A sentence that names the param; msgspec would call it `[...]`."""
    params = fields.get("input_params") if isinstance(fields, dict) else None
    if not isinstance(params, dict):
        return None
    wrong = next((name for name, value in params.items() if not isinstance(value, str)), None)
    return wrong if wrong is None else f"input_params has to map text to text, and the value of {wrong!r} is no text."
