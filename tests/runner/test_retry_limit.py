"""Retried on so many nights, then parked until somebody does something about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from program import run_program

from batch_runner.plan.edits import Attempt
from batch_runner.plan.plan import Entry, Keep, Policy, Send, decide

if TYPE_CHECKING:
    from pathlib import Path

TASK = """
async def fail(params):
    if params["No"] != "1":
        raise ValueError("no")
"""
ENTRY = Entry(17, b"K", b"new")


def failed(number: int, night: int, params: bytes = b"new") -> Attempt:
    return Attempt(number, night, params, "failure", f"run-{number}", has_ended=True, night=night)


@given(st.integers(1, 5), st.integers(1, 8), st.integers(1, 3))
def test_a_row_is_sent_once_and_retried_as_often_as_the_limit(limit: int, nights: int, a_night: int) -> None:
    """After one first try and `limit` nights of retries it is parked, however many attempts a night had."""
    attempts = [failed(night * 10 + i, night) for night in range(1, nights + 1) for i in range(a_night)]
    plan = decide(ENTRY, 1, attempts, Policy(frozenset({"failure"}), retry_limit=limit), nights + 1)
    parked = Keep(17, 1, "failure", changed=False, held="parked")
    assert plan == (parked if nights > limit else Send(17, 1, b"new", again=True))


@pytest.mark.parametrize(
    ("policy", "before"),
    [
        (Policy(frozenset({"failure"})), b"new"),
        (Policy(frozenset({"all"}), retry_limit=1), b"new"),
        (Policy(frozenset({"failure"}), retry_limit=1), b"old"),
        (Policy(frozenset({"failure"}), retry_limit=9), b"new"),
    ],
    ids=["no limit", "a fresh start", "an edited row", "a higher limit"],
)
def test_what_is_not_parked(policy: Policy, before: bytes) -> None:
    """Without a limit, with `--retry all`, after an edit and under a higher limit the row is sent."""
    attempts = [failed(night, night, before) for night in (1, 2, 3, 4)]
    assert decide(ENTRY, 1, attempts, policy, 5) == Send(17, 1, b"new", again=True)


def test_edits_begin_the_count_anew() -> None:
    """Four nights with the old params and one with the new are one night."""
    attempts = [*(failed(night, night, b"old") for night in (1, 2, 3, 4)), failed(5, 5)]
    policy = Policy(frozenset({"failure"}), retry_limit=1)
    assert decide(ENTRY, 1, attempts, policy, 6) == Send(17, 1, b"new", again=True)
    assert decide(ENTRY, 1, [*attempts, failed(6, 6)], policy, 7) == Keep(
        17, 1, "failure", changed=False, held="parked"
    )


def test_five_nights_with_the_program(tmp_path: Path) -> None:
    """Sent on the first night, retried on two, parked from then on: the summary says so and names the row."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("No\n1\n2\n")
    command = (
        "run",
        "in.csv",
        "--task",
        "task.py:fail",
        "--retry",
        "failure",
        "--retry-wait",
        "0",
        "--retry-limit",
        "2",
    )
    carried = []
    for _ in range(5):
        done = run_program(*command, "--json", cwd=tmp_path)
        assert done.returncode == 3
        carried.append(json.loads(done.stdout)["carried"])
    assert carried == [0, 1, 1, 2, 2]
    assert json.loads(done.stdout)["parked"] == {"rows": 1, "numbers": [3]}
    told = run_program(*command, cwd=tmp_path).stdout
    assert "parked: 1 row retried on as many nights as --retry-limit allows: edit them, or raise it  [row 3]" in told
