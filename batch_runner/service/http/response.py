"""The body of an answer: read within bounds, its run or message found, the API key redacted.

What comes over the wire is the service's (or a gateway's), so nothing here raises: a body that can't be read tells no
run and has no message. Its texts are made whole in `read_body`, the one place where they come in: a lone surrogate
could not be written anywhere.
"""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import AsyncGenerator

import anyio
import httpx
import msgspec

from batch_runner.log import SECRET_MARK, SHORTEST_SECRET
from batch_runner.service.wire import Run

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
    if not (result := bytes(run.result)):
        return run
    # Text (UTF-8) of its own, which doesn't keep the whole answer in memory.
    text = _NO_JSON if result == b"null" else msgspec.Raw(result.decode("utf-8", "replace").encode())
    return msgspec.structs.replace(run, result=text)


def message_in(body: bytes) -> str:
    """What an error's body says to a person, as one line: its JSON message, its HTML title or text, or nothing."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        return _fold(html.unescape(title[1] if title else re.sub(r"<[^>]*>", " ", text)))
    try:
        return _fold(_message(json.loads(text)))
    except _UNREADABLE:
        return _fold(text)


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


def _fold(text: str) -> str:
    return " ".join(text.split())


MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that are read at most, decoded too."""
LONGEST_READ = 120.0
"""Seconds that a body may take in all: the wait for its next bytes is bounded by the request, but not their number."""

_SURROGATES = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""What may stand (a backslash of the text, both halves of a character), or the half of a character alone."""

_ANY_ZLIB = 32 + zlib.MAX_WBITS
"""Finds out by itself whether it is gzip or deflate (zlib's manual, inflateInit2)."""


class TooLarge(Exception):  # noqa: N818  it says of an answer what it is
    """The answer goes on beyond `MAX_ANSWER`."""

    def __init__(self) -> None:
        super().__init__(f"the answer is larger than {MAX_ANSWER >> 20} MiB")


class Body(msgspec.Struct, frozen=True):
    """What came of a body; `cut` is what ended it early, be it the network's failure or ours to decode it."""

    data: bytes
    cut: Exception | None = None


async def read_body(response: httpx.Response) -> Body:
    """The body of an answer whose stream was not read yet. Nothing is raised: the answer's status has come."""
    data = bytearray()
    try:
        if isinstance(response.stream, httpx.ByteStream):  # all of it is here, as of most answers
            _add(data, b"".join(response.stream))
        else:
            with anyio.fail_after(LONGEST_READ):
                await _read_into(data, response.stream)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        return Body(make_whole(_inflate(data) if encoding in {"gzip", "x-gzip", "deflate"} else bytes(data)))
    except Exception as error:  # noqa: BLE001  whatever it is, what the status says still holds
        return Body(make_whole(bytes(data)), error)
    finally:
        await response.aclose()


def make_whole(data: bytes) -> bytes:
    """JSON in which U+FFFD stands for each half of a character, as a service sends it that cuts a text in an emoji."""
    if b"\\ud" not in data and b"\\uD" not in data:
        return data
    return _SURROGATES.sub(lambda found: found[1] or b"\\ufffd", data)


async def _read_into(data: bytearray, stream: object) -> None:
    assert isinstance(stream, httpx.AsyncByteStream)
    chunks = aiter(stream)
    try:
        async for chunk in chunks:
            _add(data, chunk)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _add(data: bytearray, chunk: bytes) -> None:
    data += chunk
    if len(data) > MAX_ANSWER:
        data.clear()
        raise TooLarge


def _inflate(data: bytearray) -> bytes:
    """No encoding is asked for, but there are gateways that don't care."""
    inflate = zlib.decompressobj(_ANY_ZLIB)
    try:
        whole = inflate.decompress(data, MAX_ANSWER)
    except zlib.error as error:
        raise ValueError(f"the answer can't be decoded: {error}") from error
    if inflate.unconsumed_tail:
        raise TooLarge
    if not inflate.eof:
        raise ValueError("the answer can't be decoded: its end is missing")
    return whole


_ESCAPED = '"\\/'
"""Characters that JSON may write with a backslash before them (RFC 8259, section 7)."""

_ESCAPE = r"\\(?:u[0-9a-fA-F]{4}|.)"
"""An escape of any other character, taken as a whole: a key of digits is not looked for in the middle of one."""


class Redactor:
    """Over one key, which is printable ASCII; one that is empty hides nothing.

    In what a run says a key of a few characters is left: it could be any part of it.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        is_sure = len(key) >= SHORTEST_SECRET
        spelled = "".join(map(_spellings, key))
        self._spelled = re.compile(f"({spelled})|{_ESCAPE}".encode()) if is_sure else None

    def redact_words(self, text: str) -> str:
        """A sentence of ours without the key, which may be in it as the service has spelled it."""
        return self.redact_text(text.replace(self._key, SECRET_MARK) if self._key else text)

    def redact_text(self, text: str) -> str:
        """A text of a run without the key. It may be JSON itself."""
        if self._spelled is None:
            return text
        plain = text.replace(self._key, SECRET_MARK)
        return self.redact_json(plain.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def redact_json(self, data: bytes) -> bytes:
        """JSON without the key, whichever way it is escaped."""
        if self._spelled is None:
            return data
        if b"\\" not in data:
            return data.replace(self._key.encode(), SECRET_MARK.encode())
        return self._spelled.sub(lambda found: SECRET_MARK.encode() if found[1] else found[0], data)


def _spellings(character: str) -> str:
    """A pattern of all ways in which JSON may write a character."""
    code = rf"\\u(?i:{ord(character):04x})"
    plain = [] if character in '"\\' else [re.escape(character)]
    return "(?:" + "|".join([*plain, *([re.escape(f"\\{character}")] if character in _ESCAPED else []), code]) + ")"
