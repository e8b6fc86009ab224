"""Killed at random times, and in nights that send rows again on purpose: only a person's word starts a row twice."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest
from kept_promises import (
    assert_kept,
    assert_really_lost,
    known_runs,
    lost_rows,
    numbered,
    read_output,
    write_sheet,
)
from killing import Moment, exit_code, run, start
from program import run_program
from remembering_service import Service, on_a_socket
from systems import KILLED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = int(os.environ.get("KILLS", "100"))
"""Kills at random times; the journal by itself has as many (`test_journal_kill.py`)."""
KILLS_A_SHEET = 20


def fails_first(row: str, start: int) -> str:
    """Each row's first run fails, the others succeed."""
    return "failure" if start == 1 else "success"


@pytest.fixture
def failing() -> Iterator[Service]:
    """A service where each row succeeds at its second start."""
    with on_a_socket(Service(looks=2, ends=fails_first)) as service:
        yield service


def command(service: Service, *more: str, sheet: str = "list.csv", concurrency: int = 1) -> list[str]:
    where = ["run", sheet, "--task", "pay", "--service", service.url, "--poll-rate", "1000/s"]
    return [*where, "--concurrency", str(concurrency), *more]


@pytest.mark.long
@pytest.mark.soak
def test_kills_at_random_times(tmp_path: Path) -> None:
    """Sheet after sheet, each batch killed again and again at any time, then left to end."""
    chance = random.Random(11)
    kills = sheets = 0
    while kills < KILLS:
        sheets += 1
        folder = tmp_path / str(sheets)
        folder.mkdir()
        sheet = chance.choice(["list.csv", "list.xlsx"])
        rows = numbered(chance.randrange(50, 500))
        write_sheet(folder / sheet, rows)
        with on_a_socket(Service(looks=chance.choice([1, 3]))) as service:
            again = command(service, sheet=sheet, concurrency=chance.choice([1, 5, 25, 100]))
            kills += kill_until_it_ends(folder, again, rows, service, chance)
    assert sheets > KILLS // KILLS_A_SHEET // 2


def kill_until_it_ends(
    folder: Path, again: list[str], rows: list[tuple[str, str]], service: Service, chance: random.Random
) -> int:
    """Kill the batch at random times, at most `KILLS_A_SHEET` times, and let it end; gives how often it was killed."""
    journal, output = folder / "pay.journal.db", folder / again[1].replace(".", ".results.")
    lost: set[int] = set()
    kills = 0
    while kills < KILLS_A_SHEET:
        child = start(folder, again)
        time.sleep(chance.uniform(0.0, 0.7))
        child.kill()
        code = exit_code(child)
        if code != KILLED:
            assert code in (0, 4), (folder / "said.txt").read_text()
            break
        kills += 1
        lost |= lost_rows(journal)
        assert_really_lost(lost, rows, known_runs(journal), service)
        assert max(service.starts_of.values(), default=0) <= 1
    assert run(folder, again) == (4 if lost else 0)
    assert_kept(output, rows, service, lost)
    return kills


SECOND = {
    "before intent commit": (Moment("before", "intent commit", 2), None, 2),
    "after intent commit": (Moment("after", "intent commit", 2), 1, 1),
    "after send": (Moment("after", "send", 2), 1, 2),
    "before run-id commit": (Moment("before", "run-id commit", 2), 1, 2),
    "after run-id commit": (Moment("after", "run-id commit", 2), None, 2),
    "during its polls": (Moment("after", "poll", 3), None, 2),
    "before outcome commit": (Moment("before", "outcome commit", 2), None, 2),
    "after outcome commit": (Moment("after", "outcome commit", 2), 2, 1),
}
"""When the second attempt of the second row is killed; which row is unknown in the end, if any, and its starts.

The commit of a row's end holds the intent of the next one, which has its slot.
"""


@pytest.mark.long
@pytest.mark.parametrize("name", SECOND)
def test_killed_during_a_second_attempt(name: str, tmp_path: Path, failing: Service) -> None:
    """`--retry failure` sends each row once more, and only once, however that night is interrupted."""
    moment, lost, starts = SECOND[name]
    code = 0 if lost is None else 4
    expected = {f"r{row}": starts if row == lost else 2 for row in range(3)}
    write_sheet(tmp_path / "list.csv", numbered(3))
    assert run(tmp_path, command(failing)) == 3
    again = command(failing, "--retry", "failure", "--retry-wait", "0")
    assert run(tmp_path, again, moment) == KILLED
    assert run(tmp_path, again) == code
    records = read_output(tmp_path / "list.results.csv")
    assert [record.status for record in records] == ["unknown" if row == lost else "success" for row in range(3)]
    assert failing.starts_of == expected
    assert run(tmp_path, again) == code
    assert failing.starts_of == expected


@pytest.mark.long
def test_each_attempt_is_kept(tmp_path: Path, failing: Service) -> None:
    """`status --row` tells of both attempts, each with its own run, although a kill lay between start and end."""
    write_sheet(tmp_path / "list.csv", numbered(3))
    run(tmp_path, command(failing))
    again = command(failing, "--retry", "failure", "--retry-wait", "0")
    run(tmp_path, again, Moment("after", "poll", 3))
    run(tmp_path, again)
    told = run_program("status", "pay.journal.db", "--row", "3", cwd=tmp_path).stdout
    runs = [run_id for run_id, row in failing.rows.items() if row == "r1"]
    assert len(runs) == 2
    assert "2 attempts" in told
    assert told.index("failure") < told.index(f"run {runs[0]}") < told.index("success") < told.index(f"run {runs[1]}")


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "codes"),
    [(("--on-unknown", "resend"), (0, 0)), (("--retry", "unknown", "--retry-wait", "0"), (0, 0)), ((), (4, 4))],
)
def test_a_lost_start_is_sent_again_when_a_person_says_so(
    words: tuple[str, ...], codes: tuple[int, int], tmp_path: Path
) -> None:
    """`--on-unknown resend` or `--retry unknown` start the lost row anew, once; without such words it stays."""
    with on_a_socket(Service(looks=2)) as service:
        write_sheet(tmp_path / "list.csv", numbered(3))
        assert run(tmp_path, command(service), Moment("after", "send", 2)) == KILLED
        assert [run(tmp_path, command(service, *words)) for _ in range(2)] == list(codes)
        assert service.starts_of == {"r0": 1, "r1": 2 if words else 1, "r2": 1}
        record = read_output(tmp_path / "list.results.csv")[1]
    assert (record.status, record.run_id) == (("success", "run-3") if words else ("unknown", ""))


@pytest.mark.long
def test_resend_survives_a_kill_of_its_own(tmp_path: Path) -> None:
    """With `--on-unknown resend` a task that is safe to repeat gets to its end through any number of kills."""
    with on_a_socket(Service(looks=2)) as service:
        write_sheet(tmp_path / "list.csv", numbered(3))
        again = command(service, "--on-unknown", "resend")
        for _ in range(3):
            assert run(tmp_path, again, Moment("before", "run-id commit", 1)) == KILLED
        assert run(tmp_path, again) == 0
        assert service.starts_of == {"r0": 4, "r1": 1, "r2": 1}
        assert [record.run_id for record in read_output(tmp_path / "list.results.csv")] == ["run-4", "run-5", "run-6"]
