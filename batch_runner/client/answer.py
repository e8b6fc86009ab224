"""The bodies of answers: a run where one is told, a message where something is refused.

What comes over the wire is the service's (or a gateway's), so nothing here raises: a body that can't be read tells no
run and has no message.
"""

from __future__ import annotations

import html
import json
import re

import msgspec

from batch_runner.api import Run

_NO_JSON = msgspec.Raw(b"")
_MESSAGE_KEYS = ("error", "message", "detail", "msg", "title")
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class _AnyRun(msgspec.Struct):
    """A run whose fields may be of any type."""

    run_id: msgspec.Raw = _NO_JSON
    status: msgspec.Raw = _NO_JSON
    result: msgspec.Raw = _NO_JSON
    error: msgspec.Raw = _NO_JSON
    session_id: msgspec.Raw = _NO_JSON


_decode_run = msgspec.json.Decoder(Run).decode
_decode_any_run = msgspec.json.Decoder(_AnyRun).decode


def run_in(body: bytes) -> Run | None:
    """The run that a body tells, or None where it names none.

    Its status may be empty (none was told), its error is always text, and its result the JSON text as it came.
    """
    run: Run | None
    try:
        run = _decode_run(body)
    except _UNREADABLE:
        run = _unusual_run(body)
    if run is None or not run.run_id.strip():
        return None
    return msgspec.structs.replace(run, result=_result(run.result)) if bytes(run.result) else run


def message_in(body: bytes) -> str:
    """What an error's body says to a person, as one line: its JSON message, its HTML title or text, or nothing."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        return _folded(_html_text(text))
    try:
        return _folded(_message(json.loads(text)))
    except _UNREADABLE:
        return _folded(text)


def _unusual_run(body: bytes) -> Run | None:
    """A run from an answer that is not to the letter of the API: missing fields, other types, NaN."""
    try:
        told = _any_run(body)
        return Run(
            run_id=_identifier(told.run_id),
            status=_text(told.status),
            result=told.result,
            error=_text(told.error) or None,
            session_id=_identifier(told.session_id) or None,
        )
    except _UNREADABLE:
        return None


def _any_run(body: bytes) -> _AnyRun:
    """Of what is no JSON, that which the standard library reads all the same: NaN, a byte order mark."""
    try:
        return _decode_any_run(body)
    except msgspec.DecodeError:
        return _decode_any_run(json.dumps(json.loads(body, parse_constant=str)))


def _result(raw: msgspec.Raw) -> msgspec.Raw:
    """A result that is text (UTF-8) and doesn't keep the whole answer in memory."""
    data = bytes(raw)
    return _NO_JSON if data == b"null" else msgspec.Raw(data.decode("utf-8", "replace").encode())


def _value(raw: msgspec.Raw) -> object:
    return json.loads(bytes(raw).decode("utf-8", "replace")) if bytes(raw) else None


def _identifier(raw: msgspec.Raw) -> str:
    """An id: a string, or a whole number made one. Nothing else can be one."""
    value = _value(raw)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _text(raw: msgspec.Raw) -> str:
    value = _value(raw)
    if value is None:
        return ""
    return _message(value) or ("" if value == "" else bytes(raw).decode("utf-8", "replace"))


def _message(value: object) -> str:
    """The first text under the usual keys, however deep: `{"error": {"code": 422, "message": "…"}}`."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return next((text for key in _MESSAGE_KEYS if (text := _message(value.get(key)))), "")
    if isinstance(value, list):
        return _message(value[0]) if value else ""
    return ""


def _html_text(page: str) -> str:
    title = re.search(r"<title[^>]*>([^<]*)", page, re.IGNORECASE)
    return html.unescape(title[1] if title else re.sub(r"<[^>]*>", " ", page))


def _folded(text: str) -> str:
    return " ".join(text.split())
