"""What an answer says of the service's limits: when to come back, how much of the quota is left.

Read from `Retry-After` (RFC 9110 section 10.2.3), `RateLimit` and `RateLimit-Policy`
(draft-ietf-httpapi-ratelimit-headers: structured fields since its version 08, a dictionary before) and the three
separate `RateLimit-*` or `X-RateLimit-*` fields that came before those. What can't be read is None: a limit that is
misspelt must not stop a batch.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import msgspec

from batch_runner.service.protocol import NO_SIGNAL, Signal
from batch_runner.service.wire import MEMORY_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable


_RATE_FIELDS = tuple(
    f"{prefix}ratelimit{part}" for prefix in ("", "x-") for part in ("", "-policy", "-limit", "-remaining", "-reset")
)
_FIELDS = frozenset(name.encode() for name in ("date", "retry-after", MEMORY_HEADER, *_RATE_FIELDS))
_MEMORY = re.compile(r"([0-9a-zA-Z_-]{1,64});seconds=([0-9]{1,12}(?:\.[0-9]{1,6})?)")
_NO_LIMITS = {"date", MEMORY_HEADER}
_EARLIEST_EPOCH = 1_000_000_000
"""A reset beyond this is a moment in Unix time (as GitHub sends it), not a number of seconds to wait."""


def read_signal(headers: Iterable[tuple[bytes, bytes]], now: float) -> Signal:
    """The limits in an answer's raw headers; `now` is Unix time, used where the answer has no `Date` of its own."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.lower()
        if name in _FIELDS:
            text, key = raw_value.decode("latin-1"), name.decode()
            fields[key] = f"{fields[key]}, {text}" if key in fields else text
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
    seconds = _number(text)
    if seconds is not None:
        return seconds
    moment = _moment(text, -1.0)
    return None if moment < 0 else max(0.0, moment - now)


def _limit(fields: dict[str, str], now: float) -> Signal:
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


def _separate(fields: dict[str, str], part: str) -> str:
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
