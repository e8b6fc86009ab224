"""What the page's screens say and offer is what the shell says and does: commands, amounts, keys, settled rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from paged import Paged, commands_of, hidden_fields, paged, plain, write_sheet
from ping_server import ping_server
from program import run_program
from screens import COMPARED, MAY, screens, settle, write_list

from batch_runner.journal.view import JournalView

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long


def run_list(page: Paged) -> str:
    """Run the list as the plan's own form does; gives the screen at its end."""
    text = page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id", total="Amount")
    return page.finish(page.send("/run", **hidden_fields(text, "/run")))


def _journal(folder: Path) -> str:
    return next(folder.glob("*.db")).name


def test_each_screen_shows_commands_that_do_the_same(tmp_path: Path) -> None:
    """Every command of every screen is one that the program takes: none ends as wrong (2), or as a bug (1)."""
    said: list[list[str]] = []
    for page, name, path in screens(tmp_path):
        answer = page.http.get(path)
        commands = commands_of(answer.text if answer.is_error or name == "starting" else page.show(path))
        assert commands, name
        if name in ("not-yet", "anchor", "running-now", "starting"):
            continue
        if name in ("live", "adjusted", "stopping"):
            commands = [words for words in commands if words[1] in ("status", "adjust")]
        for words in commands:
            if words not in said and words[:2] != ["batch-runner", "open"] and "saved" not in path and name != "save":
                said.append(words)
                done = run_program(*words[1:], cwd=tmp_path)
                assert done.returncode in (0, 3, 4), (name, words, done.stderr)
    assert {words[1] for words in said} == {"check", "run", "status", "resolve", "adjust"}


def test_a_saved_job_runs_by_the_command_that_is_shown(tmp_path: Path) -> None:
    """What the screen says after saving is what runs it; so does the line that init prints for cron."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        run_list(page)
        saved = page.send("/save", journal=_journal(tmp_path), id="1", name="mine.toml")
        run, init = commands_of(saved.text)
        page.show("/batch", journal=_journal(tmp_path))
    assert run == ["batch-runner", "run", "mine.toml"]
    assert run_program(*run[1:], cwd=tmp_path).returncode == 3
    assert "mine.toml --quiet" in run_program(*init[1:], cwd=tmp_path).stdout


def test_a_batch_of_a_job_file_shows_no_secret_and_is_mended_without_one(tmp_path: Path) -> None:
    """Addresses that may be secret stand on no screen and on no command line; its command is that of the job file."""
    write_sheet(tmp_path)
    secret = "hc-4711-secret"
    with ping_server() as pings:
        job = f'input = "list.csv"\ntask = "tasks.py:pay"\nkey = ["Id"]\nheartbeat = "{pings.url}/${{PING}}"\n'
        (tmp_path / "nightly.toml").write_text(job + 'deadline = "1h"\n', "utf-8")
        assert run_program("run", "nightly.toml", cwd=tmp_path, PING=secret).returncode == 3
        with paged(tmp_path, PING=secret) as page:
            text = page.show("/batch", journal=_journal(tmp_path), id="1")
            assert ["batch-runner", "run", "nightly.toml"] in commands_of(text)
            assert "/save?" not in text
            answer = page.send("/mend", **{**hidden_fields(text, "/mend"), "cell.3.2": "2.50"})
            again = page.finish(answer)
    assert "every row succeeded" in again, plain(again)
    for shown in (text, again):
        assert secret not in shown
        assert "--heartbeat" not in shown
    assert "--deadline" not in again


def test_a_key_of_several_columns_is_chosen(tmp_path: Path) -> None:
    """Columns that are different only together are the key; where they aren't, it is said how many rows are alike."""
    write_sheet(tmp_path)
    rows = "".join(f"{vendor},{number},{number}.50\n" for vendor in "AB" for number in (1, 2))
    (tmp_path / "two.csv").write_text(f"Vendor,Invoice No,Amount\n{rows}", "utf-8")
    chosen = {"file": "two.csv", "task": "tasks.py:pay"}
    with paged(tmp_path) as page:
        assert commands_of(page.show("/sheet", file="two.csv"))[0][-4:-2] == ["--key", "Vendor,Invoice No"]
        one = page.show("/sheet", **chosen, key="Vendor")
        assert "2 rows have the same Vendor as a row above" in plain(one)
        text = page.show("/sheet", **chosen, key=["Vendor", "Invoice No", ""])
        assert "as a row above" not in plain(text)
        assert commands_of(text)[0][-4:-2] == ["--key", "Vendor,Invoice No"]
        form = {**chosen, "key": ["Vendor", "Invoice No"]}
        page.finish(page.http.post("/run", data=form, headers={"Origin": page.base}, follow_redirects=True))
    with JournalView.open(tmp_path / _journal(tmp_path)) as view:
        assert view.key_columns() == ("Invoice No", "Vendor")


def test_amounts_and_rows_that_differ_are_told_afterwards(tmp_path: Path) -> None:
    """The control totals stand on the batch's screen and on the nights'; a row whose result differs is marked."""
    write_list(tmp_path)
    with paged(tmp_path) as page:
        text = plain(page.finish(page.send("/run", **COMPARED)))
        nights = plain(page.show("/nights"))
        halves = page.send("/run", **{**COMPARED, "compare_part": ""})
    assert "CHF 2,084.75 2,105.25 -20.50 – – –" in text
    assert "EUR 4,310.75 4,310.75 – – – –" in text
    assert "1 cell of Gross not added: row 8: the error #N/A" in text
    assert "Gross and result.total differ in 1 of 10 rows that succeeded" in text
    assert "differs: Gross 300.75 in the sheet, 1.00 in result.total" in text
    assert "2,105.25 of 2,084.75 CHF 4,310.75 EUR" in nights
    assert halves.status_code == 400


def test_a_row_whose_run_never_ends_is_settled_with_a_note(tmp_path: Path) -> None:
    """It stands among what did not succeed, with since when; it has a run, so it can't be said that it never ran."""
    write_list(tmp_path)
    with paged(tmp_path) as page:
        page.finish(page.send("/run", **MAY))
        journal = _journal(tmp_path)
        settle(tmp_path / journal)
        of = {"journal": journal, "id": "1"}
        text = plain(page.show("/batch", **of))
        assert "1 × running still running after 30m Row 10 It took longer than it may." in text
        story = page.show("/row", **of, row="10")
        assert "This run is running since 2026-05-30" in plain(story)
        assert 'value="not_started"' not in story
        assert 'value="not_started"' in page.show("/row", **of, row="7")
        form = hidden_fields(story, "/resolve")
        assert page.send("/resolve", **{**form, "as": "not_started", "note": "gone"}).status_code == 400
        settled = page.send("/resolve", **{**form, "as": "failure", "note": "the service lost it", "who": "Ada"})
        assert "running → failure. the service lost it" in plain(settled.text)
        nights = plain(page.show("/nights"))
    assert "1 unknown" not in nights  # as it was told at the end; a batch that had unknown rows is counted anew


def test_an_edited_sheet_puts_no_cell_beside_the_wrong_row(tmp_path: Path) -> None:
    """Where the sheet was sorted since, its cells stand beside no outcome; those of the result file do."""
    path = write_sheet(tmp_path)
    with paged(tmp_path) as page:
        run_list(page)
        of = {"journal": _journal(tmp_path), "id": "1", "part": "live"}
        head, *rows = path.read_text("utf-8").splitlines()
        path.write_text("\n".join([head, *reversed(rows)]) + "\n", "utf-8")
        assert re.search(r">2</a>.*?Vendor 1<", page.show("/batch", **of), re.DOTALL)
        (tmp_path / "list.results.csv").write_text("Id,Vendor,Amount\n9,Nobody,1.00\n", "utf-8")
        text = page.show("/batch", **of)
    assert "Vendor 1" not in re.findall(r"<td[^>]*>([^<]*)</td>", text)
    assert "Nobody" not in text
    assert "The sheet was edited since" in text


def test_the_time_is_told_where_runs_before_say_so(tmp_path: Path) -> None:
    """Without a history no word; then a range, from how long the last runs took."""
    write_sheet(tmp_path, 30)
    with paged(tmp_path) as page:
        assert "It may take" not in page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id")
        run_list(page)
        write_sheet(tmp_path, 60)
        text = plain(page.show("/sheet", file="list.csv", task="tasks.py:pay", key="Id"))
    assert re.search(r"It may take (a few seconds|about .* to .*): the last 30 runs took [0-9.]+ s each", text)


def test_a_task_in_the_cloud_leads_to_its_id_and_its_key(tmp_path: Path) -> None:
    """Without an id that is asked for, without a key it is said where one may be typed; the command is never half."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        text = page.show("/sheet", file="list.csv", task="anchor:")
        assert "say the id of the task" in text
        assert "anchor:" not in " ".join(commands_of(text)[0])
        text = page.show("/sheet", file="list.csv", task="anchor:", task_id="task-1")
        assert "Anchor's cloud wants a key" in plain(text)
        assert 'href="/#key"' in text
        assert commands_of(text)[0][3:7] == ["--task", "task-1", "--service", "anchor"]
        page.send("/key", key="ak-4711")
        text = page.show("/sheet", file="list.csv", task="anchor:", task_id="task-1")
        assert "4 will start" in plain(text)
