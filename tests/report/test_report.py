"""The real program's report: written beside the output, whole or not at all, and never at the batch's cost."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from nights import night, numbered
from openpyxl import Workbook
from program import run_program
from systems import needs_posix, slashes
from test_report_page import Reader

from batch_runner.errors import ExitCode
from batch_runner.units import local_day

if TYPE_CHECKING:
    from pathlib import Path

TASKS = """
import os, shutil

async def quick(params):
    if params["Number"] == "008":
        raise ValueError("<b>no such invoice</b>")

async def clear_away(params):
    shutil.rmtree("reports", ignore_errors=True)

async def fill(params):
    try:
        with open(os.environ["FULL"], "wb") as file:
            while True:
                file.write(bytes(1 << 16))
    except OSError:
        pass
"""

BY_SHEET = """
async def by_sheet(params):
    if "clear" in params and params["Number"] == "south-009":
        shutil.rmtree(params["clear"], ignore_errors=True)
    if params["Number"].endswith("8"):
        raise ValueError("no such invoice")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sheet of three rows, a file of tasks, and a folder for reports."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text("Number,Amount\n007,1.10\n008,2.20\n009,3.30\n")
    (tmp_path / "reports").mkdir()
    return tmp_path


def words(path: Path) -> str:
    """A page's text, on one line."""
    return " ".join(" ".join(Reader(path.read_text("utf-8")).texts).split())


def test_a_night_is_told(folder: Path) -> None:
    """Verdict, counts, totals, failures with links to their rows, run times, the output: all on one page."""
    command = ("run", "sheet.csv", "--task", "tasks.py:quick", "--report", "reports/r.html", "--total", "Amount")
    done = run_program(*command, cwd=folder)
    assert done.returncode == ExitCode.SOME_FAILED
    assert slashes(done.stdout).endswith("  output: sheet.results.csv\n  report: reports/r.html\n")
    text = words(folder / "reports" / "r.html")
    assert "1 of 3 rows did not succeed" in text
    assert "success 2 66.7 % failure 1 33.3 %" in text
    assert "Succeeded 4.40 Failed 2.20 Not started 0.00 Input 6.60 ✓ adds up" in text
    assert "1 × failure ValueError: <b>no such invoice</b> Row 3" in text
    assert "Median of 3 runs" in text
    page = Reader((folder / "reports" / "r.html").read_text("utf-8"))
    assert "../sheet.results.csv#row=3" in page.hrefs
    assert "../sheet.results.csv" in page.hrefs
    assert [path.name for path in (folder / "reports").iterdir()] == ["r.html"]


def test_a_second_night_replaces_the_page_and_says_what_was_carried_over(folder: Path) -> None:
    """Nothing was started, so there are no run times."""
    command = ("run", "sheet.csv", "--task", "tasks.py:quick", "--report", "r.html")
    for _ in range(2):
        run_program(*command, cwd=folder)
    text = words(folder / "r.html")
    assert "Carried over, no request 3" in text
    assert "Median" not in text


def test_totals_and_report_do_not_call_an_edited_amount_succeeded(folder: Path) -> None:
    """100.00 was paid, the cell is edited to 900.00: text, JSON and page say it, and the third night says it again.

    The row is held, since a column of the totals differs; `--quiet` doesn't silence that.
    """
    sheet = folder / "sheet.csv"
    command = ("run", "sheet.csv", "--task", "tasks.py:quick", "--key", "Number", "--total", "Amount")
    for amount in ("100.00", "900.00", "900.00"):
        sheet.write_text(f"Number,Amount\n007,{amount}\n")
        done = run_program(*command, "--report", "r.html", cwd=folder)
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    assert "with another Amount: success, run_" in done.stdout
    assert "= 0.00 succeeded + 0.00 failed + 900.00 edited since they ran + 0.00 not started" in done.stdout
    text = words(folder / "r.html")
    assert text.startswith("✗ The one row did not succeed")
    assert "Nothing new" not in text
    assert "Succeeded 0.00 Failed 0.00 Edited since they ran 900.00 Not started 0.00 Input 900.00 ✓ adds up" in text
    told = json.loads(run_program(*command, "--json", cwd=folder).stdout)
    assert (told["counts"], told["totals"][0]["sums"][0]["edited"]) == ({"error": 1}, "900.00")
    quiet = run_program(*command, "--quiet", cwd=folder)
    assert quiet.returncode == ExitCode.SOME_FAILED
    assert "with another Amount" in quiet.stdout + quiet.stderr


@pytest.mark.long
def test_a_row_that_was_edited_elsewhere_is_carried_over_and_told(folder: Path) -> None:
    """Another cell than the amount: text, JSON and page say it, and the third night says it again."""
    sheet = folder / "sheet.csv"
    command = ("run", "sheet.csv", "--task", "tasks.py:quick", "--key", "Number", "--total", "Amount")
    for remark in ("a", "b", "b"):
        sheet.write_text(f"Number,Amount,Remark\n007,100.00,{remark}\n")
        done = run_program(*command, "--report", "r.html", cwd=folder)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "1 carried over, 1 of them edited since it ran (--retry changed runs them again)" in done.stdout
    assert "= 0.00 succeeded + 0.00 failed + 100.00 edited since they ran + 0.00 not started" in done.stdout
    text = words(folder / "r.html")
    assert text.startswith("! The one row succeeded, but 1 row edited since")
    assert "Nothing new" not in text
    assert "Edited in the sheet 0" in text
    assert "Edited since they ran 1" in text
    assert "Succeeded 0.00 Failed 0.00 Edited since they ran 100.00 Not started 0.00 Input 100.00 ✓ adds up" in text
    told = json.loads(run_program(*command, "--json", cwd=folder).stdout)
    assert (told["changed"], told["totals"][0]["sums"][0]["edited"]) == (1, "100.00")
    quiet = run_program(*command, "--quiet", cwd=folder)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_workbooks_rows_are_cells_of_its_sheet(folder: Path) -> None:
    """Address as text, and a link that Excel and LibreOffice read as a place."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.title = "Nov 26"
    for row in (["Number"], ["007"], ["008"]):
        page.append(row)
    book.save(folder / "in.xlsx")
    done = run_program("run", "in.xlsx", "--task", "tasks.py:quick", "--report", "r.html", cwd=folder)
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    assert "in.results.xlsx#'Nov%2026'!A3" in Reader((folder / "r.html").read_text("utf-8")).hrefs
    assert "Row A3" in words(folder / "r.html")


@needs_posix
def test_who_may_read_the_sheet_may_read_the_report(folder: Path) -> None:
    """It holds messages about the rows: its permissions are the input's."""
    (folder / "sheet.csv").chmod(0o640)
    run_program("run", "sheet.csv", "--task", "tasks.py:quick", "--report", "r.html", cwd=folder)
    assert (folder / "r.html").stat().st_mode & 0o777 == 0o640


def test_its_path_in_a_job_file_is_relative_to_the_file(folder: Path) -> None:
    """Like the output's."""
    job = 'input = "sheet.csv"\ntask = "tasks.py:quick"\nreport = "reports/r.html"\ntotal = ["Amount"]\n'
    (folder / "nightly.toml").write_text(job)
    done = run_program("run", folder / "nightly.toml", cwd=folder.parent)
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    assert (folder / "reports" / "r.html").is_file()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("r.txt", "report: 'r.txt': a report is one page; name a file that ends in .html"),
        ("none/r.html", "none/r.html: there is no folder none; make it, or use --report"),
        ("reports.html", "reports.html: the report is a folder; name a file"),
        ("same.html", "report, --journal: same.html can't be both; name another file for the report"),
        ("", "report: '': not a file; name a file to write"),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_report_that_can_never_be_written_is_refused_first(
    folder: Path, command: str, path: str, sentence: str
) -> None:
    """Exit 2, one sentence, nothing sent and no output."""
    (folder / "reports.html").mkdir()
    options = ("--task", "tasks.py:quick", "--journal", "same.html")
    done = run_program(command, "sheet.csv", *options, "--report", path, cwd=folder)
    assert done.returncode == ExitCode.REFUSED
    assert sentence in slashes(done.stderr)
    assert not (folder / "sheet.results.csv").exists()
    assert not (folder / "same.html").exists()


def test_a_report_that_fails_costs_the_batch_nothing(folder: Path) -> None:
    """Its folder is cleared away in mid-batch: a note, the output as ever, and the exit code that the rows ask for."""
    command = ("run", "sheet.csv", "--task", "tasks.py:clear_away", "--report", "reports/r.html", "--json")
    done = run_program(*command, cwd=folder)
    assert done.returncode == ExitCode.OK, done.stderr
    told = json.loads(done.stdout)
    assert told["counts"] == {"success": 3}
    assert told["report"] is None
    assert slashes(told["notes"][-1]).startswith(
        "there is no report: reports/r.html: there is no folder reports; make it"
    )
    assert (folder / "sheet.results.csv").is_file()


def test_a_report_that_is_open_has_a_neighbour(folder: Path) -> None:
    """What can't be replaced stays as it is, and the summary names the page that was written."""
    (folder / "r.html").write_text("open elsewhere")
    (folder / "~$r.html").touch()
    done = run_program("run", "sheet.csv", "--task", "tasks.py:quick", "--report", "r.html", cwd=folder)
    assert done.stdout.endswith("  report: r-2.html\n")
    assert "1 of 3 rows did not succeed" in words(folder / "r-2.html")
    assert (folder / "r.html").read_text() == "open elsewhere"


def test_a_full_disk_leaves_the_old_report(folder: Path, small_disk: Path) -> None:
    """Whole or not at all: last night's page stands there, and a note says that there is none for tonight."""
    (small_disk / "r.html").write_text("last night")
    command = ("run", "sheet.csv", "--task", "tasks.py:fill", "--report", small_disk / "r.html", "--json")
    done = run_program(*command, cwd=folder, FULL=str(small_disk / "full"))
    assert done.returncode == ExitCode.OK, done.stderr
    told = json.loads(done.stdout)
    assert told["report"] is None
    assert "there is no report" in told["notes"][-1]
    assert "No space left on device" in told["notes"][-1]
    assert (small_disk / "r.html").read_text() == "last night"
    assert sorted(path.name for path in small_disk.iterdir()) == ["full", "r.html"]


def test_a_night_that_was_stopped_adds_up(tmp_path: Path) -> None:
    """Succeeded, failed and not started make the input, and the page says first that it stopped early."""
    rows = [{**row, "Amount": f"{place}.10"} for place, row in enumerate(numbered(40))]
    rows[5]["End"] = "failure"
    rows = [{"End": "", **row} for row in rows]
    done = night(tmp_path, rows, concurrency=3, deadline="45s", total=("Amount",), report=str(tmp_path / "r.html"))
    assert done.summary.exit_code == ExitCode.STOPPED
    (found,) = done.summary.totals[0].sums
    assert found.difference == 0
    assert found.succeeded > 0
    assert found.failed == Decimal("5.10")
    assert found.not_started > 0
    assert found.input == found.succeeded + found.failed + found.not_started
    text = words(tmp_path / "r.html")
    assert text.startswith("! Stopped early: ")
    assert "The deadline was reached; the same command goes on with the rest." in text


def all_sheets(folder: Path, *more: str) -> str:
    """What the program says of a night over three sheets, of which the last can't be read."""
    for name in ("north", "south"):
        rows = "".join(f"{name}-{number},{number}.50,EUR\n" for number in ("007", "008", "009"))
        (folder / f"{name}.csv").write_text(f"Number,Amount,Currency\n{rows}")
    (folder / "sheet.csv").unlink()
    words = ("run", "*.csv", "--task", "tasks.py:by_sheet", "--key", "Number", "--total", "Amount")
    done = run_program(*words, *more, cwd=folder)
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    return done.stdout


def test_a_night_of_many_sheets_is_one_page(folder: Path) -> None:
    """Each sheet has a section with its counts, totals and failed rows; above stands a table of all, with links."""
    text = (folder / "tasks.py").read_text()
    (folder / "tasks.py").write_text(text + BY_SHEET)
    said = all_sheets(folder, "--report", "reports/all.html", "--locale", "de")
    assert slashes(said).count("  report: reports/all.html") == 2
    html = (folder / "reports" / "all.html").read_text("utf-8")
    page = Reader(html)
    text = words(folder / "reports" / "all.html")
    assert "2 sheets: 2 of 6 rows did not succeed" in text
    assert "north.csv 3 2 1" in text
    assert "All 6 4 2" in text
    assert "Amount EUR 51,00 34,00 17,00 0,00" in text
    ids, links = re.findall(r' id="([^"]+)"', html), re.findall(r' href="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links if link.startswith("#")} == {"sheet-1", "sheet-2"} <= set(ids)
    assert {"../north.results.csv#row=3", "../south.results.csv#row=3"} <= set(links)
    levels = [int(tag[1]) for tag, _ in page.elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    sections = html.split('<section class="sheet')[1:]
    assert [f"{name}-008" in part for part, name in zip(sections, ("north", "south"), strict=True)] == [True, True]


def test_with_the_stem_in_its_name_each_sheet_has_a_page(folder: Path) -> None:
    """A job of an earlier release keeps its pages."""
    (folder / "tasks.py").write_text((folder / "tasks.py").read_text() + BY_SHEET)
    all_sheets(folder, "--report", "reports/{stem}.html")
    assert sorted(path.name for path in (folder / "reports").iterdir()) == ["north.html", "south.html"]
    assert "1 of 3 rows did not succeed" in words(folder / "reports" / "north.html")


def test_one_page_that_can_not_be_written_costs_the_night_nothing(folder: Path) -> None:
    """Both summaries say so."""
    (folder / "tasks.py").write_text((folder / "tasks.py").read_text() + BY_SHEET)
    said = all_sheets(folder, "--report", "reports/all.html", "--param", "clear=reports")
    assert slashes(said).count("note: there is no report: reports/all.html: there is no folder") == 2
    assert "report: reports/all.html\n" not in said


def test_report_and_status_say_which_night_and_sheet_an_outcome_is_from(folder: Path) -> None:
    """The sheet is exported anew under another name: what was carried over names the sheet and night that ran it."""
    run = ("--task", "tasks.py:quick", "--key", "Number", "--report", "reports/r.html")
    assert run_program("run", "sheet.csv", *run, cwd=folder).returncode == ExitCode.SOME_FAILED
    (folder / "sheet.csv").rename(folder / "december.csv")
    with (folder / "december.csv").open("a") as file:
        file.write("010,4.40\n")
    assert run_program("run", "december.csv", *run, cwd=folder).returncode == ExitCode.SOME_FAILED
    text = words(folder / "reports" / "r.html")
    day = local_day(datetime.now(UTC).isoformat())
    assert f"of these, from {day}, sheet.csv, batch 1 3" in text
    assert f"3 · 008 (from {day}, sheet.csv, batch 1)" in text
    told = run_program("status", "tasks.py-quick.journal.db", cwd=folder).stdout
    assert f"sent before batch 2: 3 from {day}, sheet.csv, batch 1" in told
    told = run_program("status", "tasks.py-quick.journal.db", "--json", cwd=folder).stdout
    assert [(one["batch"], one["rows"]) for one in json.loads(told)["origins"]] == [(1, 3)]
    row = run_program("status", "december.csv", "--row", "3", cwd=folder).stdout
    assert "batch 1 of sheet.csv (row 3 then): failure" in row
