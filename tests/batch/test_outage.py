"""While answers are lost, starts go one at a time; a run that goes on for too long takes nobody's place."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from nights import Fault, night, numbered

if TYPE_CHECKING:
    from pathlib import Path

    from nights import Night


def lost(done: Night) -> int:
    return done.statuses.count("unknown")


def test_after_a_lost_answer_one_start_goes_at_a_time(tmp_path: Path) -> None:
    """At concurrency 50 an outage costs those in flight, then one row a probe, at growing distances."""

    def faults(row: str, _: int) -> Fault | None:
        return Fault(500) if int(row) > 60 else None

    done = night(tmp_path, numbered(400, Seconds="60"), faults, concurrency=50)
    times = [post.at for post in done.front.posts if post.status == 500]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[1:7] == pytest.approx([1, 2, 4, 8, 16, 32])
    assert min(gaps[7:]) > 59
    assert lost(done) == len(times) < 50


def test_once_one_is_answered_all_go_again(tmp_path: Path) -> None:
    """A single lost answer among many costs that row, and no time worth a word."""
    rows = numbered(100, Seconds="10")
    done = night(tmp_path, rows, lambda row, _: Fault(500) if int(row) % 10 == 0 else None, concurrency=10)
    assert lost(done) == 10
    assert done.statuses.count("success") == 90
    plain = night(tmp_path, rows, concurrency=10)
    assert done.seconds < 2 * plain.seconds


def test_a_refusal_is_an_answer(tmp_path: Path) -> None:
    """A probe that is refused for its row shows that the service answers."""

    def faults(row: str, _: int) -> Fault | None:
        if row == "5":
            return Fault(500)
        return Fault(422, (), b'{"error": {"message": "bad row"}}') if row == "6" else None

    done = night(tmp_path, numbered(30, Seconds="10"), faults, concurrency=10)
    assert (lost(done), done.statuses.count("error"), done.statuses.count("success")) == (1, 1, 28)
