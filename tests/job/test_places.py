"""`{date}` and `{stem}` in file names: what they stand for, what is refused, and the journal that outlasts the day."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systems import slashes

from batch_runner.job.path_templates import (
    escape_places,
    fill,
    fill_name,
    has_day,
    has_stem,
    journal_of_all_days,
    parts,
    problem,
    with_stem,
)

DAY = date(2026, 11, 4)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("invoices-{date}.xlsx", "invoices-2026-11-04.xlsx"),
        ("{date:%d.%m.%Y}.csv", "04.11.2026.csv"),
        ("week {date:%V} of {date:%G}.csv", "week 45 of 2026.csv"),
        ("{date:%-d}.csv", "4.csv"),
        ("{date:100%% %y}.csv", "100% 26.csv"),
        ("{stem}-{date:%A}.xlsx", "invoices-Wednesday.xlsx"),
        ("{{date}} {{{stem}}}.csv", "{date} {invoices}.csv"),
        ("plain.csv", "plain.csv"),
    ],
)
def test_what_a_place_stands_for(name: str, text: str) -> None:
    """The day in the person's own form, the input's stem, and doubled braces as braces."""
    assert fill_name(name, DAY, "invoices") == text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("{dat}.csv", "{dat} is no place that could be filled; use {date}"),
        ("{dat}.csv", "Did you mean date?"),
        ("{steam}.csv", "Did you mean stem?"),
        ("{Number}.csv", "{Number} is no place"),
        ("{}.csv", "{} is no place"),
        ("{stem:3}.csv", "{stem:3} is no place"),
        ("{date:%H}.csv", "'%H' says nothing of a day"),
        ("{date:%}.csv", "'%' says nothing of a day"),
        ("{date:YYYY}.csv", "'YYYY' says nothing of a day"),
        ("{date:}.csv", "'' says nothing of a day"),
        ("{date.csv", "has a single brace"),
        ("a}.csv", "has a single brace"),
    ],
)
def test_what_is_no_place(name: str, sentence: str) -> None:
    """A slip is one sentence, and never a file whose name has braces in it."""
    told = problem("output", name)
    assert told is not None
    assert sentence in told
    with pytest.raises(ValueError, match=re.escape(told)):
        fill_name(name, DAY)


def test_the_stem_is_no_part_of_the_input() -> None:
    """An input can't be named after itself."""
    assert "can't hold {stem}" in (problem("input", "{stem}.xlsx") or "")
    assert problem("journal", "{stem}.db") is None


def test_a_slash_in_a_form_is_a_folder() -> None:
    """`{date:%Y/%m}` is a folder for the year with folders for its months."""
    assert parts("in/{date:%Y/%m}/a.csv") == ("in", "{date:%Y}", "{date:%m}", "a.csv")
    assert slashes(fill("in/{date:%Y/%m}/a.csv", DAY, "")) == "in/2026/11/a.csv"


def test_folders_with_braces_are_taken_to_the_letter(tmp_path: Path) -> None:
    """A job may lie in any folder: only what the person wrote is read for places."""
    folder = tmp_path / "{x} [old]"
    folder.mkdir()
    assert problem("output", f"{folder}/{{date}}.csv") is None
    assert Path(fill(f"{folder}/{{date}}.csv", DAY, "")) == folder / "2026-11-04.csv"
    assert "{y}" in (problem("output", f"{folder}/{{y}}.csv") or "")


@pytest.mark.parametrize(
    ("path", "journal"),
    [
        ("inbox/invoices-{date}.xlsx", "inbox/invoices.journal.db"),
        ("inbox/{date:%Y-%m-%d}_invoices.xlsx", "inbox/invoices.journal.db"),
        ("inbox/invoices {date:%d.%m.%Y} final.xlsx", "inbox/invoices final.journal.db"),
        ("inbox/{date}/invoices.xlsx", "inbox/invoices.journal.db"),
        ("inbox/week-{date:%V}/de/invoices.xlsx", "inbox/week-de-invoices.journal.db"),
        ("/inbox/{date}.xlsx", "/inbox/by-date.journal.db"),
        ("out/invoices-{date}.results.csv", "out/invoices.journal.db"),
        ("{date:%Y}-{date:%m}-a.csv", "a.journal.db"),
    ],
)
def test_the_journal_of_all_days(path: str, journal: str) -> None:
    """It is named without the date, and lies in a folder that is there every day."""
    assert journal_of_all_days(Path(path)) == Path(journal)


@given(
    st.lists(st.sampled_from(["a", "-", " ", "{date}", "{date:%d.%m}", "{{", "}}", "/", "{stem}"]), min_size=1).map(
        "".join
    ),
    st.text(st.sampled_from("a{}")),
)
def test_no_journal_hangs_on_the_day(text: str, stem: str) -> None:
    """Wherever the date stands, whatever braces there are: it isn't in the journal's name, so all days have one."""
    path = with_stem(f"in/x{text}x.csv", escape_places(stem))
    assert has_day(path) == has_day(text)
    assert Path(fill(path, DAY, "")) == Path(fill(f"in/x{text}x.csv", DAY, stem))
    if has_day(path):
        assert not {"04", "11", "2026"} & set(re.findall(r"\d+", str(journal_of_all_days(Path(path)))))


def test_what_has_a_place() -> None:
    """Braces that are meant as such are no place."""
    assert has_day("a/{date:%d}/b")
    assert not has_day("{{date}}")
    assert not has_day("{stem}")
    assert has_stem("a-{stem}.csv")
    assert not has_stem("{{stem}}.csv")
