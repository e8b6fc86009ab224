"""The plan that `check` prints is what `run` does, for any sheet, journal and options."""

from __future__ import annotations

import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_runner.cli import run_arguments

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
