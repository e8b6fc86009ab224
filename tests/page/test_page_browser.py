"""The local page in a real browser: the bookkeeper's way, its keyboard, and what axe says of each screen."""

from __future__ import annotations

import csv
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Hand, browsing, tab_to, violations
from paged import paged, write_sheet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paged import Paged
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.long
INVOICE = Path(__file__).parent.parent.parent / "samples" / "invoices" / "harbour-paper-2026-0117.pdf"
PATIENCE = 60_000
MOST_CLICKS = 12


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def open_screen(browser: Browser, page: Paged) -> Page:
    """The first screen, in a window of its own that tolerates no error of a script, and nothing that is stopped."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    screen = context.new_page()
    errors: list[str] = []
    screen.on("pageerror", lambda error: errors.append(str(error)))
    screen.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    screen.goto(page.address)
    assert not errors
    return screen


def write_invoices(folder: Path) -> None:
    """40 rows of invoices; the files that three of them name aren't there."""
    shutil.copy(INVOICE, folder / "paid.pdf")
    names = ["piad.pdf" if n in (7, 19, 31) else "paid.pdf" for n in range(1, 41)]
    with (folder / "may.csv").open("w", encoding="utf-8", newline="") as file:
        rows = ([f"{number:03}", name, "x"] for number, name in enumerate(names, 1))
        csv.writer(file).writerows([["No", "PDF", "Note"], *rows])


def test_the_bookkeepers_way_takes_few_clicks(browser: Browser, tmp_path: Path) -> None:
    """From the folder to 40 rows that all succeeded, three of them mended: at most 12 clicks, and no shell."""
    write_invoices(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        hand = Hand(screen)
        hand.click("text=may.csv")
        hand.click("text=Run 40 rows")
        screen.wait_for_selector("text=Mend and run again")
        assert "37" in screen.inner_text(".counts")
        for number in (8, 20, 32):
            hand.click(f"[name='cell.{number}.1']")
            screen.fill(f"[name='cell.{number}.1']", "paid.pdf")
        hand.click("button:has-text('Mend and run')")
        screen.wait_for_selector("text=Complete: every row succeeded")
        assert hand.clicks <= MOST_CLICKS
        screen.context.close()
    with (tmp_path / "may.results.csv").open(encoding="utf-8-sig") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["success"] * 40
    assert (tmp_path / "may.csv").read_text("utf-8").count("piad.pdf") == 3


def test_all_can_be_done_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    """Every step has a key: choose, run, mend, run again."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        tab_to(screen, "e.textContent.includes('list.csv')")
        screen.keyboard.press("Enter")
        screen.wait_for_selector("#task")
        tab_to(screen, "e.id === 'task'")
        screen.keyboard.type("tasks.py:pay")
        screen.keyboard.press("Enter")
        screen.wait_for_selector("text=The plan")
        tab_to(screen, "e.textContent.startsWith('Run 4')")
        screen.keyboard.press("Enter")
        screen.wait_for_selector("text=Mend and run again")
        tab_to(screen, "e.name === 'cell.3.2'")
        screen.keyboard.press("ControlOrMeta+A")
        screen.keyboard.type("2.50")
        screen.keyboard.press("Enter")
        screen.wait_for_selector("text=Complete: every row succeeded")
        screen.context.close()


def test_a_live_screen_moves_by_itself(browser: Browser, tmp_path: Path) -> None:
    """Counts move without a reload while it runs, and the screen turns to the end by itself."""
    write_sheet(tmp_path, 6)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        page.send("/run", file="list.csv", task="tasks.py:wait", key="Id")
        screen.goto(f"{page.base}/batch?journal={next(tmp_path.glob('*.db')).name}")
        screen.wait_for_selector("#live[data-events]")
        screen.evaluate("window.isTheSame = true")
        screen.wait_for_function("/[1-6]\\s+(queued|running)/.test(document.querySelector('#live').innerText)")
        assert screen.evaluate("window.isTheSame === true")
        (tmp_path / "go").touch()
        screen.wait_for_selector("text=Complete: every row succeeded")
        screen.context.close()


def test_axe_finds_nothing_wrong_with_any_screen(browser: Browser, tmp_path: Path) -> None:
    """0 violations on each screen, at 375 and 1280 px, light and dark; none is wider than the window."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        found = violations(screen)
        page.finish(page.send("/run", file="list.csv", task="tasks.py:pay", key="Id", total="Amount"))
        journal = next(tmp_path.glob("*.db"))
        with closing(sqlite3.connect(journal)) as connection, connection:
            connection.execute("UPDATE attempt SET status = 'unknown', run_id = NULL, error = 'lost' WHERE row = 1")
        of = f"journal={journal.name}&id=1"
        for path in (
            "/",
            "/sheet?file=list.csv",
            "/sheet?file=list.csv&task=nothing.py:nothing",
            "/sheet?file=list.csv&task=tasks.py:pay&key=Id&total=Amount",
            f"/batch?{of}",
            f"/row?{of}&row=2",
            f"/row?{of}&row=3",
            f"/save?{of}",
            "/nights",
            "/sheet?file=none.csv",
        ):
            screen.goto(page.base + path)
            found += violations(screen)
        screen.context.close()
    assert not found, "\n".join(found)
