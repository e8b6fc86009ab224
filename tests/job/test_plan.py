"""What a job comes to tonight: a batch for each input, and nothing that two of them would share."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from systems import slashes

from batch_runner.errors import UsageError
from batch_runner.job.inputs import NightJob, make_folders, night_job_of
from batch_runner.job.job import Job

DAY = date(2026, 11, 4)


@pytest.fixture(autouse=True)
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `inbox` in the folder in which the test runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


def plan(*names: str, **options: Any) -> NightJob:
    for name in names:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return night_job_of(Job(**options), DAY)


def refusal(*names: str, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        plan(*names, **options)
    return slashes(caught.value)


def paths(planned: NightJob) -> list[tuple[str, str, str]]:
    places = [(b.job.input, b.job.output_path, b.job.journal or b.former) for b in planned.batches]
    return [(slashes(input_), slashes(output), slashes(journal)) for input_, output, journal in places]


def test_each_input_has_its_own_output() -> None:
    """Beside the input, as if it had been named alone; as was its journal in an earlier release."""
    assert paths(plan("inbox/a.csv", "inbox/b.csv", input="inbox/*.csv")) == [
        ("inbox/a.csv", "inbox/a.results.csv", "inbox/a.journal.db"),
        ("inbox/b.csv", "inbox/b.results.csv", "inbox/b.journal.db"),
    ]


def test_places_are_filled_for_each_input() -> None:
    """`{stem}` is each input's, `{date}` the night's; an input's own `.results` is no part of its stem."""
    job = {"output": "out/{stem}.xlsx", "journal": "db/{stem}.db", "report": "r/{stem} {date}.html"}
    planned = plan("inbox/a.csv", "inbox/b.csv", input="inbox/*.csv", log_file="{date}.log", **job)
    assert paths(planned)[1] == ("inbox/b.csv", "out/b.xlsx", "db/b.db")
    assert slashes(planned.batches[1].job.report) == "r/b 2026-11-04.html"
    assert planned.job.log_file == planned.batches[0].job.log_file == "2026-11-04.log"
    single = plan("a.results.csv", input="a.results.csv", output="{stem}.xlsx", log_file="{stem}.log")
    assert (single.batches[0].job.output, single.job.log_file) == ("a.xlsx", "a.log")


def test_one_journal_for_all_is_a_wish() -> None:
    """A journal that is named without `{stem}` is that of every sheet."""
    planned = plan("inbox/a.csv", "inbox/a.xlsx", input="inbox/a.*", journal="night.db")
    assert {batch.job.journal for batch in planned.batches} == {"night.db"}


def test_two_sheets_share_no_journal_by_accident() -> None:
    """Where each has its own, `a.csv` and `a.xlsx` would: both are named, and what to do."""
    told = refusal("inbox/a.csv", "inbox/a.xlsx", input="inbox/*", journal="{stem}.db")
    assert told == (
        "inbox/a.csv and inbox/a.xlsx would share the journal a.db; rename one of them, "
        "or name one journal for all of them with --journal"
    )


def test_two_sheets_share_no_output_and_no_report() -> None:
    """From two folders come two files of one name."""
    told = refusal("x/a.csv", "y/a.csv", input="*/a.csv", output="{stem}.xlsx", report="{stem}.html", journal="all.db")
    assert [line.partition(" would share the ")[2] for line in told.splitlines()] == [
        "output a.xlsx; rename one of them",
        "report a.html; rename one of them",
    ]


@pytest.mark.parametrize(("system", "is_refused"), [("linux", False), ("darwin", True), ("win32", True)])
def test_case_alone_makes_no_second_file(monkeypatch: pytest.MonkeyPatch, system: str, is_refused: bool) -> None:
    """But on Linux: elsewhere the second output would be written over the first, and over a journal."""
    monkeypatch.setattr("batch_runner.units.sys", SimpleNamespace(platform=system))
    with pytest.raises(UsageError) if is_refused else nullcontext():
        plan("x/a.csv", "y/A.csv", input="*/?.csv", output="{stem}.xlsx", journal="all.db")
    with pytest.raises(UsageError) if is_refused else nullcontext():
        plan("x/a.csv", input="x/a.csv", output="b.csv", journal="B.CSV")


def test_a_file_by_two_names_is_one_file() -> None:
    """A link to a sheet beside it would have every row sent twice."""
    Path("inbox/latest.csv").symlink_to("a.csv")
    assert "inbox/a.csv and inbox/latest.csv are one and the same file" in refusal("inbox/a.csv", input="inbox/*")


def test_an_output_is_no_input_of_the_next_night() -> None:
    """Taken for a new sheet it would have a new journal, and every row would be sent again."""
    told = refusal("inbox/a.csv", input="inbox/*.csv", output="inbox/{stem}-done.csv")
    assert told.startswith("output: inbox/a-done.csv would be taken for an input the next time")
    assert plan("inbox/a.csv", input="inbox/*.csv", output="inbox/{stem}-done.xlsx").batches
    assert plan("inbox/a.csv", input="inbox/*.csv", output="{stem}-done.csv").batches
    assert plan("inbox/b.results.csv", input="inbox/*.results.csv", output="inbox/{stem}.results.csv").batches


@pytest.mark.parametrize(
    ("options", "output", "journal"),
    [
        ({"input": "inv-{date}.csv"}, "inv-2026-11-04.results.csv", "inv.journal.db"),
        ({"input": "inv-{date}.csv", "date": "yesterday"}, "inv-2026-11-03.results.csv", "inv.journal.db"),
        ({"input": "{date}/inv.csv"}, "2026-11-04/inv.results.csv", "inv.journal.db"),
        ({"input": "inv-{date}.csv", "output": "out/{stem}.csv"}, "out/inv-2026-11-04.csv", "out/inv.journal.db"),
        ({"input": "{date}/inv.csv", "output": "out/{stem}.csv"}, "out/inv.csv", "out/inv.journal.db"),
        ({"input": "inv.csv", "output": "out/inv-{date}.csv"}, "out/inv-2026-11-04.csv", "out/inv.journal.db"),
        ({"input": "inv-{date}.csv", "journal": "j-{date}.db"}, "inv-2026-11-04.results.csv", "j-2026-11-04.db"),
    ],
)
def test_the_journal_outlasts_the_day(options: dict[str, str], output: str, journal: str) -> None:
    """A date in a name changed the output's name and not the memory of earlier releases, which is looked for there."""
    made = ["inv.csv", "inv-2026-11-04.csv", "inv-2026-11-03.csv", "2026-11-04/inv.csv"]
    (batch,) = plan(*made, **options).batches
    assert slashes(batch.job.output_path) == output
    assert slashes(batch.job.journal or batch.former).startswith(journal)


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({"input": "inbox/inv.csv"}, "inbox"),
        ({"input": "inbox/*.csv"}, "inbox"),
        ({"input": "{date}/inv.csv"}, "."),
        ({"input": "inbox/inv.csv", "output": "out/x.csv"}, "out"),
        ({"input": "inbox/*.csv", "output": "out/{stem}.csv"}, "inbox"),
        ({"input": "inbox/*.csv", "output": "out/{stem}.csv", "job_file": "jobs/nightly.toml"}, "jobs"),
        ({"input": "inbox/inv.csv", "output": "out/{date}.csv", "job_file": "jobs/nightly.toml"}, "jobs"),
    ],
)
def test_the_memory_of_a_task_lies_in_one_place(options: dict[str, str], folder: str) -> None:
    """Beside the output; where that has a place to fill, beside the job file, else beside the input."""
    planned = plan("inbox/inv.csv", "2026-11-04/inv.csv", **options)
    assert {batch.memory for batch in planned.batches} == {Path(folder)}


def test_a_name_that_really_holds_braces_is_no_day() -> None:
    """Its journal is named after all of it, as that of any sheet; and it is a series of its own."""
    (batch,) = plan("i {date}.csv", input="i {date}.csv").batches
    assert str(batch.former) == "i {date}.journal.db"
    assert batch.series == str(Path.cwd() / "i {date}.csv")


def test_the_series_of_a_sheet() -> None:
    """Tomorrow's sheet is of the same series; a sheet that no date names is its own."""
    (dated,) = plan("inv-2026-11-04.csv", input="inv-{date}.csv").batches
    assert dated.series == str(Path.cwd() / "inv-{date}.csv")
    (plain,) = plan("a.csv", input="a.csv").batches
    assert plain.series == str(Path.cwd() / "a.csv")
    assert [b.series for b in plan("inbox/2026-11-04-x.csv", input="inbox/{date}-*.csv").batches] == [
        str(Path.cwd() / "inbox/{date}-x.csv")
    ]


def test_a_night_without_a_sheet_is_a_choice() -> None:
    """An error, or all right, as the job says."""
    assert "no such file" in refusal(input="inbox/*.csv")
    assert "no such file" in (plan(input="inbox/*.csv", when_missing="ok").missing or "")
    assert plan(input="a.csv", when_missing="ok").batches == ()


def test_an_input_keeps_the_words_of_the_person() -> None:
    """A plain name isn't written anew."""
    assert plan("a.csv", input="./a.csv").batches[0].job.input == "./a.csv"


def test_folders_of_the_day_are_made_and_no_others() -> None:
    """The first night of a month needs its folder; a share that isn't mounted isn't made."""
    job = Job(input="inbox/*.csv", output="{date:%Y/%m}/{stem}.xlsx")
    Path("inbox/a.csv").touch()
    make_folders(job, night_job_of(job, DAY))
    assert Path("2026/11").is_dir()
    lost = Job(input="inbox/*.csv", output="share/{date}/{stem}.xlsx")
    with pytest.raises(UsageError, match="output: share: no such folder; make it"):
        make_folders(lost, night_job_of(lost, DAY))
    assert not Path("share").exists()
