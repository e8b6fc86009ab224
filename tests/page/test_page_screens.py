"""The screens of the local page, as a browser without script meets them: forms, links and text."""

from __future__ import annotations

import csv
import os
import re
import time
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import openpyxl
import pytest
from paged import Paged, commands_of, hidden_fields, paged, plain, rows_of, write_sheet
from program import run_program, start_program
from systems import KILL

if TYPE_CHECKING:
    import httpx

PATIENCE = 300
pytestmark = pytest.mark.long


def test_a_sheet_is_kept_and_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file that is dropped lies in the folder; another one of its name gets a number; what is no sheet is refused."""
    write_sheet(tmp_path)
    before = (tmp_path / "list.csv").read_bytes()
    with paged(tmp_path) as page:

        def drop(name: str, data: bytes) -> httpx.Response:
            return page.http.post("/drop", files={"file": (name, data)}, follow_redirects=True)

        assert "list (2).csv" in drop("list.csv", b"Id,Name\n1,a\n2,b\n").text
        assert drop("list.csv", b"Id,Name\n1,a\n2,b\n").status_code == 200
        assert drop("../../evil.csv", b"Id,Name\n1,a\n2,b\n").status_code == 200
        for name in ("evil.py", ".hidden.csv", "", "a.csv.exe"):
            assert drop(name, b"x").status_code == 400
    assert (tmp_path / "list.csv").read_bytes() == before
    found = sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".csv", ".exe", ".py"))
    assert found == ["evil.csv", "list (2).csv", "list.csv", "tasks.py"]


def test_what_was_understood_is_shown_with_what_takes_no_part_and_why(tmp_path: Path) -> None:
    """The header row, rows above it and empty ones are greyed, with why; a refused cell is marked in its place."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["Invoices of May"],
        [],
        ["No", "PDF", "Amount"],
        [1, "a.pdf", 10.5],
        [2, "#N/A", 20.25],
        [],
        [3, "c.pdf", 1.5],
    ):
        sheet.append(row)
    book.save(tmp_path / "may.xlsx")
    with paged(tmp_path) as page:
        text = page.show("/sheet", file="may.xlsx")
    rows = re.findall(r'<tr class="(\w+)">\s*<th scope="row">(\d+)</th>\s*<td class="word">(.*?)</td>', text, re.DOTALL)
    kinds = {int(number): (kind, plain(word)) for kind, number, word in rows}
    assert kinds[1] == ("left", "above the list")
    assert kinds[2] == ("left", "empty")
    assert kinds[3] == ("header", "header")
    assert kinds[4] == ("taken", "will start")
    assert kinds[5][0] == "refused"
    assert "B5: the error #N/A" in kinds[5][1]
    assert len(re.findall('<td class="refused', text)) == 1
    assert "1 refused" in plain(text)


def test_columns_are_proposed_for_what_the_task_takes(tmp_path: Path) -> None:
    """A column of PDF names is proposed for `File Name` of `invoice`, the key among columns that are all different."""
    (tmp_path / "may.csv").write_text("No,PDF,Kind,Gross\n1,a.pdf,x,1.50\n2,b.pdf,x,2.50\n", "utf-8")
    with paged(tmp_path) as page:
        text = page.show("/sheet", file="may.csv")
    chosen = dict(re.findall(r'<select id="([^"]+)".*?<option value="([^"]*)" selected', text, re.DOTALL))
    assert chosen["task"] == "invoice"
    assert chosen["map.File Name"] == "PDF"
    assert chosen["key"] == "No"
    assert chosen["total"] == "Gross"
    keys = re.search(r'<select id="key".*?</select>', text, re.DOTALL)
    assert keys
    assert 'value="Kind"' not in keys[0].partition('label="all different"')[2].partition("</optgroup>")[0]
    assert "--rename PDF=&#39;File Name&#39;" in text or "--rename &#39;PDF=File Name&#39;" in text
    assert "Gross none 4.00 4.00" in plain(text)


def test_the_plan_is_that_of_check(tmp_path: Path) -> None:
    """What the page plans, `check` plans, by the command that the page shows; own tasks of the folder are known."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        text = page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id")
    assert "4 will start" in plain(text)
    assert "tasks.py:wait" in text
    done = run_program(*commands_of(text)[0][1:], cwd=tmp_path)
    assert "plan:    4 to start" in done.stdout


def test_no_task_of_the_folder_is_executed_before_it_is_chosen(tmp_path: Path) -> None:
    """Opening a folder runs none of its files: the list of tasks is read from their text."""
    write_sheet(tmp_path)
    (tmp_path / "other.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\ndef act(params):\n    pass\n", "utf-8"
    )
    with paged(tmp_path) as page:
        assert "other.py:act" in page.show("/sheet", file="list.csv")
    assert not (tmp_path / "ran").exists()


def test_a_task_that_was_edited_is_read_anew(tmp_path: Path) -> None:
    """The menus are those of the task as it is now."""
    (tmp_path / "list.csv").write_text("Id,Vendor\n1,a\n2,b\n", "utf-8")
    body = "from batch_runner import task\n\n@task\ndef act(*, {}: str) -> str:\n    return ''\n"
    with paged(tmp_path) as page:
        for name in ("vendor", "supplier"):
            (tmp_path / "tasks.py").write_text(body.format(name), "utf-8")
            text = page.show("/sheet", file="list.csv", task="tasks.py:act")
            assert f'id="map.{name}"' in text
    assert "the task needs" in plain(text)


def test_what_is_wrong_is_said_and_can_be_chosen_away(tmp_path: Path) -> None:
    """Hidden rows are refused in the words of `check`, and the table is there all the same; a click mends it."""
    write_sheet(tmp_path)
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["No", "Vendor", "Amount"], [1, "a", 10.5], [2, "b", 20.25], [3, "c", 1.5]):
        sheet.append(row)
    sheet.row_dimensions[3].hidden = True
    book.save(tmp_path / "hidden.xlsx")
    with paged(tmp_path) as page:
        text = page.show("/sheet", file="hidden.xlsx", task="tasks.py:pay")
        assert "Not yet" in text
        assert 'action="/run"' not in text
        problems = plain(text[text.index("Not yet") : text.index("</section>", text.index("Not yet"))])
        assert problems.endswith("the first is row 3 Leave them out Run them, too")
        leave, run = re.findall(r'href="/sheet\?([^"]+)">(?:Leave them out|Run them, too)', text)
        assert "2 will start" in plain(page.show(f"/sheet?{unescape(leave)}"))
        assert "3 will start" in plain(page.show(f"/sheet?{unescape(run)}"))


def run_list(page: Paged) -> str:
    """Run the list as the plan's own form does; gives the screen at its end."""
    text = page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id", total="Amount")
    return page.finish(page.send("/run", **hidden_fields(text, "/run")))


def test_a_batch_is_run_mended_and_all_is_well(tmp_path: Path) -> None:
    """It runs by the shown command; a mended cell is written into the result file, and only its row runs again.

    The person's own sheet stays as it is, to the byte.
    """
    path = write_sheet(tmp_path)
    before = path.read_bytes()
    with paged(tmp_path) as page:
        text = run_list(page)
        assert "3 success" in plain(text)
        assert "1 × failure" in plain(text)
        assert "a credit note is not paid" in text
        form = hidden_fields(text, "/mend")
        assert form["cell.3.2"] == "-2.50"
        again = page.finish(page.send("/mend", **{**form, "cell.3.2": "2.50"}))
        assert "every row succeeded" in again
        now = plain(page.show("/batch", journal=form["journal"], id="2"))
        assert "All 4 rows of the sheet have succeeded now : 3 earlier, 1 in this batch" in now
        assert "Control totals of the whole sheet, as it stands now" in now
        assert re.search(r"no currency 12\.00 12\.00 – – – –", now), now
        row = plain(page.show("/row", journal=form["journal"], id="2", row="3"))
        assert "In list.results.csv Id 002" in row  # where the mended amount stands; the own sheet has another one
        stale = page.send("/mend", **{**form, "cell.3.2": "7.50"})
        assert stale.status_code == 400
        assert "was edited since" in stale.text
    assert path.read_bytes() == before
    rows = rows_of(tmp_path / "list.results.csv")
    assert [row["status"] for row in rows] == ["success"] * 4
    assert rows[1]["Amount"] == "2.50"


def test_a_row_that_succeeded_since_is_not_offered_for_mending(tmp_path: Path) -> None:
    """The screen of an earlier batch offers only rows that still have not succeeded, and leads to the later batch."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        form = hidden_fields(run_list(page), "/mend")
        page.finish(page.send("/mend", **{**form, "cell.3.2": "2.50"}))
        first = page.show("/batch", journal=form["journal"], id="1")
        assert "All 4 rows of the sheet have succeeded now ." in plain(first)
        assert 'action="/mend"' not in first
        assert "Other batches of these results" in first


def test_a_group_that_failed_alike_is_run_again(tmp_path: Path) -> None:
    """All its rows run once more, and no other row."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        form = hidden_fields(run_list(page), "/retry")
        text = page.finish(page.send("/retry", **form))
        assert "1 failure" in plain(text)
        story = page.show("/row", journal=form["journal"], id="1", row="3")
        assert "2 attempts" in story
        assert "1 attempt<" in page.show("/row", journal=form["journal"], id="1", row="2")


def test_a_row_opens_to_its_story(tmp_path: Path) -> None:
    """Its own cells, its attempts with their times, and the result by its parts; the page runs nothing for it."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        run_list(page)
        journal = hidden_fields(page.show("/batch", journal=_journal(tmp_path), id="1"), "/batch#rows")["journal"]
        text = plain(page.show("/row", journal=journal, id="1", row="4"))
        for words in ("Vendor Vendor 3", "paid 3.50", "to Vendor 3", "1 attempt", "Sent 1 time", "--row 4"):
            assert words in text
        assert page.http.get("/row", params={"journal": journal, "id": "1", "row": "99"}).status_code == 400


def _journal(folder: Path) -> str:
    return next(folder.glob("*.db")).name


def test_rows_are_filtered_and_searched(tmp_path: Path) -> None:
    """By status, by words in the sheet's own cells whatever their case, by both, and by the row's number."""
    write_sheet(tmp_path, 60)
    with paged(tmp_path) as page:
        run_list(page)
        journal = _journal(tmp_path)

        def rows(**query: str) -> list[int]:
            text = page.show("/batch", journal=journal, id="1", part="live", **query)
            return [int(number) for number in re.findall(r'<th scope="row"><a [^>]*>(\d+)</a>', text)]

        assert rows() == list(range(2, 52))
        assert rows(after="51") == list(range(52, 62))
        assert rows(status="failure") == [3]
        assert rows(q="VENDOR 17") == [18]
        assert rows(q="vendor 2", status="failure") == [3]
        assert rows(q="vendor 2", status="success") == [21, *range(22, 31)]
        assert rows(q="61") == [61]
        assert rows(q="100%_") == []


def test_a_batch_of_cron_is_seen_live_and_stopped_here(tmp_path: Path) -> None:
    """One that somebody else started is seen while it runs; it gets more runs at once, and stops in two steps."""
    write_sheet(tmp_path)
    program = start_program(
        "run", "list.csv", "--task", "tasks.py:wait", "--workers", "1", "--concurrency", "1", cwd=tmp_path
    )
    with program, paged(tmp_path) as page:
        until = time.monotonic() + PATIENCE
        while "Running now" not in page.show("/") and time.monotonic() < until:
            time.sleep(0.1)
        journal = _journal(tmp_path)
        text = page.show("/batch", journal=journal)
        while not re.search("(queued|running) ", plain(text.partition('id="rows"')[2])) and time.monotonic() < until:
            time.sleep(0.1)
            text = page.show("/batch", journal=journal)
        assert "data-events" in text
        with page.http.stream("GET", "/events", params={"journal": journal, "id": "1"}) as events:
            assert '"running":true' in next(events.iter_text())
        form = hidden_fields(text, "/stop")
        assert page.send("/adjust", **form, concurrency="2").status_code == 200
        assert page.send("/adjust", **form, concurrency="0").status_code == 400
        stopping = page.send("/stop", **form)
        assert "Leave at once" in stopping.text
        (tmp_path / "go").touch()
        assert program.wait(PATIENCE) == 130
        assert "stopped by a person" in page.show("/batch", journal=journal, id="1")
        program.communicate()


def test_a_batch_outlives_the_page_also_when_that_is_killed(tmp_path: Path) -> None:
    """It is a process of its own: the page is killed, the batch goes on, and the next page sees it and its choices."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        page.send("/run", file="list.csv", task="tasks.py:wait", key="Id")
        page.end(KILL)
    with paged(tmp_path) as page:
        assert "Running now" in page.show("/")
        (tmp_path / "go").touch()
        text = page.finish(page.http.get("/batch", params={"journal": _journal(tmp_path)}))
        assert "4 success" in plain(text)
        assert "--key Id" in plain(text)


def test_a_batch_that_was_killed_is_said_to_be_cut_off_and_goes_on(tmp_path: Path) -> None:
    """After a kill -9 the page says so; the same command goes on, and no row that ran is started again."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        text = page.send("/run", file="list.csv", task="tasks.py:wait", key="Id").text
        journal = _journal(tmp_path)
        until = time.monotonic() + PATIENCE
        while not re.search("[4] (queued|running)", plain(text)) and time.monotonic() < until:
            time.sleep(0.1)
            text = page.show("/batch", journal=journal, id="1", part="live")
        pid = next(int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal() and _is_batch(p, tmp_path))
        os.kill(pid, KILL)
        while "cut off" not in text and time.monotonic() < until:
            text = page.show("/batch", journal=journal, id="1")
        assert "cut off" in text
        (tmp_path / "go").touch()
        page.finish(page.send("/run", file="list.csv", task="tasks.py:wait", key="Id"))
    assert len(rows_of(tmp_path / "list.results.csv")) == 4


def _is_batch(process: Path, folder: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return b"batch_runner" in words and b"run" in words and (process / "cwd").readlink() == folder.resolve()
    except OSError:
        return False


def test_an_unknown_row_is_settled(tmp_path: Path) -> None:
    """Paid, or not paid, with how one knows: it stands in the journal with who said so, as `resolve` does it."""
    import sqlite3

    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        run_list(page)
        journal = _journal(tmp_path)
        with closing(sqlite3.connect(tmp_path / journal)) as connection, connection:
            connection.execute("UPDATE attempt SET status = 'unknown', run_id = NULL, error = 'lost' WHERE id = 1")
            connection.execute('UPDATE told SET json = replace(json, \'"success":3\', \'"success":2,"unknown":1\')')
        now = plain(page.show("/batch", journal=journal, id="1"))
        assert re.search(r"as it stands now .* no currency 7\.00 8\.00 -2\.50 1\.50", now), now
        assert "when it ended" not in plain(page.show("/nights"))
        planned = plain(page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id"))
        assert re.search("\\b2 unknown 001", planned)  # once, and no why that says the same
        number = re.search(r'row=(\d+)"', page.show("/batch", journal=journal, id="1", status="unknown", part="live"))
        assert number
        row = number[1]
        form = hidden_fields(page.show("/row", journal=journal, id="1", row=row), "/resolve")
        assert page.send("/resolve", **{**form, "as": "success", "note": " "}).status_code == 400
        settled = page.send("/resolve", **{**form, "as": "success", "note": "on the statement", "who": "Ada"})
        assert "Ada" in settled.text
        assert "on the statement" in settled.text
        assert "unknown → success" in settled.text
        assert "What became of it?" not in settled.text
        now = plain(page.show("/batch", journal=journal, id="1"))
        assert re.search(r"as it stands now .* no currency 7\.00 9\.50 -2\.50 –", now), now
        assert "when it ended" in plain(page.show("/nights"))
        assert "Your finding is kept. Run list.csv once more" in plain(settled.text)
        run_list(page)
        assert "Your finding is kept" not in page.show("/row", journal=journal, id="1", row=row)
        assert "Your finding is kept" not in page.show("/row", journal=journal, id="2", row=row)
    written = next(each for each in rows_of(tmp_path / "list.results.csv") if each["Id"] == "001")
    assert written["status"] == "success"


def test_a_job_file_is_saved_and_says_the_same(tmp_path: Path) -> None:
    """It is a job that `check` takes, with the choices made; cron and systemd name it; no file is lost."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        text = run_list(page)
        form = {"journal": _journal(tmp_path), "id": "1"}
        assert "/save?" in text
        saved = page.send("/save", **form, name="payments.toml")
        assert f"run {tmp_path / 'payments.toml'} --quiet" in saved.text
        assert "OnCalendar=" in saved.text
        assert page.send("/save", **form, name="payments.toml").status_code == 400
        assert page.send("/save", **form, name="../evil.toml").status_code == 400
        assert page.send("/save", **form, name="tasks.py").status_code == 400
    done = run_program("check", "payments.toml", cwd=tmp_path)
    assert "4 carried over" in done.stdout, done.stderr
    assert "key:     Id" in done.stdout


def test_the_nights_of_all_journals_are_listed(tmp_path: Path) -> None:
    """When, which sheet, how many, what they and their amounts came to, how each ended; the latest first."""
    write_sheet(tmp_path)
    (tmp_path / "more.csv").write_text("Id,Vendor,Amount\n7,z,1.50\n8,y,2.50\n", "utf-8")
    run_program("run", "more.csv", "--task", "tasks.py:pay", cwd=tmp_path)
    with paged(tmp_path) as page:
        run_list(page)
        text = plain(page.show("/nights"))
    assert text.index("list.csv 4 3 success 1 failure 9.50 of 7.00 complete; some rows did not succeed") < text.index(
        "more.csv 2 2 success complete: every row succeeded"
    )


def test_files_of_a_batch_are_given_out_to_the_letter(tmp_path: Path) -> None:
    """The result file and the report, as files to keep."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        run_list(page)
        query = {"journal": _journal(tmp_path), "id": "1"}
        answer = page.http.get("/download", params=query)
        assert answer.content == (tmp_path / "list.results.csv").read_bytes()
        assert "attachment" in answer.headers["content-disposition"]
        report = page.http.get("/download", params={**query, "what": "report"})
        assert report.content == (tmp_path / "list.report.html").read_bytes()


def test_a_batch_that_can_not_begin_says_why(tmp_path: Path) -> None:
    """What the program printed stands on the screen, and the exit code isn't taken for success."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        (tmp_path / "list.results.csv").mkdir()
        answer = page.send("/run", file="list.csv", task="tasks.py:pay", key="Id")
    assert "the output is a folder" in answer.text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}"])
def test_what_stands_in_a_sheet_is_text(tmp_path: Path, text: str) -> None:
    """Cells, headers, results and errors of any kind are shown as text, never as markup."""
    (tmp_path / "tasks.py").write_text("def say(params):\n    return {params['Say']: params['Say']}\n", "utf-8")
    with (tmp_path / "odd.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["Id", "Say", text], ["1", text, text], ["2", "b", "c"]])
    with paged(tmp_path) as page:
        shown = page.show("/sheet", file="odd.csv", task="tasks.py:say", key="Id")
        shown += page.finish(page.send("/run", file="odd.csv", task="tasks.py:say", key="Id"))
        shown += page.show("/row", journal=_journal(tmp_path), id="1", row="2")
    assert "<script>alert" not in shown
    assert "<img" not in shown
    assert "&gt; 49" not in shown
    assert text in plain(shown) or text in shown.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"')


def test_a_workbook_with_formulas_is_mended_and_stays_whole(tmp_path: Path) -> None:
    """A refused `#N/A` in it is mended in the result file; formulas stay formulas, which Excel calculates anew."""
    write_sheet(tmp_path)
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["Id", "Vendor", "Amount"],
        ["a", "A", 1.5],
        ["b", "B", "#N/A"],
        ["c", "C", 2.5],
        [None, None, "=SUM(C2:C4)"],
    ):
        sheet.append(row)
    book.save(tmp_path / "sums.xlsx")
    with paged(tmp_path) as page:
        text = page.finish(page.send("/run", file="sums.xlsx", task="tasks.py:pay", key="Id"))
        form = hidden_fields(text, "/mend")
        again = page.finish(page.send("/mend", **{**form, "cell.3.2": "7.25"}))
    assert "every row succeeded" in again, plain(again)
    mended = openpyxl.load_workbook(tmp_path / "sums.results.xlsx")["Sheet"]
    assert [cell.value for cell in mended["C"]] == ["Amount", 1.5, "7.25", 2.5, "=SUM(C2:C4)"]
    assert [cell.value for cell in mended["E"]][1:4] == ["success"] * 3
