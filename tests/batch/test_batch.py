"""Whole batches in virtual time: what the pool does with the rows, and what the service sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nights import Fault, night, numbered

from batch_runner.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
def test_every_row_is_started_once_and_comes_back_in_its_place(tmp_path: Path) -> None:
    """Runs that end in another order than they began still stand beside their own rows."""
    rows = [{"Row": str(n), "Seconds": str(60 - n)} for n in range(1, 41)]
    done = night(tmp_path, rows, concurrency=8)
    assert done.summary.exit_code == ExitCode.OK
    assert [record["result"] for record in done.records] == [f'{{"row":"{n}"}}' for n in range(1, 41)]
    assert set(done.front.starts().values()) == {1}


@pytest.mark.long
def test_never_more_runs_in_flight_than_asked_for(tmp_path: Path) -> None:
    """The service never sees more than `concurrency` runs that have not ended, and all places are used."""
    done = night(tmp_path, numbered(50), concurrency=7)
    assert done.front.peak == 7
    assert done.summary.count("success") == 50


def test_a_rate_holds_in_every_window(tmp_path: Path) -> None:
    """With 5/min no minute sees more than five starts, wherever it begins."""
    done = night(tmp_path, numbered(21), concurrency=20, rate="5/min")
    times = [post.at for post in done.front.posts]
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[5:], strict=False))
    assert done.seconds < 5 * 60


def test_a_429_pauses_all_starts_and_no_row_is_lost(tmp_path: Path) -> None:
    """After `Retry-After: 30` nobody starts for 30 seconds; the refused row is started later, once."""
    limited = Fault(429, (("Retry-After", "30"),), b'{"error": {"code": 429, "message": "too many requests"}}')
    done = night(tmp_path, numbered(12), lambda row, earlier: limited if row == "3" and not earlier else None)
    refused = next(post.at for post in done.front.posts if post.status == 429)
    assert not [post for post in done.front.posts if refused < post.at < refused + 30]
    assert done.summary.count("success") == 12
    assert set(done.front.starts().values()) == {1}


def test_a_refused_row_is_an_error_and_the_others_go_on(tmp_path: Path) -> None:
    """A 422 ends one row as `error` with the service's words; exit 3."""
    bad = Fault(422, (), b'{"error": {"code": 422, "message": "Amount is missing"}}')
    done = night(tmp_path, numbered(5), lambda row, _: bad if row == "2" else None)
    assert done.statuses == ["success", "error", "success", "success", "success"]
    assert "Amount is missing" in done.records[1]["error"]
    assert done.records[1]["run_id"] == ""
    assert done.summary.exit_code == ExitCode.SOME_FAILED


def test_a_lost_answer_is_unknown_and_never_sent_again(tmp_path: Path) -> None:
    """A 500 to a start may hide a run: `unknown`, one POST, exit 4."""
    done = night(tmp_path, numbered(4), lambda row, _: Fault(500, taken=True) if row == "2" else None)
    assert done.statuses == ["success", "unknown", "success", "success"]
    assert [post.row for post in done.front.posts].count("2") == 1
    assert done.summary.exit_code == ExitCode.SOME_UNKNOWN


def test_a_task_declared_safe_is_sent_again(tmp_path: Path) -> None:
    """With `--on-unknown resend` a start whose answer was lost is repeated until it is answered."""
    lost = Fault(500, taken=True)
    done = night(
        tmp_path, numbered(3), lambda row, earlier: lost if row == "2" and earlier < 2 else None, on_unknown="resend"
    )
    assert done.statuses == ["success"] * 3
    assert [post.row for post in done.front.posts].count("2") == 3


def test_a_bad_key_stops_the_batch_at_once(tmp_path: Path) -> None:
    """After a 401 nothing more is started, runs in flight are followed to their end, exit 5, and no row is lost."""
    no = Fault(401, (), b'{"error": {"code": 401, "message": "bad key"}}')
    done = night(tmp_path, numbered(30), lambda row, _: no if int(row) > 3 else None, concurrency=4)
    assert done.summary.exit_code == ExitCode.STOPPED
    assert done.statuses == ["success"] * 3 + ["not_started"] * 27
    assert len(done.front.posts) <= 3 + 4
    assert "ANCHORBROWSER_API_KEY" in (done.summary.stopped or "")


def test_ten_same_errors_in_a_row_stop_the_batch(tmp_path: Path) -> None:
    """Ten starts in a row refused alike, and the eleventh is not tried."""
    bad = Fault(400, (), b'{"error": {"code": 400, "message": "input_params: unknown name"}}')
    done = night(tmp_path, numbered(40), lambda _row, _: bad, concurrency=1)
    assert done.summary.exit_code == ExitCode.STOPPED
    assert len(done.front.posts) == 10
    assert done.statuses[10:] == ["not_started"] * 30


def test_a_failure_limit_stops_starting(tmp_path: Path) -> None:
    """With `--max-failures 3` the third failed row is the last straw."""
    done = night(tmp_path, numbered(30, End="failure"), concurrency=1, max_failures=3)
    assert done.summary.exit_code == ExitCode.STOPPED
    assert done.summary.count("failure") == 3
    assert done.summary.count("not_started") == 27


def test_the_canary_holds_back_the_rest(tmp_path: Path) -> None:
    """When one of the first rows fails, no other row is started."""
    rows = [*numbered(2), {"Row": "3", "Seconds": "1"}, *numbered(20, Seconds="5")[3:]]
    rows = [{"Row": row["Row"], "Seconds": row.get("Seconds", ""), "End": "failure"} for row in rows]
    done = night(tmp_path, rows, canary=2)
    assert done.summary.exit_code == ExitCode.STOPPED
    assert len(done.front.posts) == 2
    assert done.summary.count("not_started") == len(rows) - 2


def test_the_canary_lets_the_rest_go(tmp_path: Path) -> None:
    """When the first rows succeed, all others follow, after them."""
    done = night(tmp_path, numbered(20), canary=3, concurrency=10)
    assert done.summary.exit_code == ExitCode.OK
    assert done.front.posts[3].at >= done.front.posts[0].at + 10


def test_a_deadline_stops_starting_but_not_the_runs(tmp_path: Path) -> None:
    """After the deadline nothing starts; what runs is followed to its end; exit 5."""
    done = night(tmp_path, numbered(100, Seconds="60"), concurrency=2, deadline="150s")
    assert done.summary.exit_code == ExitCode.STOPPED
    assert done.summary.count("success") == 6
    assert done.summary.count("not_started") == 94


def test_a_deadline_that_holds_back_nothing_is_no_stop(tmp_path: Path) -> None:
    """When it passes while the last runs go on and all of them succeed, nothing was stopped: exit 0."""
    done = night(tmp_path, numbered(3, Seconds="600"), deadline="5m")
    assert done.statuses == ["success"] * 3
    assert (done.summary.exit_code, done.summary.stopped) == (ExitCode.OK, None)


def test_a_run_that_takes_too_long_keeps_its_status(tmp_path: Path) -> None:
    """`--run-timeout` ends the following, not the run: the row stays `running`, exit 3."""
    done = night(tmp_path, [{"Row": "1", "Seconds": "99999"}, {"Row": "2", "Seconds": "5"}], run_timeout="10m")
    assert done.statuses == ["running", "success"]
    assert done.summary.exit_code == ExitCode.SOME_FAILED


@pytest.mark.long
def test_runs_of_hours_are_followed(tmp_path: Path) -> None:
    """A run of five hours is seen to its end, with few polls."""
    done = night(tmp_path, [{"Row": "1", "Seconds": "18000"}], run_timeout="6h")
    assert done.statuses == ["success"]


def test_a_sheet_of_zero_rows_is_fine(tmp_path: Path) -> None:
    """Nothing to do is 0, with an output that has the headers."""
    done = night(tmp_path, [])
    assert done.summary.exit_code == ExitCode.OK
    assert (tmp_path / "sheet.results.csv").read_text() == "Row,Seconds,run_id,status,result,error\n"
