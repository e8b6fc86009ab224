"""The plan that `check` prints is what `run` does, for any sheet, journal and options."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program import run_program

from batch_runner.cli import run_arguments
from batch_runner.runner.adjust import told_ahead
from batch_runner.units import local_day

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = """
async def work(params):
    with open({paid!r}, "a") as paid:
        print(params.get("Id", ""), file=paid)
    if params.get("Ends") == "fails":
        raise ValueError("no")
    return {{}}
"""
rows = st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from(["", "fails"]), st.sampled_from("xy")), max_size=6)
options = st.fixed_dictionaries(
    {},
    optional={
        "--retry": st.sampled_from(["failure", "all", "changed", "failure,changed"]),
        "--retry-wait": st.sampled_from(["0", "1h"]),
        "--retry-limit": st.sampled_from(["1", "2"]),
        "--unique": st.just("Id"),
        "--limit": st.sampled_from(["1", "3"]),
        "--rows": st.just("2-4"),
    },
)
nights = st.lists(st.tuples(rows, options), min_size=1, max_size=4)


def program(*arguments: str) -> dict[str, Any]:
    """What the program prints as one JSON object."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()):
        run_arguments([*arguments, "--json"])
    told: dict[str, Any] = json.loads(out.getvalue())
    return told


def starts(paid: Path) -> int:
    return len(paid.read_text().splitlines()) if paid.exists() else 0


@pytest.mark.long
@settings(deadline=None)
@given(nights, st.booleans())
def test_check_counts_what_run_sends(nights: list[tuple[list[Any], dict[str, str]]], has_key: bool) -> None:
    """Each night: rows to start and to start again are the starts of the run after it, and all rows are counted."""
    with tempfile.TemporaryDirectory() as name:
        folder, paid = Path(name), Path(name) / "paid.txt"
        (folder / "task.py").write_text(TASK.format(paid=str(paid)))
        for number, (sheet, chosen) in enumerate(nights):
            lines = ["Id,Ends,Note", *(",".join(row) for row in sheet)]
            (folder / "in.csv").write_text("\n".join(lines) + "\n")
            more = [word for pair in chosen.items() for word in pair] + (["--key", "Id"] if has_key else [])
            call = (str(folder / "in.csv"), "--task", f"{folder}/task.py:work", *more)
            checked = program("check", *call)
            before = starts(paid)
            ran = program("run", *call, "--progress", "never")
            plan = checked["plan"]
            assert plan["start"] + plan["retried"] == starts(paid) - before, (number, plan)
            assert sum(plan.values()) == ran["rows"]
            assert plan["parked"] == ran["parked"]["rows"]
            assert plan["held"] == ran["duplicates"]["rows"]


def line(folder: Path, *words: str, progress: str = "auto") -> str:
    """What the program says on stderr before all else."""
    done = run_program("run", *words, "--progress", progress, cwd=folder)
    return done.stderr.partition("\n")[0]


def test_the_first_line_counts_the_whole_sheet(tmp_path: Path) -> None:
    """Far below the first chunk, too: what starts, is carried over, started again and held, with the earlier night."""
    (tmp_path / "task.py").write_text(TASK.format(paid=str(tmp_path / "paid.txt")))
    ids = [f"{number:04}" for number in range(400)]
    sheet = tmp_path / "in.csv"

    def write(rows: list[str]) -> None:
        sheet.write_text("\n".join(["Id,Ends,Note", *rows]) + "\n")

    write([f"{one},{'fails' if one >= '0390' else ''},x" for one in ids])
    words = ("in.csv", "--task", "task.py:work", "--key", "Id")
    assert line(tmp_path, *words, progress="always") == "in.csv: 400 to start"
    day = local_day(datetime.now(UTC).isoformat())
    write([*(f"{one},{'fails' if one >= '0390' else ''},x" for one in ids), "0400,,x", "400,,x"])
    more = ("--retry", "failure", "--retry-wait", "0", "--unique", "Id")
    said = line(tmp_path, *words, *more)
    carried = f"1 to start, 390 carried over (from {day}), 10 to start again (failure on {day})"
    assert said == f"in.csv: {carried}, 1 held (duplicate)"


def test_nothing_is_said_first_where_nothing_is_to_be_done(tmp_path: Path) -> None:
    """The summary says it all in one line."""
    (tmp_path / "task.py").write_text(TASK.format(paid=str(tmp_path / "paid.txt")))
    (tmp_path / "in.csv").write_text("Id,Ends,Note\nA,,x\n")
    words = ("in.csv", "--task", "task.py:work", "--key", "Id")
    assert line(tmp_path, *words) == ""  # a batch of under a second that starts all its rows says nothing either
    assert line(tmp_path, *words, progress="always") != "in.csv: 1 carried over"


def test_a_plan_that_takes_long_is_told_while_runs_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The block begins after a second; the plan comes when it is known, and is left off where the block ends before."""
    is_begun = threading.Event()
    told: list[str] = []

    async def count(is_ready: Callable[[], None], look: Callable[[], None]) -> None:
        is_ready()
        while not is_begun.is_set():
            time.sleep(0.01)
            look()
        told.append("the plan")

    with told_ahead("in.csv", count, told.append):
        while not told:
            time.sleep(0.01)
        assert told == ["in.csv: still counting what there is to do; what is certain begins meanwhile"]
        is_begun.set()
        while len(told) < 2:
            time.sleep(0.01)
    assert told[1] == "the plan"
    is_begun.clear()
    with told_ahead("in.csv", count, told.append):
        pass
    assert "the plan" not in told[2:]
    assert not capsys.readouterr().err
