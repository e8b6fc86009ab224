"""A `Job` made in Python takes each value as the command line does, and says what makes no sense in a sentence."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import pytest

from batch_runner.errors import UsageError
from batch_runner.job.config import load_job
from batch_runner.job.job import Job


@pytest.mark.parametrize(
    ("name", "said", "held"),
    [
        ("columns", "AB", ("AB",)),
        ("columns", "A,B", ("A", "B")),
        ("columns", '"Net, in €",B', ("Net, in €", "B")),
        ("columns", ["A,B", "C"], ("A,B", "C")),
        ("columns", ("A,B",), ("A,B",)),
        ("key", "Number", ("Number",)),
        ("retry", "failure,timeout", ("failure", "timeout")),
        ("concurrency", "10", 10),
        ("limit", "3", 3),
        ("expand", "true", True),
        ("expand", "false", False),
        ("param", ["Note=a=b"], {"Note": "a=b"}),
        ("rename", {"A": "b"}, {"A": "b"}),
        ("output", Path("out.csv"), "out.csv"),
        ("deadline", time(6, 0), "06:00:00"),
        ("date", date(2026, 11, 24), "2026-11-24"),
        ("run_timeout", 90, 90),
    ],
)
def test_what_is_taken(name: str, said: object, held: object) -> None:
    """In every form that flags, the environment or a job file have for it."""
    job = Job(input="in.csv", **{name: said})  # type: ignore[arg-type]
    assert getattr(job, name) == held
    assert type(getattr(job, name)) is type(held)


@pytest.mark.parametrize(
    ("name", "said", "why"),
    [
        ("concurrency", "ten", "'ten' is not a whole number"),
        ("concurrency", 1.5, "1.5 is not a whole number"),
        ("concurrency", None, "None is not a whole number"),
        ("columns", 5, "5 is not a list of texts"),
        ("columns", [1, 2], "is not a list of texts"),
        ("columns", None, "is not a list of texts"),
        ("param", "Note", "is not a table of texts"),
        ("param", ["Note"], "is not of the form NAME=VALUE"),
        ("expand", "perhaps", "is neither true nor false"),
        ("hidden", "maybe", "is none of include, skip"),
        ("task", None, "is not a text"),
        ("rows", 5, "5 is not a text"),
        ("input", None, "is not a text"),
    ],
)
def test_what_is_refused(name: str, said: object, why: str) -> None:
    """A `UsageError` that begins with the field's name, never another error."""
    with pytest.raises(UsageError, match=why) as refused:
        Job(**{"input": "in.csv", name: said})  # type: ignore[arg-type]
    assert str(refused.value).startswith(f"{name}: ")


def test_all_at_once() -> None:
    """As everywhere, a line for each."""
    with pytest.raises(UsageError) as refused:
        Job(input="in.csv", concurrency="x", columns=5, limit=[])  # type: ignore[arg-type]
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["columns", "limit", "concurrency"]


def test_no_secret_is_shown() -> None:
    """What can't be read of an address that whoever knows it may write to is not in the sentence."""
    with pytest.raises(UsageError) as refused:
        Job(input="in.csv", notify=[5, "json://secret"])  # type: ignore[arg-type]
    assert "secret" not in str(refused.value).replace("it may hold a secret", "")


@pytest.mark.parametrize(("name", "said"), [("columns", "A,B"), ("concurrency", "7"), ("rate", "5/min"), ("json", "1")])
def test_python_and_environment_agree(name: str, said: str) -> None:
    """The same text is the same value."""
    loaded = load_job("in.csv", {}, {f"BATCH_RUNNER_{name.upper()}": said})
    assert getattr(Job(input="in.csv", **{name: said}), name) == getattr(loaded.job, name)  # type: ignore[arg-type]
