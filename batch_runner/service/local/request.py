"""What a start asks for, read and judged: what makes no sense is a 400 that names it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.exceptions import HTTPException

from batch_runner.service.wire import IDEMPOTENCY_HEADER, ROW_HEADER, RunRequest, unquoted

if TYPE_CHECKING:
    from starlette.requests import Request


BODY_LIMIT = 8 * 1024 * 1024
"""Bytes of a request's body."""


class Asked(msgspec.Struct, frozen=True):
    """A start: which task with what, as which start (`key`), and for which row of a sheet.

    `fingerprint` is the same for two starts that ask for the same (SHA-256 of the task's id and the JSON): the row is
    no part of it, because a sheet may be sorted between two nights, nor is `sync`, which only says how to answer.
    """

    task_id: str
    request: RunRequest
    fingerprint: bytes
    key: str | None = None
    row: int | None = None


async def asked_by(request: Request) -> Asked:
    """What a POST to /v2/tasks/{taskId}/run asks for. Raises HTTPException 400, and 413 for a body without an end."""
    task_id = request.path_params["task_id"]
    key, row = _key(request), _row(request)
    fields, plain = _decoded(await _body(request))
    fingerprint = hashlib.sha256(task_id.encode() + b"\0" + plain).digest()
    return Asked(task_id, _run_request(fields), fingerprint, key, row)


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


def _decoded(body: bytes) -> tuple[Any, bytes]:
    """The JSON, and what it asks for in one form, whatever its spaces and the order of its keys were."""
    try:
        fields = msgspec.json.decode(body)
        what = {name: each for name, each in fields.items() if name != "sync"} if isinstance(fields, dict) else fields
        return fields, msgspec.json.encode(what, order="sorted")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(400, f"The body is no JSON: {error}.") from error


def _run_request(fields: Any) -> RunRequest:
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
