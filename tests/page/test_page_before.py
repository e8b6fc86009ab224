"""What a screen says of what was before: what ran, what was compared, by what a sheet's rows were known."""

from __future__ import annotations

import html
import os
import re
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from paged import hidden_fields, paged, plain, rows_of, write_sheet
from program import run_program
from systems import KILL
from workbooks import Tab, text_cell, text_row, write_workbook

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 300
pytestmark = pytest.mark.long
BAD_AND_SLOW = """
import time
from pathlib import Path

def pay(params):
    with Path("tries").open("a") as tries:
        tries.write(params["Id"] + " ")
    if params["Amount"].startswith("-"):
        raise ValueError("a credit note is not paid")
    while params["Amount"] == "2.75" and not Path("go").exists():
        Path("paying").touch()
        time.sleep(0.05)
    return {"paid": params["Amount"]}
"""


def test_what_was_compared_is_said_also_where_nothing_differs(tmp_path: Path) -> None:
    """Who asked for a comparison hears that all is the same; and of a batch's time, only its own rows are counted."""
    write_sheet(tmp_path)
    chosen = {"file": "list.csv", "task": "tasks.py:pay", "key": "Id", "compare": "Amount", "compare_part": "paid"}
    with paged(tmp_path) as page:
        text = plain(page.finish(page.send("/run", **chosen)))
        assert "Amount and result.paid are the same in all 3 rows that succeeded" in text
        assert re.search(r"\b4 rows in [\d.]+ s(?!; )", text)
        path = tmp_path / "list.csv"
        path.write_text(path.read_text("utf-8") + "005,Vendor 5,5.50\n", "utf-8")
        text = plain(page.finish(page.send("/run", **chosen)))
        assert re.search(r"\b1 row in [\d.]+ s; 4 did not run this time", text)


def test_a_sheet_that_ran_is_known_by_what_it_was_known_by(tmp_path: Path) -> None:
    """Its next plan begins with the key that it ran with, so none is refused; that of another sheet does not."""
    path = write_sheet(tmp_path)
    shutil.copy(path, tmp_path / "more.csv")

    def proposed_in(text: str) -> list[str]:
        selects = re.findall(r'<select id="key[^"]*" name="key".*?</select>', text, re.DOTALL)
        return [chosen for each in selects for chosen in re.findall('value="([^"]+)" selected', each)]

    with paged(tmp_path) as page:
        new = proposed_in(page.show("/sheet", file="list.csv"))
        assert new == ["Id"]
        run = {"file": "list.csv", "task": "tasks.py:pay", "key": ["Vendor", "Id"]}
        answer = page.http.post("/run", data=run, headers={"Origin": page.base}, follow_redirects=True)
        page.finish(answer)
        key = proposed_in(page.show("/sheet", file="list.csv"))
        assert key == ["Id", "Vendor"]
        text = plain(page.show("/sheet", file="list.csv", task="tasks.py:pay", key=key))
        assert "3 done before" in text
        assert "Run it No row is started." in text
        assert proposed_in(page.show("/sheet", file="more.csv")) == new


def test_a_mending_that_was_cut_off_goes_on_with_what_was_mended(tmp_path: Path) -> None:
    """Killed in the middle, it goes on by its own command: what was typed stays, and only its rows are tried again."""
    path = write_sheet(tmp_path, 6)
    path.write_text(path.read_text("utf-8").replace("6,6.50", "6,-6.50"), "utf-8")
    (tmp_path / "tasks.py").write_text(BAD_AND_SLOW, "utf-8")
    with paged(tmp_path) as page:
        chosen = {"file": "list.csv", "task": "tasks.py:pay", "key": "Id"}
        form = hidden_fields(page.finish(page.send("/run", **chosen)), "/mend")
        answer = page.send("/mend", **{**form, "cell.3.2": "2.75"})
        until = time.monotonic() + PATIENCE
        while not (tmp_path / "paying").exists() and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(int(answer.url.params["pid"]), KILL)
        (tmp_path / "go").touch()
        text = page.finish(answer)
        assert "Go on with it" in text
        page.finish(page.send("/again", **hidden_fields(text, "/again")))
    rows = rows_of(tmp_path / "list.results.csv")
    assert [row["Amount"] for row in rows] == ["1.50", "2.75", "3.50", "4.50", "5.50", "-6.50"]
    assert [row["status"] for row in rows] == ["success", "unknown", *["success"] * 3, "failure"]
    assert (tmp_path / "tries").read_text("utf-8").count("006") == 1


def test_a_sheet_that_changed_after_its_plan_was_seen_is_not_started(tmp_path: Path) -> None:
    """What is run is what was seen: nothing starts, that is said, and the plan of the sheet as it is now is shown."""
    path = write_sheet(tmp_path)
    with paged(tmp_path) as page:
        form = hidden_fields(page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id"), "/run")
        path.write_text(path.read_text("utf-8").replace("4.50", "4000.50"), "utf-8")
        answer = page.send("/run", **form)
        assert not (tmp_path / "list.results.csv").exists()
        text = page.show(f"{answer.url.path}?{answer.url.query.decode()}")
        assert "Nothing was started: the sheet was changed after you saw its plan" in text
        page.finish(page.send("/run", **hidden_fields(text, "/run")))
    assert [row["status"] for row in rows_of(tmp_path / "list.results.csv")] == ["success", "failure", *["success"] * 2]


def test_a_row_like_a_total_is_left_out_by_one_click(tmp_path: Path) -> None:
    """It is named beside the plan with both ways, each a link that plans anew with all else that was chosen."""
    path = write_sheet(tmp_path)
    path.write_text(path.read_text("utf-8") + "Summe,,7.00\n", "utf-8")
    with paged(tmp_path) as page:
        text = page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id", total="Amount")
        assert "Row 6 looks like a total, a heading or a note, so it is refused." in plain(text)
        ways = {
            way: html.unescape(address) for address, way in re.findall(r'href="(/sheet[^"]*)">(Leave|Run) it', text)
        }
        left, ran = (plain(page.show(ways[way])) for way in ("Leave", "Run"))
    assert "4 will start" in left
    assert "your row 6 says 7.00: equal" in left
    assert "5 will start" in ran
    assert "so it is refused" not in left + ran


def test_a_batch_that_mends_one_of_two_rows_is_not_complete_for_the_sheet(tmp_path: Path) -> None:
    """Its headline speaks of the rows that ran, and the others are counted under it."""
    write_sheet(tmp_path)
    (tmp_path / "list.csv").write_text("Id,Vendor,Amount\n001,A,1.50\n002,B,-2.50\n003,C,-3.50\n", "utf-8")
    with paged(tmp_path) as page:
        plan = page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id")
        text = page.finish(page.send("/run", **hidden_fields(plan, "/run")))
        form = {**hidden_fields(text, "/mend"), "cell.3.2": "2.50"}
        page.finish(page.send("/mend", **form))
        shown = plain(page.show("/batch", journal=form["journal"], id="2"))
    assert "Complete: every row that ran succeeded" in shown, shown
    assert "2 of all 3 rows of the sheet have succeeded now" in shown
    assert "The others: 1 failure" in shown


def test_what_succeeded_before_is_not_counted_as_of_this_batch(tmp_path: Path) -> None:
    """A row that was carried over beside one that failed again: nothing succeeded here."""
    write_sheet(tmp_path)
    (tmp_path / "job.toml").write_text('input = "list.csv"\ntask = "tasks.py:pay"\nkey = "Id"\n', "utf-8")
    run_program("run", "job.toml", cwd=tmp_path)
    run_program("run", "job.toml", "--rows", "2-3", "--retry", "failure", "--retry-wait", "0", cwd=tmp_path)
    with paged(tmp_path) as page:
        text = plain(page.show("/batch", journal="tasks.py-pay.journal.db", id="2"))
    assert "3 of all 4 rows of the sheet have succeeded now : 3 earlier, 0 in this batch." in text


def test_a_row_that_was_refused_is_not_offered_to_run_again(tmp_path: Path) -> None:
    """It never ran, and would be refused once more; what failed is offered, and a cell can be mended."""
    write_sheet(tmp_path)
    with (tmp_path / "list.csv").open("a", encoding="utf-8") as file:
        file.write("Total,,9.50\n")
    chosen = {"file": "list.csv", "task": "tasks.py:pay", "key": "Id"}
    with paged(tmp_path) as page:
        text = page.finish(page.send("/run", **chosen))
    assert text.count("Run this row again") == 1
    (refused,) = [group for group in text.split("<article")[1:] if "it looks like a total" in group]
    assert "Nothing was sent for it. Do what is said here, for a cell in the form above" in refused
    assert "Run this row again" not in refused


def test_a_mended_cell_makes_no_row_with_a_formula_an_edited_one(tmp_path: Path) -> None:
    """After it the file says that its formulas are out of date; the totals still count their rows as succeeded."""
    write_sheet(tmp_path)
    rows = text_row(1, "Id", "Vendor", "Amount", "Net")
    for number, amount in ((2, "1.50"), (3, "-2.50"), (4, "3.50")):
        texts = text_cell(f"A{number}", f"00{number}") + text_cell(f"B{number}", "V") + text_cell(f"C{number}", amount)
        rows += f'<row r="{number}">{texts}<c r="D{number}"><f>C{number}/2</f><v>0.75</v></c></row>'
    write_workbook(tmp_path / "net.xlsx", {"Net": Tab(rows=rows)})
    chosen = {"file": "net.xlsx", "task": "tasks.py:pay", "key": "Id", "total": "Amount"}
    with paged(tmp_path) as page:
        form = hidden_fields(page.finish(page.send("/run", **chosen)), "/mend")
        page.finish(page.send("/mend", **{**form, "cell.3.2": "2.50", "cell.3.3": "1.25"}))
        now = plain(page.show("/batch", journal=form["journal"], id="2"))
    assert re.search(r"no currency 7\.50 7\.50 – – – –", now), now
