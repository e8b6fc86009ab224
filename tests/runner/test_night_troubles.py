"""Whole batches on bad nights, in virtual time: outages, lost runs, deadlines on two clocks, long answers, stops."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, tzinfo
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

import httpx
import pytest
import trio
from nights import Fault, Night, night, numbered, say
from plans import Polls, Slots

from batch_runner.batch import stop
from batch_runner.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

OOPS = Fault(502, (), b"<html><title>Bad gateway</title></html>")
BUSY = Fault(503, (("Retry-After", "1"),))
GONE = Fault(404, (), b'{"error": {"code": 404, "message": "no such run"}}')
BERLIN = ZoneInfo("Europe/Berlin")


def test_polls_that_fail_for_ten_minutes_are_waited_out(tmp_path: Path) -> None:
    """An outage changes no status, polls get rarer in it, and the runs' ends are seen after it."""
    polls: list[Polls] = []

    def sick(app: ASGIApp) -> Polls:
        polls.append(Polls(app, lambda at: OOPS if 30 < at < 630 else None))
        return polls[-1]

    done = night(tmp_path, numbered(5, Seconds="60"), within=sick)
    assert done.statuses == ["success"] * 5
    assert done.summary.exit_code == ExitCode.OK
    assert len(polls[0].times) < 5 * 70
    assert done.seconds < 630 + 70


@pytest.mark.parametrize(
    ("code", "advice"), [(401, "check the key"), (402, "no credits left"), (403, "may not run this task")]
)
def test_a_key_that_is_refused_in_mid_batch(tmp_path: Path, code: int, advice: str) -> None:
    """A poll says it as well as a start: nothing more is started (5), and what goes on keeps its status."""
    body = b'{"error": {"code": 403, "message": "Invalid API key"}}' if code == 403 else b""
    sick = partial(Polls, faults=lambda at: Fault(code, (), body) if at > 30 else None)
    done = night(tmp_path, numbered(6, Seconds="60"), within=sick, concurrency=2)
    assert done.statuses == ["running"] * 2 + ["not_started"] * 4
    assert done.summary.exit_code == ExitCode.STOPPED
    assert advice in str(done.summary.stopped)
    assert len(done.front.posts) == 2


def test_a_403_to_polls_is_believed_when_the_next_get_it_too(tmp_path: Path) -> None:
    """Without a word of the key a third run tells that it is every run's; few are started until then."""
    sick = partial(Polls, faults=lambda at: Fault(403) if at > 30 else None)
    done = night(tmp_path, numbered(30, Seconds="60"), within=sick, concurrency=2)
    assert done.summary.exit_code == ExitCode.STOPPED
    assert "may not run this task" in str(done.summary.stopped)
    assert 3 <= len(done.front.posts) <= 6


def test_a_403_to_one_runs_polls_is_its_rows_alone(tmp_path: Path) -> None:
    """A firewall's page in the place of a run's status keeps that row's status, and stops nobody else."""
    lost: set[str] = set()

    def within(app: ASGIApp) -> ASGIApp:
        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == "GET" and "/status" in scope["path"]:
                lost.update([] if lost else [scope["path"]])
                if scope["path"] in lost:
                    await say(Fault(403, (), b"<title>Request blocked</title>"), send)
                    return
            await app(scope, receive, send)

        return front

    done = night(tmp_path, numbered(20, Seconds="60"), within=within, concurrency=2)
    assert sorted(Counter(done.statuses).values()) == [1, 19]
    assert done.statuses.count("success") == 19
    assert done.summary.exit_code == ExitCode.SOME_FAILED


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (OOPS, "502: Bad gateway"),
        (Fault(200, (), b"<p>Please sign in</p>"), "told no run: Please sign in"),
        (Fault(200, (), b'{"run_id": "another", "status": "success"}'), "told of another run, another"),
    ],
)
def test_runs_that_cannot_be_asked_for_an_hour_are_given_up(tmp_path: Path, fault: Fault, why: str) -> None:
    """A run that can't be asked for a quarter of an hour keeps its status with the reason; the batch ends (3)."""
    sick = partial(Polls, faults=lambda at: fault if at > 30 else None)
    done = night(tmp_path, numbered(3, Seconds="60"), within=sick)
    assert done.statuses == ["running"] * 3
    assert all(why in record["error"] and record["run_id"] for record in done.records)
    assert done.summary.exit_code == ExitCode.SOME_FAILED
    assert 900 < done.seconds < 1000
    assert len(done.front.posts) == 3


def test_a_run_that_vanishes_is_unknown(tmp_path: Path) -> None:
    """A 404 on a run is asked about for 30 s; then the row is `unknown`, with its run id and the reason (4)."""
    done = night(tmp_path, numbered(2), within=lambda app: Polls(app, lambda _: GONE))
    assert done.statuses == ["unknown"] * 2
    assert all("the run is gone" in record["error"] and record["run_id"] for record in done.records)
    assert done.summary.exit_code == ExitCode.SOME_UNKNOWN
    assert 30 <= done.seconds < 45


def test_a_sync_start_is_answered_after_long(tmp_path: Path) -> None:
    """With `--sync` one request lasts as long as its run, no run is polled, and concurrency holds all the same."""
    polls: list[Polls] = []

    def counted(app: ASGIApp) -> Polls:
        polls.append(Polls(app, lambda _: None))
        return polls[-1]

    done = night(tmp_path, numbered(6, Seconds="1500"), within=counted, sync=True, concurrency=2)
    assert done.statuses == ["success"] * 6
    assert polls[0].times == []
    assert 3 * 1500 <= done.seconds < 3 * 1500 + 10


class Wall(datetime):
    """A wall clock that goes with the virtual one from `begin`, and jumps by `jump` after `jump_after` seconds."""

    begin = datetime(2026, 3, 28, 23, 0, tzinfo=BERLIN)
    jump_after = inf
    jump = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        elapsed = trio.current_time()
        moment = cls.begin.timestamp() + elapsed
        if elapsed >= cls.jump_after:
            moment += cls.jump.total_seconds()
        return cls.fromtimestamp(moment, tz)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch, in_zone: Callable[[str], None]) -> Iterator[type[Wall]]:
    """The batch's wall clock, in Berlin, in the night in which it is put forward from 02:00 to 03:00."""
    with monkeypatch.context() as patch:
        in_zone("Europe/Berlin")
        patch.setattr(stop, "datetime", Wall)
        patch.setattr(Wall, "jump_after", inf)
        patch.setattr(Wall, "jump", timedelta())
        yield Wall


def begun_before(done: Night, seconds: float) -> bool:
    """Whether starting stopped at that time and not before the run before it had ended."""
    return seconds - 650 < max(post.at for post in done.front.posts) < seconds


@pytest.mark.long
def test_a_deadline_in_the_night_the_clock_is_put_forward(tmp_path: Path, wall: type[Wall]) -> None:
    """From 23:00 it is six hours, not seven, to 06:00; what runs then is followed to its end (5)."""
    done = night(tmp_path, numbered(60, Seconds="600"), deadline="06:00", concurrency=1)
    assert begun_before(done, 6 * 3600)
    assert done.summary.exit_code == ExitCode.STOPPED
    assert done.summary.count("success") == len(done.front.posts) == 60 - done.summary.count("not_started")


@pytest.mark.long
def test_a_laptop_that_slept_past_the_deadline(tmp_path: Path, wall: type[Wall]) -> None:
    """The monotonic clock stood still for eight hours, the wall clock didn't: the deadline is over."""
    wall.jump_after, wall.jump = 3000, timedelta(hours=8)
    done = night(tmp_path, numbered(30, Seconds="600"), deadline="2h", concurrency=1)
    assert begun_before(done, 3000)
    assert done.summary.exit_code == ExitCode.STOPPED


@pytest.mark.long
def test_a_clock_set_back(tmp_path: Path, wall: type[Wall]) -> None:
    """The wall clock would reach the deadline ten hours late: the time that has passed counts."""
    wall.jump_after, wall.jump = 3000, timedelta(hours=-10)
    done = night(tmp_path, numbered(30, Seconds="600"), deadline="2h", concurrency=1)
    assert begun_before(done, 7200)
    assert done.summary.exit_code == ExitCode.STOPPED


def unreachable(app: ASGIApp) -> ASGIApp:
    """A service to which no connection is made."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        raise httpx.ConnectError("Connection refused")

    return refuse


def test_a_service_that_is_never_reached(tmp_path: Path) -> None:
    """After half a minute without one yes the batch ends (5) with one sentence; nothing was started."""
    done = night(tmp_path, numbered(50), within=unreachable)
    assert done.statuses == ["not_started"] * 50
    assert done.summary.exit_code == ExitCode.STOPPED
    assert 30 <= done.seconds < 60
    assert "no start has got through for" in (done.summary.stopped or "")


def test_a_service_that_refuses_for_an_hour_after_it_worked(tmp_path: Path) -> None:
    """Once it has said yes it is waited for a quarter of an hour; then the rest is `not_started` (5)."""
    later = Fault(429, (), b'{"error": {"code": 429, "message": "Too Many Requests"}}')
    done = night(tmp_path, numbered(50), lambda row, _: later if int(row) > 10 else None)
    assert done.summary.count("success") == 10
    assert done.summary.count("not_started") == 40
    assert done.summary.exit_code == ExitCode.STOPPED
    assert 900 <= done.seconds < 1000


def test_a_night_that_begins_in_a_used_up_window(tmp_path: Path) -> None:
    """A service that says twice to wait before its first yes is there: it is waited for."""
    starts: list[str] = []

    def twice(row: str, earlier: int) -> Fault | None:
        starts.append(row)
        return Fault(429, (("Retry-After", "40"),)) if len(starts) <= 2 else None

    done = night(tmp_path, numbered(6), twice)
    assert done.statuses == ["success"] * 6
    assert 80 < done.seconds < 110


def test_one_no_after_a_long_quiet_is_no_outage(tmp_path: Path) -> None:
    """Where starts are hours apart, one that is refused is tried again: nobody has been refusing all that time."""
    done = night(tmp_path, numbered(4), lambda row, earlier: BUSY if row == "3" and not earlier else None, rate="1/h")
    assert done.statuses == ["success"] * 4


def test_a_long_pause_may_be_told_a_little_too_short(tmp_path: Path) -> None:
    """After 50 minutes that the service asked for, one more second that it asks for is waited for, too."""
    pauses = iter(["3000", "1"])

    def twice(row: str, earlier: int) -> Fault | None:
        pause = next(pauses, None) if int(row) > 2 else None
        return Fault(429, (("Retry-After", pause),)) if pause else None

    done = night(tmp_path, numbered(4), twice, concurrency=1)
    assert done.statuses == ["success"] * 4
    assert 3001 < done.seconds < 3100


@pytest.mark.long
def test_resending_ends(tmp_path: Path) -> None:
    """A start that is lost each time is sent twenty times at most, even where that is harmless; others go on."""
    lost = Fault(500, taken=True)
    done = night(tmp_path, numbered(200), lambda row, _: lost if row == "2" else None, on_unknown="resend")
    assert done.statuses == ["success", "unknown", *["success"] * 198]
    assert [post.row for post in done.front.posts].count("2") == 20


def test_waiting_for_a_place_is_no_outage(tmp_path: Path) -> None:
    """Four places are taken for half an hour: who was refused for that long before meets one more no, and goes on."""
    noes: list[float] = []

    def once(row: str, earlier: int) -> Fault | None:
        if trio.current_time() < 1000 or noes:
            return None
        noes.append(trio.current_time())
        return BUSY

    rows = numbered(12, Seconds="1800")
    done = night(tmp_path, rows, once, within=lambda app: Slots(app, 4), concurrency=12, run_timeout="1h")
    assert done.statuses == ["success"] * 12
    assert len(noes) == 1


def test_a_pause_until_tomorrow_is_for_another_batch(tmp_path: Path) -> None:
    """A quota of the day is used up: the batch follows what runs and ends (5), and says for how long it would wait."""
    later = Fault(429, (("Retry-After", "36000"),), b'{"error": {"code": 429, "message": "daily quota"}}')
    done = night(tmp_path, numbered(20), lambda row, _: later if int(row) > 3 else None)
    assert done.statuses == ["success"] * 3 + ["not_started"] * 17
    assert done.summary.exit_code == ExitCode.STOPPED
    assert "daily quota; it asks for a pause of 10.0 h" in (done.summary.stopped or "")
    assert done.seconds < 20


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "check the key"), (402, "no credits left"), (403, "may not run this task"), (404, "check --task")],
)
def test_what_would_refuse_every_row_stops_at_once(tmp_path: Path, status: int, advice: str) -> None:
    """The row and the rest are `not_started`, what runs is followed to its end (5), and a person is told what to do."""
    no = Fault(status, (), b'{"error": {"code": 0, "message": "no"}}')
    done = night(tmp_path, numbered(30, Seconds="100"), lambda row, _: no if int(row) > 3 else None)
    assert done.statuses == ["success"] * 3 + ["not_started"] * 27
    assert done.summary.exit_code == ExitCode.STOPPED
    assert advice in (done.summary.stopped or "")
    assert len(done.front.posts) <= 3 + 5


def test_a_stop_reaches_all_who_wait_for_a_turn(tmp_path: Path) -> None:
    """One start a minute, fifty rows waiting, the third is told that the key is bad: all end in that moment."""
    no = Fault(403, (), b'{"error": {"code": 403, "message": "not your API key"}}')
    done = night(tmp_path, numbered(80), lambda row, _: no if row == "3" else None, rate="1/min", concurrency=50)
    assert done.statuses == ["success"] * 2 + ["not_started"] * 78
    assert done.seconds < 121


def test_a_share_of_failures_stops(tmp_path: Path) -> None:
    """`--max-failures 10%` of forty rows: the fourth failure is the last, and successes between don't matter."""
    rows = [{"Row": str(row), "Seconds": "5", "End": "failure" if row % 2 else ""} for row in range(1, 41)]
    done = night(tmp_path, rows, max_failures="10%", concurrency=1)
    assert done.summary.count("failure") == 4
    assert done.summary.count("not_started") == 40 - 7
    assert done.summary.exit_code == ExitCode.STOPPED
