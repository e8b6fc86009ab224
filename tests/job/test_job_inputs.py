"""Which files an input names: patterns, days, names to the letter, and what is passed over."""

from __future__ import annotations

import glob
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from systems import slashes

from batch_runner.errors import UsageError
from batch_runner.job.inputs import ENDINGS, find, is_pattern, takes

DAY = date(2026, 11, 4)


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder `inbox` in the folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(text: str) -> list[str]:
    return [slashes(found.path) for found in find(text, DAY).found]


def test_a_pattern_is_all_sheets_sorted(inbox: Path) -> None:
    """Every kind of sheet, in the order of names; the ending counts in whatever case, the stem as it is."""
    touch(inbox, "b.xlsx", "a.csv", "C.XLSX", "d.xlsm", "e.tsv")
    assert set(names("inbox/*")) == {"inbox/C.XLSX", "inbox/a.csv", "inbox/b.xlsx", "inbox/d.xlsm", "inbox/e.tsv"}
    assert names("inbox/*.xlsx") == [*map(slashes, sorted([Path("inbox/C.XLSX"), Path("inbox/b.xlsx")]))]
    assert names("inbox/[ab].*") == ["inbox/a.csv", "inbox/b.xlsx"]
    assert names("inbox/c.???x") == []
    assert find("inbox/b*", DAY).many


def test_what_is_no_input_is_passed_over(inbox: Path) -> None:
    """Outputs of ours, locks, drafts, journals, hidden files and folders may lie among the sheets."""
    touch(inbox, "invoices.xlsx", "invoices.results.xlsx", "invoices.results-2.xlsx", ".hidden.xlsx", "~$invoices.xlsx")
    touch(inbox, ".invoices.results.part.xlsx", "big.xlsx.part", "invoices.journal.db", "nightly.toml", "f.xlsx/x.txt")
    assert names("inbox/*") == ["inbox/invoices.xlsx"]
    assert names("inbox/*.xlsx") == names("inbox/inv*") == ["inbox/invoices.xlsx"]


def test_outputs_are_inputs_where_they_are_asked_for(inbox: Path) -> None:
    """A pattern that names `.results` itself is about nothing else."""
    touch(inbox, "a.xlsx", "a.results.xlsx", "b.results.xlsx")
    assert names("inbox/*.results.xlsx") == ["inbox/a.results.xlsx", "inbox/b.results.xlsx"]


@pytest.mark.parametrize("name", ["a[1].xlsx", "{x}.xlsx", "{date}.xlsx", "what?.csv", "*.csv", "a}.csv"])
def test_a_name_that_really_is_so_is_taken_to_the_letter(inbox: Path, name: str) -> None:
    """Characters of patterns in the name of a file that exists are just its name."""
    if sys.platform == "win32" and set("?*") & set(name):
        pytest.skip("no file can have such a name there")
    touch(inbox, name, "a1.xlsx", "other.csv", "2026-11-04.xlsx")
    inputs = find(f"inbox/{name}", DAY)
    assert [found.path for found in inputs.found] == [Path("inbox") / name]
    assert not inputs.many
    assert not is_pattern(f"inbox/{name}")


def test_a_folder_that_really_is_called_so(inbox: Path) -> None:
    """A job file in `/srv/[old]/{x}/` finds its sheets."""
    touch(inbox, "[old]/{x}/a.csv", "o/b.csv")
    assert names("inbox/[old]/{x}/*.csv") == ["inbox/[old]/{x}/a.csv"]


def test_the_file_of_the_day(inbox: Path) -> None:
    """The day's place is filled; the series keeps it."""
    touch(inbox, "invoices-04.11.2026.csv", "invoices-03.11.2026.csv")
    (found,) = find("inbox/invoices-{date:%d.%m.%Y}.csv", DAY).found
    assert found.path == Path("inbox/invoices-04.11.2026.csv")
    assert found.series == Path("inbox/invoices-{date:%d.%m.%Y}.csv")


def test_all_files_of_the_day(inbox: Path) -> None:
    """A pattern may hold the day; each file's series has the name that was found, and the day's place."""
    touch(inbox, "2026-11-04-de.csv", "2026-11-04-at.csv", "2026-11-03-de.csv", "2026-11-04/x.csv")
    inputs = find("inbox/{date}-*.csv", DAY)
    assert [slashes(found.series) for found in inputs.found] == ["inbox/{date}-at.csv", "inbox/{date}-de.csv"]
    (found,) = find("inbox/{date}/*.csv", DAY).found
    assert (slashes(found.path), slashes(found.series)) == ("inbox/2026-11-04/x.csv", "inbox/{date}/x.csv")


def test_two_stars_are_all_folders_below(inbox: Path) -> None:
    """The folder itself and all below it, hidden ones left out."""
    touch(inbox, "a.csv", "x/b.csv", "x/y/c.csv", ".git/d.csv")
    assert names("inbox/**/*.csv") == ["inbox/a.csv", "inbox/x/b.csv", "inbox/x/y/c.csv"]
    assert names("*/*/*.csv") == ["inbox/x/b.csv"]


def test_a_missing_file_is_told_with_what_is_there(inbox: Path) -> None:
    """The sentence says which folder was looked in and what is near."""
    touch(inbox, "invoices-2026-11-03.csv", "readme.txt")
    assert slashes(find("inbox/invoices-{date}.csv", DAY).missing) == (
        "inbox/invoices-2026-11-04.csv: no such file; the folder inbox has invoices-2026-11-03.csv"
    )
    assert slashes(find("inbox/*.xlsx", DAY).missing) == (
        "inbox/*.xlsx: no such file; the folder inbox has invoices-2026-11-03.csv"
    )
    touch(inbox, "a.results.xlsx")
    assert slashes(find("inbox/*.xlsx", DAY).missing) == (
        "inbox/*.xlsx: no such file; passed over: a.results.xlsx (an earlier output)"
    )
    assert "the folder . has no spreadsheet" in (find("x.csv", DAY).missing or "")


@pytest.mark.parametrize("text", ["share/*.csv", "share/a.csv", "share/{date}.csv", "share/{date}/*.csv"])
def test_a_missing_folder_is_no_empty_night(inbox: Path, text: str) -> None:
    """A share that isn't mounted is an error; a folder of the day that isn't there yet is just no input."""
    with pytest.raises(UsageError, match=r"input: share: no such folder; is a disk or share not mounted\?"):
        find(text, DAY)
    (inbox.parent / "share").mkdir()
    assert find(text, DAY).missing is not None


def test_a_folder_of_the_day_that_is_not_there(inbox: Path) -> None:
    """No folder for today is no sheet for today."""
    assert "no such file" in (find("inbox/{date}/*.csv", DAY).missing or "")


LETTERS = st.text(st.sampled_from("ab-.1"), min_size=1, max_size=4).filter(lambda name: name[0] != ".")
"""Hidden files are passed over, whatever the pattern says."""


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.tuples(LETTERS, st.sampled_from([".csv", ".xlsx", ".txt"])).map("".join), max_size=6),
    st.lists(st.sampled_from(["a", "b", "-", ".", "1", "*", "?", "[ab]", "[!a]"]), min_size=1, max_size=4).map("".join),
)
def test_a_pattern_means_what_it_means_in_a_shell(inbox: Path, files: set[str], stem: str) -> None:
    """Among files without any mark of ours the matches are those of `glob`; and whatever is found would be taken."""
    for old in inbox.iterdir():
        old.unlink()
    touch(inbox, *files)
    text = f"inbox/{stem}*.csv"
    expected = [slashes(path) for path in glob.glob(text) if Path(path).suffix in ENDINGS]  # noqa: PTH207
    assert sorted(names(text)) == sorted(expected)
    assert all(takes(text, Path(path), DAY) for path in expected)


@pytest.mark.parametrize("draft", [".a.results.part.csv", ".a.part.xlsx"])
def test_a_draft_is_not_named(inbox: Path, draft: str) -> None:
    """What a killed batch left of its output is nothing that a person knows of; other files are named as ever."""
    touch(inbox, draft)
    assert find("inbox/*", DAY).missing == "inbox/*: no such file; the folder inbox has no spreadsheet"
    touch(inbox, "~$a.xlsx")
    assert find("inbox/*", DAY).missing == "inbox/*: no such file; passed over: ~$a.xlsx (the lock of an open workbook)"
