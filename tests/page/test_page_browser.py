"""The local page in a real browser: the bookkeeper's way, its keyboard, and what axe says of each screen."""

from __future__ import annotations

import csv
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import NARROW_DARK, NARROW_LIGHT, WIDE_DARK, WIDE_LIGHT, Hand, browsing, tab_to, violations
from paged import paged, rows_of, write_sheet
from screens import MAY, screens, settle, write_list
from systems import KILL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browsing import Look
    from paged import Paged
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.long
INVOICE = Path(__file__).parent.parent.parent / "samples" / "invoices" / "harbour-paper-2026-0117.pdf"
PATIENCE = 300_000
MOST_CLICKS = 12
LARGE = 12_000
MORE = b"Id,Vendor,Amount\n001,A,1.50\n002,B,-2.50\n"


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
    assert [row["status"] for row in rows_of(tmp_path / "may.results.csv")] == ["success"] * 40
    assert (tmp_path / "may.csv").read_text("utf-8").count("piad.pdf") == 3


def test_a_cell_to_mend_is_seen_whole(browser: Browser, tmp_path: Path) -> None:
    """Where a long text stands in a sheet of many columns, its last digits are seen, too: an error may be there."""
    write_sheet(tmp_path)
    long = "DE88370400440532013099"
    head = "Id,Vendor,Amount,IBAN,Due,Customer,Street,Remark"
    rows = [f"{n:03},Alpen Holz GmbH,{'-' if n == 2 else ''}1,{long},2026-12-01,c,s,r" for n in (1, 2)]
    (tmp_path / "list.csv").write_text("\n".join([head, *rows]) + "\n", "utf-8")
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        page.finish(page.send("/run", file="list.csv", task="tasks.py:pay", key="Id"))
        screen.goto(f"{page.base}/batch?journal={next(tmp_path.glob('*.db')).name}&id=1")
        for width in (1280, 375):
            screen.set_viewport_size({"width": width, "height": 800})
            cut = "[...document.querySelectorAll('.mend input')].filter(e => e.scrollWidth > e.clientWidth).length"
            assert screen.evaluate(cut) == 0
            assert screen.evaluate("document.documentElement.scrollWidth") <= width
        screen.context.close()


def test_a_night_stays_a_few_lines_high_on_a_narrow_screen(browser: Browser, tmp_path: Path) -> None:
    """Its words keep together, and the table is scrolled: a night is no tall, empty block."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        page.finish(page.send("/run", file="list.csv", task="tasks.py:pay", key="Id", total="Amount"))
        screen.set_viewport_size({"width": 375, "height": 800})
        screen.goto(f"{page.base}/nights")
        high = screen.evaluate("Math.max(...[...document.querySelectorAll('tbody tr')].map(e => e.offsetHeight))")
        line = screen.evaluate("parseFloat(getComputedStyle(document.querySelector('td')).lineHeight)")
        assert high < 4.5 * line
        screen.context.close()


def test_no_plan_of_an_earlier_choice_can_be_run(browser: Browser, tmp_path: Path) -> None:
    """Once something else is chosen, the plan that stands there goes, with its button, until it is shown anew."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        for change in ("select[name=total]", "#concurrency", "select[name=key]"):
            screen.goto(f"{page.base}/sheet?file=list.csv&task=tasks.py:pay&key=Id&concurrency=3")
            assert screen.is_visible("text=Run 4 rows")
            if change == "#concurrency":
                screen.fill(change, "2")
            else:
                screen.select_option(change, "Amount")
            assert not screen.is_visible("text=Run 4 rows")
            assert screen.is_visible("text=its plan is not shown yet")
            with screen.expect_navigation():
                screen.click("text=Show the plan for this")
            assert screen.is_visible("text=Run 4 rows")
        screen.context.close()


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


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param((NARROW_LIGHT, WIDE_DARK), id="narrow-light-and-wide-dark"),
        pytest.param((NARROW_DARK, WIDE_LIGHT), id="narrow-dark-and-wide-light", marks=pytest.mark.soak),
    ],
)
def test_axe_finds_nothing_wrong_with_any_screen(browser: Browser, tmp_path: Path, looks: tuple[Look, ...]) -> None:
    """0 violations of any rule on each screen in each state, at 375 and 1280 px, light and dark; none is too wide."""
    found: list[str] = []
    screen: Page | None = None
    for page, name, path in screens(tmp_path):
        if screen is None:
            screen = open_screen(browser, page)
        screen.goto(page.base + path)
        screen.wait_for_function("!document.querySelector('section[data-again]')")
        found += [f"{name}: {wrong}" for wrong in violations(screen, looks)]
    assert screen is not None
    screen.context.close()
    assert not found, "\n".join(found)


def test_a_screen_says_that_its_program_is_gone_and_the_batch_goes_on(browser: Browser, tmp_path: Path) -> None:
    """The page is killed in the middle: the screen says so and what to do; the next page shows the batch to its end."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        page.send("/run", file="list.csv", task="tasks.py:wait", key="Id")
        screen.goto(f"{page.base}/batch?journal={next(tmp_path.glob('*.db')).name}")
        screen.wait_for_selector("#live[data-events]")
        assert not screen.is_visible("#gone")
        page.end(KILL)
        screen.wait_for_selector("#gone:visible")
        screen.context.close()
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        screen.click("table a")
        (tmp_path / "go").touch()
        screen.wait_for_selector("text=Complete: every row succeeded")
        screen.context.close()


def test_a_live_screen_turns_to_cut_off_when_the_batch_is_killed(browser: Browser, tmp_path: Path) -> None:
    """The batch is killed in the middle: the screen says so by itself, and the same command goes on."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        answer = page.send("/run", file="list.csv", task="tasks.py:wait", key="Id")
        screen.goto(f"{page.base}/batch?{answer.url.query.decode()}")
        screen.wait_for_selector("#live[data-events]")
        os.kill(int(answer.url.params["pid"]), KILL)
        screen.wait_for_selector("text=Cut off (killed, or a power cut)")
        (tmp_path / "go").touch()
        screen.click("text=Go on with it")
        screen.wait_for_selector("text=/Complete/")
        screen.context.close()


def test_a_batch_is_adjusted_and_stopped_by_mouse(browser: Browser, tmp_path: Path) -> None:
    """Another number of runs at once is taken up and told; Stop has two steps; then one click goes on with it."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        answer = page.send("/run", file="list.csv", task="tasks.py:wait", key="Id")
        screen.goto(f"{page.base}/batch?{answer.url.query.decode()}")
        screen.fill("#at-once", "2")
        screen.click("text=Change it")
        screen.wait_for_selector("text=Up to 2 runs at once from now on.")
        screen.click("button:has-text('Stop')")
        screen.wait_for_selector("text=It starts nothing more")
        screen.click("button:has-text('Leave at once')")
        screen.wait_for_selector("text=Left at once")
        (tmp_path / "go").touch()
        screen.click("text=Go on with it")
        screen.wait_for_selector("text=/Complete/")
        screen.context.close()
    statuses = sorted(row["status"] for row in rows_of(tmp_path / "list.results.csv"))
    assert len(statuses) == 4
    assert {*statuses} <= {"success", "unknown"}  # of what was under way nobody knows how far it had come


def test_the_whole_way_works_without_script(browser: Browser, tmp_path: Path) -> None:
    """Choose, plan, run, mend, run again: plain forms and links do it all."""
    write_sheet(tmp_path)
    with paged(tmp_path) as page:
        context = browser.new_context(java_script_enabled=False)
        context.set_default_timeout(PATIENCE)
        screen = context.new_page()
        screen.goto(page.address)
        screen.set_input_files("#file", {"name": "more.csv", "mimeType": "text/csv", "buffer": MORE})
        screen.click("text=Keep it in this folder")
        screen.select_option("#task", "tasks.py:pay")
        screen.click("text=Show the plan for this")
        click_and_wait(screen, "text=Run 2 rows")
        screen.fill("[name='cell.3.2']", "2.50")
        click_and_wait(screen, "button:has-text('Mend and run')")
        assert "every row succeeded" in screen.inner_text(".state")
        context.close()


def click_and_wait(screen: Page, what: str) -> None:
    """Start a batch, and look at its screen again until it has ended, as who has no script does."""
    with screen.expect_navigation():
        screen.click(what)
    until = time.monotonic() + PATIENCE / 1000
    while "What came of it" not in screen.content() and time.monotonic() < until:
        time.sleep(0.2)
        screen.reload()


def test_an_unknown_row_is_settled_by_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    """From the first screen to what a person has found, with a note: no mouse."""
    write_list(tmp_path)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        page.finish(page.send("/run", **MAY))
        settle(next(tmp_path.glob("*.db")))
        screen.reload()
        for link in ("e.closest('table') !== null && e.tagName === 'A'", "e.tagName === 'A' && e.textContent === '7'"):
            tab_to(screen, link)
            with screen.expect_navigation():
                screen.keyboard.press("Enter")
        tab_to(screen, "e.name === 'as'")
        screen.keyboard.press("Space")
        tab_to(screen, "e.id === 'note'")
        screen.keyboard.type("on the statement")
        screen.keyboard.press("Enter")
        screen.wait_for_selector("text=unknown → success")
        screen.context.close()


def test_a_large_sheet_comes_bit_by_bit(browser: Browser, tmp_path: Path) -> None:
    """Its first rows stand there before the plan does; that comes by itself, then its pages."""
    write_sheet(tmp_path, LARGE)
    with paged(tmp_path) as page:
        screen = open_screen(browser, page)
        screen.goto(f"{page.base}/sheet?file=list.csv&task=tasks.py:pay&key=Id&total=Amount")
        assert screen.locator("table.sheet tbody tr").count() == 100
        screen.wait_for_selector(f"text=Run {LARGE:,} rows")
        screen.wait_for_selector("[data-again]", state="detached")
        screen.goto(f"{page.base}/sheet?file=list.csv&task=tasks.py:pay&key=Id&total=Amount&from=10000")
        assert screen.inner_text("table.sheet tbody tr:first-child th") == "10000"
        assert screen.locator("[data-again]").count() == 0, "the plan is made anew for each page"
        screen.context.close()
