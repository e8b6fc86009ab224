"""The table of options: what each is called, and what a person may write for it."""

from __future__ import annotations

import re
from datetime import date, time
from itertools import groupby

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.job.job import Job
from batch_runner.job.options import did_you_mean, options
from batch_runner.job.validation import OptionKind


def test_every_field_is_an_option() -> None:
    """Job and options can't drift apart: there is one table."""
    fields = [field.name for field in msgspec.structs.fields(Job) if field.name != "job_file"]
    assert [*options()] == fields


@pytest.mark.parametrize("name", options())
def test_every_option_can_be_shown(name: str) -> None:
    """Each has a group, a sentence of help, and a word for its value unless it is a flag."""
    option = options()[name]
    assert option.group
    assert option.help.endswith(".")
    assert (option.metavar is None) == (option.kind is OptionKind.FLAG)
    assert option.flag == "--" + name.replace("_", "-")
    assert option.variable == "BATCH_RUNNER_" + name.upper()


def test_options_of_a_group_stand_together() -> None:
    """`--help` shows each group once."""
    groups = [option.group for option in options().values()]
    assert len([group for group, _ in groupby(groups)]) == len(set(groups))


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("limit", "5", 5),
        ("limit", 5, 5),
        ("json", "true", True),
        ("json", "0", False),
        ("json", True, True),
        ("run_timeout", "30m", "30m"),
        ("run_timeout", 90, 90),
        ("run_timeout", 1.5, 1.5),
        ("deadline", time(6, 0), "06:00:00"),
        ("max_failures", "5%", "5%"),
        ("max_failures", 5, 5),
        ("hidden", "skip", "skip"),
        ("columns", 'A, "B, C",D', ("A", "B, C", "D")),
        ("columns", ("A,B", "C"), ("A", "B", "C")),
        ("columns", ["A,B", "C"], ("A,B", "C")),
        ("columns", '5" pipe,"say ""hi"""', ('5" pipe', 'say "hi"')),
        ("columns", '"Invoice\nNumber",B', ("Invoice\nNumber", "B")),
        ("columns", "", ()),
        ("retry", "failure, timeout", ("failure", "timeout")),
        (
            "param",
            ("Operation=extract_text", "Note=a=b", "Empty="),
            {"Operation": "extract_text", "Note": "a=b", "Empty": ""},
        ),
        ("param", {"Operation": "extract_text"}, {"Operation": "extract_text"}),
    ],
)
def test_what_can_be_written(name: str, value: object, read: object) -> None:
    """Flags and variables are text, a TOML file holds values of its own: both give what `Job` wants."""
    assert options()[name].read(value) == read


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("limit", "five", "'five' is not a whole number"),
        ("limit", "", "'' is not a whole number"),
        ("limit", 5.0, "5.0 is not a whole number"),
        ("limit", True, "True is not a whole number"),
        ("json", "maybe", "'maybe' is neither true nor false"),
        ("json", 1, "1 is neither true nor false"),
        ("hidden", "hide", "'hide' is none of include, skip"),
        ("task", 5, "5 is not a text; put it in quotes"),
        ("sheet", 2024, "2024 is not a text; put it in quotes"),
        ("run_timeout", [30], "[30] is not a text"),
        ("deadline", date(2026, 1, 1), "is not a text"),
        ("columns", 5, "5 is not a list of texts"),
        ("columns", ["A", 5], "['A', 5] is not a list of texts"),
        ("columns", "Invoice\nNumber", "put a name with a comma, a quote or a line break in double quotes"),
        ("columns", '"A', "is not a list of names"),
        ("param", ("Operation",), "'Operation' is not of the form NAME=VALUE"),
        ("param", ("=x",), "'=x' is not of the form NAME=VALUE"),
        ("param", ("A=1", "A=2"), "'A' is said twice"),
        ("param", {"n": 5}, "{'n': 5} is not a table of texts"),
        ("param", "A=1", "'A=1' is not a table of texts"),
    ],
)
def test_what_can_not_be_written(name: str, value: object, sentence: str) -> None:
    """What doesn't fit is a `ValueError` whose words a person understands: no type of Python's or JSON's in it."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        options()[name].read(value)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map(str.lstrip), min_size=1))
def test_any_names_can_be_said(names: list[str]) -> None:
    """Names with commas, quotes and line breaks come through when they are quoted as in CSV."""
    quoted = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    assert options()["columns"].read((quoted,)) == tuple(names)


@given(st.text())
def test_any_text_is_names_or_a_sentence(text: str) -> None:
    """Only quotes and line breaks can make a list of names unreadable, and then there is a sentence."""
    try:
        names = options()["key"].read(text)
    except ValueError:
        assert any(mark in text for mark in '"\r\n')
    else:
        assert isinstance(names, tuple)


def test_did_you_mean() -> None:
    """A near word is named, a far one is not."""
    assert did_you_mean("colums", ["columns", "rows"]) == " Did you mean columns?"
    assert did_you_mean("xyz", ["columns", "rows"]) == ""
