"""Reading limits out of answers: every form in use, and never an error."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.service.http.response import fields_in, read_signal
from batch_runner.service.protocol import NO_SIGNAL, Signal

NOW = 1_790_000_000.0


def signal_of(*headers: tuple[str, str]) -> Signal:
    return read_signal(fields_in([(name.encode(), value.encode("latin-1")) for name, value in headers]), NOW)


def test_nothing_said() -> None:
    """Most answers say nothing about limits."""
    assert signal_of(("Content-Type", "application/json"), ("Date", formatdate(NOW, usegmt=True))) is NO_SIGNAL


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("1e5", None),
        ("٣", None),
        ("9" * 40, None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds or an HTTP-date (RFC 9110, 10.2.3); what is neither is None."""
    assert read_signal(fields_in([(b"retry-after", text.encode())]), NOW).retry_after == seconds


def test_a_date_is_counted_from_the_services_clock() -> None:
    """Where our clock is wrong by an hour the wait is still what the service meant."""
    told = (("Date", formatdate(NOW + 3600, usegmt=True)), ("Retry-After", formatdate(NOW + 3630, usegmt=True)))
    assert signal_of(*told).retry_after == 30.0


@pytest.mark.parametrize(
    ("headers", "signal"),
    [
        (
            [("RateLimit", '"5-in-1min";r=0;t=12'), ("RateLimit-Policy", '"5-in-1min"; q=5; w=60')],
            Signal(remaining=0, reset=12.0, quota=5, window=60.0),
        ),
        (
            [("RateLimit", '"default";r=50;t=30'), ("RateLimit-Policy", '"burst";q=9;w=1, "default";q=100;w=60')],
            Signal(remaining=50, reset=30.0, quota=100, window=60.0),
        ),
        (
            [("RateLimit", '"a, b; r=1";r=7;t=1'), ("RateLimit", '"day";r=2;t=900')],
            Signal(remaining=2, reset=900.0),
        ),
        (
            [("RateLimit", '"minute";r=0;t=9, "day";r=0;t=900'), ("RateLimit-Policy", '"day";q=50;w=86400;pk=:YQ==:')],
            Signal(remaining=0, reset=900.0, quota=50, window=86400.0),
        ),
        (
            [("RateLimit", "limit=100, remaining=3, reset=5"), ("RateLimit-Policy", "100;w=60")],
            Signal(remaining=3, reset=5.0, quota=100, window=60.0),
        ),
        (
            [("RateLimit-Limit", "100, 100;w=60"), ("RateLimit-Remaining", "3"), ("RateLimit-Reset", "5")],
            Signal(remaining=3, reset=5.0, quota=100),
        ),
        (
            [("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", str(int(NOW) + 40))],
            Signal(remaining=0, reset=40.0, quota=60),
        ),
        ([("RateLimit-Policy", '"5-in-1min"; q=5; w=60')], Signal(quota=5, window=60.0)),
        ([("RateLimit", '"x";r=many;t=?'), ("RateLimit-Policy", '"x";q="5";w=')], Signal(quota=5)),
        ([("RateLimit", '"never closed'), ("RateLimit-Policy", ";;,,==")], NO_SIGNAL),
    ],
)
def test_limits(headers: list[tuple[str, str]], signal: Signal) -> None:
    """Structured fields, the older dictionary and the older separate fields; the tightest limit and its own policy."""
    assert signal_of(*headers) == signal


FIELDS = st.sampled_from(
    [
        "Retry-After",
        "RateLimit",
        "RateLimit-Policy",
        "RateLimit-Reset",
        "X-RateLimit-Limit",
        "ratelimit-remaining",
        "Date",
    ]
)
PIECES = st.lists(st.sampled_from([*'";,=rtqw019. \\\xff', "limit", "reset", "Sun, 06 Nov 1994"]), max_size=30)


@given(st.lists(st.tuples(FIELDS, st.one_of(PIECES.map("".join), st.text(st.characters(max_codepoint=255))))))
def test_never_an_error(headers: list[tuple[str, str]]) -> None:
    """Whatever the fields hold, reading them raises nothing, and no number in it is negative."""
    signal = signal_of(*headers)
    numbers = (signal.retry_after, signal.remaining, signal.reset, signal.quota, signal.window)
    assert all(number is None or number >= 0 for number in numbers)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_what_is_written_is_read(remaining: int, reset: int, quota: int, window: int) -> None:
    """The draft's own form, with numbers of any size."""
    limit, policy = f'"p";r={remaining};t={reset}', f'"p";q={quota};w={window}'
    signal = signal_of(("RateLimit", limit), ("RateLimit-Policy", policy))
    assert signal == Signal(remaining=remaining, reset=float(reset), quota=quota, window=float(window))
