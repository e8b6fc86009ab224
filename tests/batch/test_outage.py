"""While answers are lost, starts go one at a time; and none is asked for where two services may answer."""

from __future__ import annotations

import json
from itertools import cycle, pairwise
from typing import TYPE_CHECKING

import pytest
import trio
from nights import Fault, night, numbered, say

from batch_runner.service.protocol import IDEMPOTENCY_FEATURE, MEMORY_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nights import Night
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def count_lost(done: Night) -> int:
    return done.statuses.count("unknown")


@pytest.mark.long
def test_after_a_lost_answer_one_start_goes_at_a_time(tmp_path: Path) -> None:
    """At concurrency 50 an outage costs those in flight, then one row a probe, at growing distances."""

    def faults(row: str, _: int) -> Fault | None:
        return Fault(500) if int(row) > 60 else None

    done = night(tmp_path, numbered(400, Seconds="60"), faults, concurrency=50)
    times = [post.at for post in done.front.posts if post.status == 500]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[1:7] == pytest.approx([1, 2, 4, 8, 16, 32])
    assert min(gaps[7:]) > 59
    assert count_lost(done) == len(times) < 50


@pytest.mark.long
def test_an_outage_of_ten_minutes_costs_those_in_flight_and_one_row_a_probe(tmp_path: Path) -> None:
    """At concurrency 25: at most 25 rows and one a probe are `unknown`; then all others succeed, each started once."""
    begin, end = 35.0, 635.0
    probes: list[float] = []

    def faults(_row: str, _earlier: int) -> Fault | None:
        now = trio.current_time()
        if not begin <= now < end:
            return None
        probes.append(now)
        return Fault(500, taken=True)

    done = night(tmp_path, numbered(300, Seconds="10"), faults, concurrency=25, max_failures="100%")
    later = [at for at in probes if at > probes[0] + 0.5]
    assert 5 < len(later) < 20
    assert count_lost(done) == len(probes) <= 25 + len(later)
    assert done.statuses.count("success") == 300 - len(probes)
    assert set(done.front.starts().values()) == {1}


@pytest.mark.long
def test_once_one_is_answered_all_go_again(tmp_path: Path) -> None:
    """A single lost answer among many costs that row, and no time worth a word."""
    rows = numbered(100, Seconds="10")
    done = night(tmp_path, rows, lambda row, _: Fault(500) if int(row) % 10 == 0 else None, concurrency=10)
    assert count_lost(done) == 10
    assert done.statuses.count("success") == 90
    (tmp_path / "plain").mkdir()
    plain = night(tmp_path / "plain", rows, concurrency=10)
    assert done.seconds < 2 * plain.seconds


def test_a_refusal_is_an_answer(tmp_path: Path) -> None:
    """A probe that is refused for its row shows that the service answers."""

    def faults(row: str, _: int) -> Fault | None:
        if row == "5":
            return Fault(500)
        return Fault(422, (), b'{"error": {"message": "bad row"}}') if row == "6" else None

    done = night(tmp_path, numbered(30, Seconds="10"), faults, concurrency=10)
    assert (count_lost(done), done.statuses.count("error"), done.statuses.count("success")) == (1, 1, 28)


def of_memories(*memories: str) -> Callable[[ASGIApp], ASGIApp]:
    """Answers that come from services of these memories, in turn."""
    turns = cycle(memories)
    health = {"status": "ok", "features": [IDEMPOTENCY_FEATURE], "idempotency_seconds": 900.0, "memory": memories[0]}

    def within(app: ASGIApp) -> ASGIApp:
        async def answering(scope: Scope, receive: Receive, send: Send) -> None:
            memory = next(turns) if scope["method"] == "POST" else memories[0]
            told = (MEMORY_HEADER.encode(), f"{memory};seconds=900".encode())

            async def saying(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = [(name, value) for name, value in message["headers"] if name != told[0]]
                    message = {**message, "headers": [*headers, told]}
                await send(message)

            if scope["path"] == "/healthz":
                await say(Fault(200, (), json.dumps(health).encode()), saying)
            else:
                await app(scope, receive, saying)

        return answering

    return within


@pytest.mark.parametrize(("memories", "posts"), [(("one", "other"), 1), (("one",), 2)])
def test_two_services_behind_one_address_are_not_trusted(tmp_path: Path, memories: tuple[str, ...], posts: int) -> None:
    """Where answers come from two memories a lost start is not asked for again: it could be a second run."""
    lost_once = Fault(500, taken=True)
    rows = numbered(8, Seconds="0")
    done = night(
        tmp_path, rows, lambda row, n: lost_once if row == "6" and not n else None, within=of_memories(*memories)
    )
    assert done.records[5]["status"] == ("unknown" if posts == 1 else "success")
    assert [post.row for post in done.front.posts].count("6") == posts


@pytest.mark.long
def test_while_a_probe_is_out_nobody_else_starts(tmp_path: Path) -> None:
    """A service that hangs loses each start after a while: until that is known of the probe, no other follows it."""
    begin, out, most = 35.0, set[float](), 0

    def within(app: ASGIApp) -> ASGIApp:
        async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal most
            now = trio.current_time()
            if scope["method"] != "POST" or now < begin or now > 400:
                await app(scope, receive, send)
                return
            out.add(now)
            most = max(most, len(out)) if now > begin + 40 else most
            await trio.sleep(30)
            out.discard(now)
            await say(Fault(500), send)

        return hanging

    done = night(tmp_path, numbered(100, Seconds="10"), within=within, concurrency=5, max_failures="100%")
    assert most == 1
    assert done.statuses.count("success") + count_lost(done) == 100
