"""Which night goes on when several sheets are run again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from batch_runner.journal import Policy, Turn, command_gone_on_with


@pytest.mark.parametrize(
    ("ends", "series", "hours", "retry", "goes_on"),
    [
        ({"a": 0, "b": 130}, "ab", 1, "all", True),
        ({"a": 0, "b": None}, "ab", 100, "all", True),
        ({"a": 0, "b": 130}, "ab", 11, "failure", True),
        ({"a": 0, "b": 130}, "ab", 13, "failure", False),
        ({"a": 0}, "ab", 11, "all", True),
        ({"a": 0}, "ab", 13, "all", False),
        ({"a": 0, "b": 3}, "ab", 1, "all", False),
        ({"a": 0, "b": 130}, "a", 1, "all", False),
        ({}, "ab", 1, "all", False),
    ],
)
def test_whose_night_goes_on(ends: dict[str, int | None], series: str, hours: int, retry: str, goes_on: bool) -> None:
    """That of the last command, if one of its sheets was stopped, or has not had its turn."""
    began = (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    turns = [Turn("before", "a", "2026-01-01T00:00:00.000Z", 130), *(Turn("W", n, began, e) for n, e in ends.items())]
    found = command_gone_on_with(turns[0 if ends else 1 :], series, Policy(frozenset({retry})))
    assert found == ("W" if goes_on else None)
