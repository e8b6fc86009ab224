"""Whole batches over a real socket and a service that answers strangely: reported per row, no crash, never endless."""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import to_thread
from openpyxl import load_workbook
from program import run_process
from scripted_server import answer, serving

from batch_runner.errors import ExitCode
from batch_runner.job.job import Job
from batch_runner.runner.run import run_batch
from batch_runner.service.http import response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scripted_server import Connection

    from batch_runner.report.summary import Summary

    Says = Callable[[str, int], bytes]
    """The whole answer to a row's start (0) or to its poll of that number (from 1)."""

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("impatient")]

LARGE = "x" * 10_000_000


def run(row: str, status: str, **more: object) -> bytes:
    """The answer that tells a run."""
    return answer(json.dumps({"run_id": f"run-{row}", "status": status, **more}).encode())


async def batch(
    folder: Path, rows: list[str], says: Says, **options: object
) -> tuple[Summary, dict[str, dict[str, str]], Counter[str]]:
    """Run a sheet of these rows: the summary, the output's records by row, and how often each was started."""
    starts: Counter[str] = Counter()
    polls: Counter[str] = Counter()

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            if request.startswith(b"POST "):
                row = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]["Row"]
                starts[row] += 1
                said = says(row, 0)
            else:
                row = request.split()[1].split(b"/")[-2].decode().removeprefix("run-")
                polls[row] += 1
                said = says(row, polls[row])
            if not said:
                connection.reset()
                return
            await connection.send(said)

    (folder / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in rows))
    async with serving(script) as server:
        job = Job(input=str(folder / "sheet.csv"), task="t", service=server.url, poll_rate="1000/s", **options)  # type: ignore[arg-type]
        summary = await run_batch(job)
    path = job.output_path
    if path.suffix != ".csv":
        return summary, {}, starts
    csv.field_size_limit(2**27)
    with path.open(newline="") as file:
        return summary, {record["Row"]: record for record in csv.DictReader(file)}, starts


STARTS = {
    "good": run("good", "success", result=1),
    "no-status": answer(b'{"run_id": "run-no-status"}'),
    "no-id": answer(b'{"status": "queued"}'),
    "no-json": answer(b"OK"),
    "empty": answer(b""),
    "html": answer(b"<html><title>Sign in</title></html>"),
    "list": answer(b"[]"),
    "redirect": answer(b"", 302, "Location: http://127.0.0.1:1/elsewhere"),
    "moved": answer(b"", 308, "Location: http://127.0.0.1:1/elsewhere"),
    "reset": b"",
    "own-word": run("own-word", "pending_review"),
    "result-a-list": run("result-a-list", "success", result=[1, "two"], cost=3),
    "error-an-object": run("error-an-object", "failure", error={"code": 7, "message": "no such invoice"}),
    "200-with-an-error": answer(b'{"error": {"code": 500, "message": "later"}}'),
}
EXPECTED = {
    **dict.fromkeys(("good", "no-status", "own-word", "result-a-list"), "success"),
    **dict.fromkeys(("no-id", "no-json", "empty", "html", "list", "reset"), "unknown"),
    **dict.fromkeys(("redirect", "moved"), "error"),
    "200-with-an-error": "unknown",
    "error-an-object": "failure",
}


@pytest.mark.long
async def test_starts_that_are_answered_strangely(tmp_path: Path) -> None:
    """An answer that names no run leaves its row `unknown`, with what was said; no start is repeated or redirected."""
    summary, records, starts = await batch(
        tmp_path, list(STARTS), lambda row, poll: run(row, "success") if poll else STARTS[row], max_failures="100%"
    )
    assert {row: record["status"] for row, record in records.items()} == EXPECTED
    assert set(starts.values()) == {1}
    assert all(bool(record["error"]) == (record["status"] != "success") for record in records.values())
    assert records["html"]["error"].endswith("Sign in")
    assert "302" in records["redirect"]["error"]
    assert records["error-an-object"]["error"] == "no such invoice"
    assert json.loads(records["result-a-list"]["result"]) == [1, "two"]
    assert summary.exit_code == ExitCode.SOME_UNKNOWN


POLLS = {
    "backwards": [run("backwards", "running"), run("backwards", "queued"), run("backwards", "running")],
    "own-words": [run("own-words", "paused"), run("own-words", ""), run("own-words", "Läuft")],
    "broken": [answer(b"oops", 500), answer(b"{", 200), answer(b"<p>no", 504), b"", answer(b"", 302, "Location: /x")],
    "another-run": [run("somebody", "success", result="not yours"), run("somebody", "failure")],
    "no-status": [answer(b'{"run_id": "run-no-status"}'), answer(b"null"), answer(b"{}")],
}


async def test_polls_that_are_answered_strangely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tells nothing of this run is asked again; the end that comes at last is the row's."""
    monkeypatch.setattr("random.Random.uniform", lambda *_: 0.0)

    def says(row: str, poll: int) -> bytes:
        if not poll:
            return run(row, "queued")
        return POLLS[row][poll - 1] if poll <= len(POLLS[row]) else run(row, "success", result=row)

    summary, records, starts = await batch(tmp_path, list(POLLS), says)
    assert [record["status"] for record in records.values()] == ["success"] * len(POLLS)
    assert [json.loads(record["result"]) for record in records.values()] == list(POLLS)
    assert set(starts.values()) == {1}
    assert summary.exit_code == ExitCode.OK


@pytest.mark.long
async def test_answers_that_never_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is read for so long and no longer: a start is lost then, and a run is asked for again."""
    monkeypatch.setattr(response, "LONGEST_READ", 0.2)
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"

    def says(row: str, poll: int) -> bytes:
        if row == "start" or poll == 1:
            return endless
        return run(row, "success" if poll else "queued")

    _, records, starts = await batch(tmp_path, ["start", "poll"], says)
    assert [record["status"] for record in records.values()] == ["unknown", "success"]
    assert "the service said 200, and no more" in records["start"]["error"]
    assert set(starts.values()) == {1}


@pytest.mark.long
async def test_results_of_ten_megabytes_in_csv(tmp_path: Path) -> None:
    """They come back whole, told with the start or with a poll."""
    summary, records, _ = await batch(
        tmp_path,
        ["a", "b"],
        lambda row, poll: run(row, "success", result=row + LARGE) if poll or row == "a" else run(row, "queued"),
    )
    assert summary.exit_code == ExitCode.OK
    assert [json.loads(records[row]["result"]) == row + LARGE for row in "ab"] == [True, True]


@pytest.mark.long
async def test_results_of_ten_megabytes_in_a_workbook(tmp_path: Path) -> None:
    """A cell holds what a cell can, says where the rest is, and the rest is there."""
    output = tmp_path / "sheet.results.xlsx"
    summary, _, _ = await batch(
        tmp_path, ["a", "b"], lambda row, _: run(row, "success", result=row + LARGE), output=str(output)
    )
    sheet = load_workbook(output).active
    assert sheet is not None
    cells = [sheet.cell(number, 4).value for number in (2, 3)]
    assert all(isinstance(cell, str) and len(cell) <= 32_767 and "sheet.long.jsonl" in cell for cell in cells), (
        sheet.title
    )
    lines = [json.loads(line) for line in (tmp_path / "sheet.long.jsonl").read_text().splitlines()]
    assert [(line["row"], line["column"]) for line in lines] == [(2, "result"), (3, "result")]
    assert [json.loads(line["text"]) == row + LARGE for row, line in zip("ab", lines, strict=True)] == [True, True]
    assert any("sheet.long.jsonl" in note for note in summary.notes)


async def test_an_id_of_megabytes_makes_no_line_of_megabytes(tmp_path: Path) -> None:
    """The run is what it is, and the log says how long its id was."""
    (tmp_path / "sheet.csv").write_text("Row\n1\n")
    huge = "r" * 3_000_000

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.send(answer(json.dumps({"run_id": huge, "status": "success"}).encode()))

    async with serving(script) as server:
        words = ("run", "sheet.csv", "--task", "t", "--service", server.url, "--log-level", "debug")
        done = await to_thread.run_sync(partial(run_process, *words, "--progress", "never", cwd=tmp_path))
    assert done.returncode == 0, done.stderr[:2000]
    assert huge in (tmp_path / "sheet.results.csv").read_text("utf-8")
    assert max(map(len, done.stderr.splitlines())) < 25_000
    assert "(3000000 characters)" in done.stderr
