"""A real browser: the system's Chromium, driven by playwright; skipped with a word where a machine has none."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from playwright.sync_api import Browser, Page

REQUIRED = "BROWSER_REQUIRED"
"""Set where a missing browser is a failure rather than a reason to skip: in the gate, which installs one."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ON_A_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
MOST_TABS = 250


def chromium() -> str:
    """The system's browser. playwright's own download can't be counted on."""
    found = next(filter(None, map(shutil.which, (*NAMES, ON_A_MAC))), None)
    if found is None:
        sentence = "this machine has no Chromium, so no screen is tried in a browser: apt-get install chromium"
        if os.environ.get(REQUIRED):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start it without a window."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Hand:
    """A person's hand: each click is counted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    def click(self, what: str) -> None:
        """Click on it."""
        self.clicks += 1
        self.page.click(what)


def tab_to(page: Page, is_it: str) -> None:
    """Press Tab until the element that has the focus is the one (a JavaScript expression about `e`)."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate(f"(() => {{ const e = document.activeElement; return Boolean({is_it}); }})()"):
            return
    raise AssertionError(f"no key leads to {is_it}")


Look = tuple[int, Literal["light", "dark"]]
"""How a screen is looked at: so many pixels wide, in this scheme."""
NARROW_LIGHT: Look = (375, "light")
NARROW_DARK: Look = (375, "dark")
WIDE_LIGHT: Look = (1280, "light")
WIDE_DARK: Look = (1280, "dark")


def violations(page: Page, looks: Iterable[Look]) -> list[str]:
    """What axe finds wrong with a screen by any of its rules, in each width and scheme; and whether it is too wide."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for width, scheme in looks:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for wrong in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]:
            where = [node["target"] for node in wrong["nodes"]][:3]
            found.append(f"{page.title()} {width} {scheme}: {wrong['id']}: {wrong['help']} {where}")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{page.title()} {width}: wider than the window")
    return found
