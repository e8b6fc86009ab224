"""An answer: its body, read within bounds, its run or message; and the limits that it tells.

What comes over the wire is the service's (or a gateway's), so nothing here raises: a body that can't be read tells no
run and has no message. Its texts are made whole in `read_body`, the one place where they come in: a lone surrogate
could not be written anywhere.

The service's limits are read from `Retry-After` (RFC 9110 section 10.2.3), `RateLimit` and `RateLimit-Policy`
(draft-ietf-httpapi-ratelimit-headers: structured fields since its version 08, a dictionary before) and the three
separate `RateLimit-*` or `X-RateLimit-*` fields that came before those. What can't be read is None: a limit that is
misspelt must not stop a batch.
"""

from __future__ import annotations

import codecs
import html
import json
import re
import tempfile
import zlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING

import anyio
import msgspec

from batch_runner.service.protocol import (
    APPLIED_HEADER,
    LARGE,
    MEMORY_HEADER,
    NO_SIGNAL,
    Run,
    Signal,
    large_turn,
    let_next_be_large,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import httpx

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
    try:
        run: Run | None = _decode_run(body)
    except _UNREADABLE:
        run = _unusual_run(body)
    if run is None or not run.run_id.strip():
        return None
    result = memoryview(run.result)
    if not result:
        return run
    return msgspec.structs.replace(run, result=_NO_JSON if bytes(result[:5]) == b"null" else _readable(run.result))


def _readable(result: msgspec.Raw) -> msgspec.Raw:
    """A result in UTF-8. A long one stays where it is, for it is most of its answer; a short one lets go of that."""
    view = memoryview(result)
    if len(view) >= LARGE:
        decode = codecs.getincrementaldecoder("utf-8")().decode
        with suppress(UnicodeDecodeError):
            for start in range(0, len(view), LARGE):
                decode(view[start : start + LARGE], start + LARGE >= len(view))
            return result
    return msgspec.Raw(str(view, "utf-8", "replace").encode())


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
    except RecursionError:
        return _AnyRun(
            **{name: msgspec.Raw(value) for name, value in _top_level(body).items() if name in _FIELDS_OF_RUN}
        )
    except msgspec.DecodeError:
        return _decode_any_run(json.dumps(json.loads(body, parse_constant=str)))


_FIELDS_OF_RUN = frozenset(_AnyRun.__struct_fields__)
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]++|[\]}]++|[:,]', re.DOTALL)


def _top_level(body: bytes) -> dict[object, bytes]:
    """The values of an object, each as it stands, by their keys: of one that is nested too deep for any parser.

    Raises `ValueError` where it has no end.
    """
    fields: dict[object, bytes] = {}
    key, begin, depth = b"", 0, 0
    for mark in _MARKS.finditer(body):
        sign, size = mark[0][:1], mark.end() - mark.start()
        if sign in (b"[", b"{"):
            begin = begin if depth else mark.start() + 1
            depth += size
        elif sign in (b"]", b"}") and size < depth:
            depth -= size
        elif depth == 1 and sign == b":":
            key, begin = body[begin : mark.start()], mark.end()
        elif sign in (b"]", b"}") or (depth == 1 and sign == b","):
            end = mark.start() + (depth - 1 if sign != b"," else 0)
            fields[json.loads(key)] = body[begin:end].strip()
            if sign != b",":
                return fields
            begin = mark.end()
    raise ValueError("it has no end")


def _value(raw: msgspec.Raw) -> object:
    return json.loads(bytes(raw).decode("utf-8", "replace")) if bytes(raw) else None


def _identifier(raw: msgspec.Raw) -> str:
    """An id: a string, or a whole number made one. Nothing else can be one."""
    value = _value(raw)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _text(raw: msgspec.Raw) -> str:
    plain = bytes(raw).decode("utf-8", "replace")
    try:
        value = _value(raw)
        return "" if value is None or value == "" else _message(value) or plain
    except RecursionError:
        return plain


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


class Response(msgspec.Struct, frozen=True):
    """An answer whose head has come, its headers as they were sent. Most bodies have come whole with it."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | httpx.AsyncByteStream


class Body(msgspec.Struct, frozen=True):
    """What came of a body; `cut` is what ended it early, be it the network's failure or ours to decode it."""

    data: bytes
    cut: Exception | None = None


async def read_body(body: bytes | httpx.AsyncByteStream, encoding: str) -> Body:
    """A body that was not read yet, with its `Content-Encoding`. Nothing is raised: the answer's status has come."""
    spool = _Spool()
    try:
        if isinstance(body, bytes):
            spool.add(body)
        else:
            with anyio.fail_after(LONGEST_READ):
                await _read_into(spool, body)
        data = await spool.whole()
        return Body(make_whole(_inflate(data) if encoding.strip().lower() in {"gzip", "x-gzip", "deflate"} else data))
    except Exception as error:  # noqa: BLE001  whatever it is, what the status says still holds
        return Body(b"" if isinstance(error, TooLarge) else make_whole(await spool.whole()), error)
    finally:
        spool.close()
        if not isinstance(body, bytes):
            await body.aclose()


class _Spool:
    """A body while it comes in: in memory, and in a file once it is large."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._size = 0
        self._file: IO[bytes] | None = None

    def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > MAX_ANSWER:
            raise TooLarge
        self._memory += chunk
        if len(self._memory) >= LARGE:
            self._put_aside()

    def _put_aside(self) -> None:
        with suppress(OSError):  # where there is no room for it, it stays in memory
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  see `close`
            while self._memory:
                del self._memory[: self._file.write(self._memory)]

    async def whole(self) -> bytes:
        """All that came. One that is large waits for its turn, which lasts until `let_next_be_large`."""
        if self._file is None:
            return bytes(self._memory)
        let_next_be_large()
        if (turn := large_turn.get()) is not None:
            with anyio.CancelScope(shield=True):  # what has come is not to be lost
                await turn.acquire()
        self._put_aside()
        self._file.seek(0)
        whole = self._file.read()
        return whole + self._memory if self._memory else whole

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def make_whole(data: bytes) -> bytes:
    """JSON in which U+FFFD stands for each half of a character, as a service sends it that cuts a text in an emoji."""
    if b"\\ud" not in data and b"\\uD" not in data:
        return data
    return _SURROGATES.sub(lambda found: found[1] or b"\\ufffd", data)


async def _read_into(spool: _Spool, stream: httpx.AsyncByteStream) -> None:
    chunks = aiter(stream)
    try:
        async for chunk in chunks:
            spool.add(chunk)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _inflate(data: bytes) -> bytes:
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


_RATE_FIELDS = tuple(
    f"{prefix}ratelimit{part}" for prefix in ("", "x-") for part in ("", "-policy", "-limit", "-remaining", "-reset")
)
_NO_LIMITS = {"date", "location", "content-encoding", APPLIED_HEADER, MEMORY_HEADER}
_FIELDS = {name.encode(): name for name in ("retry-after", *_RATE_FIELDS, *_NO_LIMITS)}
_MEMORY = re.compile(r"([0-9a-zA-Z_-]{1,64});seconds=([0-9]{1,12}(?:\.[0-9]{1,6})?)")
_EARLIEST_EPOCH = 1_000_000_000
"""A reset beyond this is a moment in Unix time (as GitHub sends it), not a number of seconds to wait."""


def fields_in(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Of an answer's headers those that anybody here reads, by their names in lower case."""
    fields: dict[str, str] = {}
    for name, value in headers:
        if (key := _FIELDS.get(name.lower())) is not None:
            text = value.decode("latin-1")
            fields[key] = f"{fields[key]}, {text}" if key in fields else text
    return fields


def read_signal(fields: Mapping[str, str], now: float) -> Signal:
    """The limits in an answer's fields; `now` is Unix time, used where the answer has no `Date` of its own."""
    told = _MEMORY.fullmatch(fields.get(MEMORY_HEADER, ""))
    signal = Signal(memory=told[1], memory_seconds=float(told[2])) if told else NO_SIGNAL
    if not fields.keys() - _NO_LIMITS:
        return signal
    now = _moment(fields.get("date", ""), now)
    limit = _limit(fields, now)
    return msgspec.structs.replace(
        limit,
        retry_after=_retry_after(fields.get("retry-after", ""), now),
        memory=signal.memory,
        memory_seconds=signal.memory_seconds,
    )


def _moment(text: str, otherwise: float) -> float:
    """An HTTP-date as Unix time. The answer's own `Date` is the clock to count from: ours may be wrong."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return otherwise


def _retry_after(text: str, now: float) -> float | None:
    if (seconds := _number(text)) is not None:
        return seconds
    moment = _moment(text, -1.0)
    return None if moment < 0 else max(0.0, moment - now)


def _limit(fields: Mapping[str, str], now: float) -> Signal:
    """The tightest limit among the fields, with the policy that it belongs to."""
    name, limit = _tightest(_members(fields.get("ratelimit", "")))
    quota, window = _policy(_members(fields.get("ratelimit-policy", "")), name)
    separate_quota, separate_window = _policy(_members(_separate(fields, "limit")), None)
    reset = _first(limit.get("t"), limit.get("reset"), _separate(fields, "reset"))
    return Signal(
        remaining=_whole(_first(limit.get("r"), limit.get("remaining"), _separate(fields, "remaining"))),
        reset=max(0.0, reset - now) if reset is not None and reset > _EARLIEST_EPOCH else reset,
        quota=_whole(_known(quota, _first(limit.get("limit")), separate_quota)),
        window=_known(window, separate_window),
    )


def _separate(fields: Mapping[str, str], part: str) -> str:
    return fields.get(f"ratelimit-{part}") or fields.get(f"x-ratelimit-{part}", "")


_Member = tuple[str, dict[str, str]]


def _members(text: str) -> list[_Member]:
    """The members of a structured field: each one's name (or bare number) and its parameters.

    The older dictionary `limit=5, remaining=0, reset=12` comes out as one member without a name.
    """
    members: list[_Member] = []
    pairs: dict[str, str] = {}
    for member in _split(text, ","):
        head, *params = _split(member, ";") or [""]
        key, is_pair, value = head.partition("=")
        if is_pair and not head.startswith('"'):
            pairs[key.strip().lower()] = value
        else:
            parts = (param.partition("=") for param in params)
            members.append((head, {name.strip().lower(): value for name, _, value in parts}))
    return [("", pairs), *members] if pairs else members


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that don't stand in a quoted string."""
    return [part.strip() for part in re.findall(rf'(?:[^{separator}"]|"(?:[^"\\]|\\.)*")+', text)]


def _tightest(limits: list[_Member]) -> _Member:
    """Of several limits the one with least left, and of those the one that lasts longest."""

    def left(member: _Member) -> tuple[float, float]:
        remaining = _first(member[1].get("r"), member[1].get("remaining"))
        return (float("inf") if remaining is None else remaining, -(_number(member[1].get("t")) or 0.0))

    return min(limits, key=left, default=("", {}))


def _policy(policies: list[_Member], name: str | None) -> tuple[float | None, float | None]:
    """Quota and window of the policy of that name, else of the first. The older form is `100;w=60`."""
    chosen = next((policy for policy in policies if policy[0] == name), policies[0] if policies else None)
    if chosen is None:
        return None, None
    head, params = chosen
    return _first(params.get("q"), head), _first(params.get("w"))


def _number(text: str | None) -> float | None:
    """A number that is not negative, quoted or not; anything else is None."""
    bare = (text or "").strip().strip('"')
    return float(bare) if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", bare, re.ASCII) else None


def _first(*texts: str | None) -> float | None:
    return _known(*(_number(text) for text in texts))


def _known(*numbers: float | None) -> float | None:
    return next((number for number in numbers if number is not None), None)


def _whole(number: float | None) -> int | None:
    return None if number is None else int(number)
