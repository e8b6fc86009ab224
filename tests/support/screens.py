"""Every screen of the local page, one after the other, each in the state that it is named after. Not a test module."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import openpyxl
from paged import paged, write_sheet
from program import PATIENCE
from systems import KILL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from paged import Paged

SLOW = """
import time
from pathlib import Path

def start(params):
    return {"total": params["Gross"], "supplier": params["Supplier"]}

time.sleep(3600 if Path("wait").exists() else 0)
"""


def write_list(folder: Path) -> Path:
    """A workbook of invoices with all that a sheet can have: a title, a total row, a refused cell, two currencies."""
    write_sheet(folder)
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "May"
    for row in (["Invoices of May"], [], ["No", "Supplier", "Gross", "Currency", "Due"]):
        sheet.append(row)
    suppliers = ("Harbour Paper Ltd", "Stadtwerke Neuburg", "Fjord Kaffebrenneri", "さくら商事", "Bloemen De Vries")
    for n in range(1, 13):
        gross = "#N/A" if n == 5 else -20.5 if n == 9 else round(100.25 * n, 2)
        sheet.append([f"INV-{n:03}", suppliers[n % 5], gross, "EUR" if n % 3 else "CHF", "2026-06-30"])
    sheet.append([None, "Total", "=SUM(C4:C15)"])
    (folder / "pay.py").write_text(
        "def pay(params):\n"
        "    if params['Gross'].startswith('-'):\n"
        "        raise ValueError('a credit note is not paid')\n"
        "    total = params['Gross'] if params['No'] != 'INV-003' else '1.00'\n"
        "    return {'total': total, 'paid to': params['Supplier']}\n",
        "utf-8",
    )
    path = folder / "may.xlsx"
    book.save(path)
    return path


MAY = {"file": "may.xlsx", "task": "pay.py:pay", "key": "No", "total": "Gross"}
COMPARED = {**MAY, "compare": "Gross", "compare_part": "total"}


def screens(folder: Path) -> Iterator[tuple[Paged, str, str]]:
    """The page, the screen's name, and its address without the host. The screen stays so until the next is asked for.

    All but that of a batch which is starting: that is the last one.
    """
    write_list(folder)
    with paged(folder) as page:
        yield page, "first", "/"
        yield page, "sheet", "/sheet?file=may.xlsx"
        yield page, "plan", f"/sheet?{urlencode(COMPARED)}"
        yield page, "not-yet", "/sheet?file=list.csv&task=nothing.py:nothing"
        yield page, "anchor", "/sheet?file=list.csv&task=anchor:"
        yield page, "no-sheet", "/sheet?file=none.csv"
        yield page, "no-address", "/nothing"
        page.finish(page.send("/run", **COMPARED))
        journal = next(folder.glob("*.db")).name
        of = f"journal={journal}&id=1"
        settle(folder / journal)
        yield page, "after", f"/batch?{of}"
        yield page, "search", f"/batch?{of}&q=harbour&status=success"
        yield page, "found-nothing", f"/batch?{of}&q=zzz"
        yield page, "row", f"/row?{of}&row=4"
        yield page, "row-failed", f"/row?{of}&row=12"
        yield page, "row-unknown", f"/row?{of}&row=7"
        yield page, "row-stuck", f"/row?{of}&row=10"
        yield page, "save", f"/save?{of}"
        yield page, "saved", f"/save?{of}&saved=nightly.toml"
        yield page, "nights", "/nights"
        yield page, "folder", "/"
        yield from _live(page, folder)


def settle(journal: Path) -> None:
    """Of one row the answer was lost, and one run has not ended for a day: as a bad night leaves them."""
    with closing(sqlite3.connect(journal)) as connection, connection:
        of = "(SELECT row FROM place WHERE batch = 1 AND number = ?)"
        connection.execute(
            f"UPDATE attempt SET status = 'unknown', run_id = NULL, error = 'lost' WHERE row = {of}",
            (7,),
        )
        connection.execute(
            "UPDATE attempt SET status = 'running', ended_at = NULL, started_at = '2026-05-30T02:15:00.000Z',"
            f" error = 'still running after 30m' WHERE row = {of}",
            (10,),
        )


def _live(page: Paged, folder: Path) -> Iterator[tuple[Paged, str, str]]:
    """A batch while it runs, and in each step of its end."""
    before = {path.name for path in folder.glob("*.db")}
    page.send("/run", file="list.csv", task="tasks.py:wait", key="Id")
    journal = next(path.name for path in folder.glob("*.db") if path.name not in before)
    of = {"journal": journal, "id": "1"}
    until = time.monotonic() + PATIENCE
    while not re.search(">(queued|running)<", page.show("/batch", **of)) and time.monotonic() < until:
        time.sleep(0.05)
    yield page, "live", f"/batch?{urlencode(of)}"
    yield page, "running-now", "/"
    page.send("/adjust", **of, concurrency="2")
    yield page, "adjusted", f"/batch?{urlencode({**of, 'at_once': '2'})}"
    page.send("/stop", **of)
    yield page, "stopping", f"/batch?{urlencode(of)}"
    (folder / "go").touch()
    page.finish(page.http.get("/batch", params=of))
    yield page, "stopped", f"/batch?{urlencode(of)}"
    (folder / "slow.py").write_text(SLOW, "utf-8")
    (folder / "wait").touch()
    answer = page.send("/run", file="may.xlsx", task="slow.py:start", key="No")
    yield page, "starting", f"/batch?{answer.url.query.decode()}"
    os.kill(int(answer.url.params["pid"]), KILL)
