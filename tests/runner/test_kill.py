"""Killed with SIGKILL at any boundary and run again: no row runs twice, none is lost, `unknown` is the exception."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from kept_promises import assert_kept, assert_really_lost, known_runs, lost_rows, numbered, write_sheet
from killing import Moment, exit_code, run, start
from remembering_service import Service, on_a_socket
from systems import KILL, KILLED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = {1: 3, 25: 26}
"""How many rows, by concurrency."""
NTH = {1: 2, 25: 10}
"""Which row is on its way when it happens: one that has rows before it and after it."""
POLLS = {1: (3, 4), 25: (2, 40)}
LOSING = {
    Moment("after", "intent commit", 2),
    Moment("before", "send", 2),
    Moment("after", "send", 2),
    Moment("before", "run-id commit", 2),
}
"""With one row at a time: where a kill loses the answer to the start of that row."""
LOSING_NEXT = Moment("after", "outcome commit", 2)
"""Here the row's end is on disk, and with it the intent of the row after it, which has its slot."""


@pytest.fixture
def service() -> Iterator[Service]:
    """A service whose runs end at their second poll."""
    with on_a_socket(Service(looks=2)) as service:
        yield service


def moments(ending: str, concurrency: int) -> Iterator[Moment]:
    """Both sides of every boundary. The journal's making has the first fsync and rename, the output the others."""
    nth = NTH[concurrency]
    for side in ("before", "after"):
        for boundary in ("intent commit", "send", "run-id commit", "outcome commit"):
            yield Moment(side, boundary, nth)
        for poll in POLLS[concurrency]:
            yield Moment(side, "poll", poll)
        for boundary in ("output", f"{ending} write", "check", "last commit"):
            yield Moment(side, boundary)
        for boundary, calls in (("fsync", (1, 2, 3)), ("rename", (1, 2))):
            for call in calls:
                yield Moment(side, boundary, call)


CELLS = [
    pytest.param(
        ending,
        concurrency,
        moment,
        id=f"{ending}-{concurrency}-{moment.side} {moment.boundary} {moment.nth}",
        marks=() if (ending, concurrency) == ("csv", 1) else pytest.mark.long,
    )
    for ending in ("csv", "xlsx")
    for concurrency in ROWS
    for moment in moments(ending, concurrency)
]


def command(ending: str, concurrency: int, service: Service) -> list[str]:
    """The same command, every time."""
    where = ["run", f"list.{ending}", "--task", "pay", "--service", service.url]
    return [*where, "--concurrency", str(concurrency), "--poll-rate", "1000/s"]


@pytest.mark.long
@pytest.mark.parametrize(("ending", "concurrency", "moment"), CELLS)
def test_killed_at_a_boundary(ending: str, concurrency: int, moment: Moment, tmp_path: Path, service: Service) -> None:
    """The child dies at the moment; the same command ends what it began."""
    rows = numbered(ROWS[concurrency])
    write_sheet(tmp_path / f"list.{ending}", rows)
    again = command(ending, concurrency, service)
    assert run(tmp_path, again, moment) == KILLED
    lost = goes_on(tmp_path, again, rows, service)
    if concurrency == 1:
        assert lost == ({NTH[1] - 1} if moment in LOSING else {NTH[1]} if moment == LOSING_NEXT else set())


@pytest.mark.long
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("concurrency", ROWS)
@pytest.mark.parametrize("side", ["read", "answered"])
def test_killed_on_the_way(ending: str, concurrency: int, side: str, tmp_path: Path, service: Service) -> None:
    """It dies when the service has read a start, or has just answered it: what the client can't know is `unknown`."""
    rows = numbered(ROWS[concurrency])
    write_sheet(tmp_path / f"list.{ending}", rows)
    again = command(ending, concurrency, service)
    killed: list[int] = []

    def kill(number: int) -> None:
        if number == NTH[concurrency] and not killed:
            assert child.pid is not None
            killed.append(child.pid)
            os.kill(child.pid, KILL)

    setattr(service, side, kill)
    child = start(tmp_path, again)
    assert exit_code(child) == KILLED
    lost = goes_on(tmp_path, again, rows, service)
    if (side, concurrency) == ("read", 1):
        assert lost == {NTH[1] - 1}


def goes_on(folder: Path, again: list[str], rows: list[tuple[str, str]], service: Service) -> set[int]:
    """Run the same command to its end and check all that must hold; gives the rows whose answers were lost."""
    output = folder / again[1].replace(".", ".results.")
    journal = folder / "pay.journal.db"
    lost = lost_rows(journal)
    assert_really_lost(lost, rows, known_runs(journal), service)
    assert run(folder, again) == (4 if lost else 0), (folder / "said.txt").read_text()
    assert_kept(output, rows, service, lost)
    assert {path.name for path in folder.iterdir()} == {again[1], output.name, journal.name, "said.txt"}
    return lost
