"""The report in a real browser: what axe says of it at any width, and its scrolling parts by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browsing import browsing, violations
from program import run_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.long
TASKS = """
def pay(params):
    if params["Number"] == "2":
        raise ValueError("a long story\\n" * 60)
    return {"total": params["Amount"], "text": "x" * 200}
"""


@pytest.mark.parametrize(("width", "sheets"), [(320, 1), (1280, 1), (320, 3)])
def test_axe_finds_nothing_wrong_with_the_report(tmp_path: Path, width: int, sheets: int) -> None:
    """0 violations, light and dark, also where parts of it scroll; it is never wider than the window."""
    (tmp_path / "tasks.py").write_text(TASKS)
    rows = "".join(f"{number},{number}.50,{'w' * 80}\n" for number in range(1, 40))
    for number in range(sheets):
        (tmp_path / f"in{number}.csv").write_text(f"Number,Amount,A column with a rather long name\n{rows}")
    words = ("--task", "tasks.py:pay", "--report", "page.html", "--total", "Amount", "--expand")
    assert run_program("run", "in0.csv" if sheets == 1 else "in?.csv", *words, cwd=tmp_path).returncode == 3
    with browsing() as browser:
        screen = browser.new_page()
        screen.goto((tmp_path / "page.html").as_uri())
        screen.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert violations(screen, [(width, "light"), (width, "dark")]) == []
        parts = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 || "
        parts += "e.scrollHeight > e.clientHeight + 1).filter(e => ['auto', 'scroll'].includes(getComputedStyle(e)"
        parts += ".overflowX) && e.tabIndex < 0).map(e => e.className)"
        assert screen.evaluate(parts) == []
