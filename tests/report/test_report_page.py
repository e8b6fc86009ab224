"""The page as a browser takes it: it holds all that it needs, nothing in it comes from a cell but text."""

from __future__ import annotations

import re
from base64 import b64encode
from decimal import Decimal
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report_figures import batch, recorded
from test_summary import summary

from batch_runner.journal.changes import Since
from batch_runner.journal.view import Count, Failures, Span
from batch_runner.report.html import LONGEST_MESSAGE, Places, page_of, render
from batch_runner.report.stats import gather_stats, moment_of
from batch_runner.report.totals import ColumnTotals, Sum, Unread
from batch_runner.rows.amounts import TotalRow

if TYPE_CHECKING:
    from collections.abc import Callable

VOID = ("meta", "br", "rect")


class Reader(HTMLParser):
    """Takes a page apart: its elements with their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.texts: list[str] = []
        self.hrefs: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element; where links lead is noted apart."""
        self.hrefs += [value or "" for name, value in attrs if name == "href"]
        self.elements.append((tag, tuple((name, "" if name == "href" else value) for name, value in attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """As an element without an end."""
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Each element is closed in its place."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a piece of text."""
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        """There are none."""
        raise AssertionError(data)

    handle_pi = unknown_decl = handle_comment


def night(word: str, *, status: str = "failure") -> str:
    """The page of a night in which everything that comes from outside is this word."""
    amounts: dict[str, Any] = dict.fromkeys(
        ("succeeded", "failed", "unsettled", "edited", "not_started"), Decimal("0.00")
    )
    found = Sum(currency=word, rows=1, input=Decimal("1.00"), difference=Decimal("1.00"), **amounts)
    groups = (Failures(status, word, 2, (2, 3)),)
    told = summary(
        exit_code=3,
        input=word,
        journal=word,
        output=f"{word}.xlsx",
        counts=(Count("success", 1), Count(status, 2)),
        failures=groups,
        more_failures=1,
        stopped=word,
        notes=(word, word),
        carried=1,
        since=Since(1, recorded(-86_400), 1, 1, 0, 0),
        totals=(ColumnTotals(word, (found,), 1, (Unread(2, word, word),)),),
    )
    this = batch(task=word, service=word, version=word)
    spans = [
        Span(2, status, word, True, recorded(1), recorded(5)),
        Span(3, status, word, True, recorded(1), recorded(9)),
        Span(4, "success", "", True, recorded(2), recorded(3)),
    ]
    course = gather_stats(this, spans, groups, moment_of(recorded(60)))
    return render(page_of(told, this, course, Places(Path("/out/x.xlsx"), Path("/out/r.html"), word)))


HARMLESS = Reader(night("x"))
hostile = st.one_of(
    st.text(min_size=1),
    st.lists(
        st.sampled_from(
            [
                *(
                    "<",
                    ">",
                    '"',
                    "'",
                    "&",
                    "</style>",
                    "</title>",
                    "<script>",
                    "<!--",
                    "-->",
                    "]]>",
                    "<img src=x>",
                    "=",
                    " ",
                ),
                *(
                    "{{ 1 }}",
                    "{% raw %}",
                    "&lt;",
                    "&#60;",
                    "\0",
                    "\r\n",
                    "\u202e",
                    "\ud800",
                    "javascript:",
                    "//evil/",
                    "`",
                ),
            ]
        ),
        min_size=1,
    ).map("".join),
)


@given(hostile.filter(str.strip))
def test_hostile_texts_are_text(word: str) -> None:
    """Whatever a cell, a message or a name holds: the page has the elements and attributes that it has for `x`."""
    page = Reader(night(word))
    assert page.elements == HARMLESS.elements
    assert page.open == []
    assert not [href for href in page.hrefs if ":" in href.partition("#")[0] or href.startswith(("/", "\\"))]


@settings(deadline=None)
@given(hostile)
def test_a_hostile_status_is_text_too(word: str) -> None:
    """A new word of the service's is nobody's but the service's."""
    assert Reader(night("x", status=word)).elements == Reader(night("x", status="a new word")).elements


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=LONGEST_MESSAGE))
def test_a_message_comes_out_to_the_letter(word: str) -> None:
    """Escaping loses nothing: the parsed page has the message as it was."""
    assert word in "".join(Reader(night(word)).texts)


def test_the_page_needs_nothing_and_lets_nothing_in() -> None:
    """No address to load from; its policy allows the style and the one script that it holds, by their hashes."""
    text = night("x")
    page = Reader(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "form", "input", "base", "video", "audio"}
    names = {name for _, attributes in page.elements for name, _ in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on") or name in ("src", "srcset")]
    style = text.partition("<style>")[2].partition("</style>")[0]
    policy = next(
        dict(attrs)["content"] or ""
        for tag, attrs in page.elements
        if ("http-equiv", "Content-Security-Policy") in attrs
    )
    assert text.count("<script") == 1
    script = text.partition("<script>")[2].partition("</script>")[0]
    digests = [b64encode(sha256(part.encode()).digest()).decode() for part in (style, script)]
    sources = f"style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'"
    assert policy == f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    assert not re.search(r"url\(|@import|https?:", style + script)


LOCALES = {
    "de": "1.234,50",
    "de_DE": "1.234,50",
    "de-CH": "1’234.50",
    "en-GB": "1,234.50",
    "fr": "1\u202f234,50",
}


@pytest.mark.parametrize("locale", LOCALES)
def test_a_locale_that_was_said_writes_amounts(locale: str) -> None:
    """The well-known ones without any script, also where the sheet's own total is compared."""
    found = Sum(
        currency="EUR", rows=1, input=Decimal("1234.50"), succeeded=Decimal("1234.50"), failed=Decimal(0),
        unsettled=Decimal(0), edited=Decimal(0), not_started=Decimal(0), difference=Decimal(0),
    )  # fmt: skip
    own = (TotalRow(18, Decimal("1234.50"), Decimal("1234.50")), TotalRow(9, Decimal(5), Decimal("1234.50")))
    told = summary(totals=(ColumnTotals("Net", (found,), 0, (), total_rows=own),))
    course = gather_stats(batch(), (), (), moment_of(recorded(60)))
    text = render(page_of(told, batch(), course, Places(Path("/out/x.csv"), Path("/out/r.html"), None)), locale)
    assert f'<data value="1234.50">{LOCALES[locale]}</data>' in text
    assert f'your row 18 says <data value="1234.50">{LOCALES[locale]}</data>: equal' in text
    assert f'the rows come to <data value="1234.50">{LOCALES[locale]}</data>, which' in text
    assert "<script" not in text


def test_another_locale_is_the_browsers_to_write() -> None:
    """What nobody said is the reader's own; what the page doesn't know itself the browser does."""
    course = gather_stats(batch(), (), (), moment_of(recorded(60)))
    page = page_of(summary(), batch(), course, Places(Path("/out/x.csv"), Path("/out/r.html"), None))
    assert '<html lang="en" data-locale="hi-IN">' in render(page, "hi_IN")
    assert '<html lang="en">' in render(page)
    assert "<script>" in render(page)
    assert "<script>" in render(page, "hi_IN")


def test_a_row_is_shown_with_its_key() -> None:
    """Beside each address stands by what a person knows the row."""
    groups = (Failures("failure", "no", 1, (3,)),)
    spans = [Span(3, "failure", "no", True, recorded(1), recorded(2))]
    course = gather_stats(batch(), spans, groups, moment_of(recorded(60)))
    places = Places(Path("/out/x.xlsx"), Path("/out/r.html"), "S", {3: "RE-0042, Müller & Söhne"})
    text = render(page_of(summary(failures=groups), batch(), course, places))
    assert 'A3</a> <span class="quiet">·</span> <bdi class="quiet">RE-0042, Müller &amp; Söhne</bdi>' in text


def test_the_page_can_be_read_without_eyes() -> None:
    """A language, one first heading and none left out below it, headers in every table, a name for the drawing."""
    text = night("x")
    page = Reader(text)
    assert ("html", (("lang", "en"),)) in page.elements
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(dict(attrs).get("scope") in ("row", "col") for tag, attrs in page.elements if tag == "th")
    drawings = [dict(attrs) for tag, attrs in page.elements if tag == "svg"]
    assert all("aria-label" in found or found.get("aria-hidden") == "true" for found in drawings)
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        assert "<th " in table


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_text_stands_out_in_light_in_the_dark_and_on_paper() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text on its ground; 1.4.11: 3 to 1 for what is drawn."""
    style = night("x").partition("<style>")[2].partition("</style>")[0]
    palettes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(palettes) == 3

    def contrast(one: str, other: str) -> float:
        lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
        return (lighter + 0.05) / (darker + 0.05)

    for palette in palettes:
        for ink in ("ink", "quiet", "link", "good", "bad", "unsure", "caution"):
            assert contrast(palette[ink], palette["card"]) >= 4.5, (ink, palette)
        assert contrast(palette["ink"], palette["paper"]) >= 4.5
        for drawn in ("start", "going", "idle"):
            assert contrast(palette[drawn], palette["card"]) >= 3, (drawn, palette)


def test_control_totals_that_do_not_hold_are_said_first() -> None:
    """The verdict, the title and the table say so."""
    text = night("x")
    assert "<title>✗ The control totals do not add up – x</title>" in text
    assert '<table class="sum wrong">' in text
    assert "Differs by" in text


@pytest.mark.parametrize(
    ("rows", "of", "shown"), [(49_999, 50_000, "&gt; 99.9 %"), (1, 50_000, "&lt; 0.1 %"), (50_000, 50_000, "100.0 %")]
)
def test_a_share_never_says_all_of_what_is_not_all(rows: int, of: int, shown: str) -> None:
    """One failure among 50,000 rows is not 0.0 %, and the others are not 100.0 %."""
    told = summary(rows=of, counts=(Count("success", rows),))
    course = gather_stats(batch(), (), (), moment_of(recorded(60)))
    assert f'<td class="quiet">{shown}</td>' in render(
        page_of(told, batch(), course, Places(Path("/out/x.csv"), Path("/out/r.html"), None))
    )


def test_the_zone_is_named_and_both_where_the_clocks_change(in_zone: Callable[[str], None]) -> None:
    """The autumn hour that comes twice: the page says in which zone the night began and ended."""
    in_zone("Europe/Berlin")
    this = batch(started="2026-10-25T00:30:00.000Z", ended="2026-10-25T02:15:00.000Z")
    course = gather_stats(this, (), (), moment_of("2026-10-25T02:15:00.000Z"))
    page = page_of(summary(), this, course, Places(Path("/out/x.csv"), Path("/out/r.html"), None))
    assert page.zone == "CEST (UTC+02:00), then CET (UTC+01:00)"
    text = re.sub("<[^>]+>", "", render(page, "en-GB"))
    assert "25/10/2026 02:30 – 03:15" in text


def test_what_a_person_must_look_at_comes_first() -> None:
    """Unknown rows stand above failures, however few they are; a few failures are seen among many successes."""
    groups = (Failures("failure", "no", 900, ()), Failures("unknown", "lost", 1, ()))
    spans = [Span(n, "success" if n else "failure", "", True, recorded(1), recorded(2)) for n in range(1000)]
    course = gather_stats(batch(), spans, groups, moment_of(recorded(60)))
    told = summary(exit_code=4, rows=901, counts=(Count("failure", 900), Count("unknown", 1)), failures=groups)
    page = page_of(told, batch(), course, Places(Path("/out/x.csv"), Path("/out/r.html"), None))
    assert [group.status for group in page.groups] == ["unknown", "failure"]
    assert max(slot.tall_failed for slot in page.slots) == 2


@pytest.mark.long
def test_fifty_thousand_rows_are_a_small_page() -> None:
    """All failed, each with a message of its own or all with one: less than 200 KB."""
    groups = tuple(Failures("failure", f"{place} {'x' * 3000}", 2500, ()) for place in range(20))
    spans = (
        Span(n, "failure", groups[n % 20].error, True, recorded(n / 10), recorded(n / 10 + n % 77))
        for n in range(2, 50_002)
    )
    this = batch(ended=recorded(5100))
    course = gather_stats(this, spans, groups, moment_of(recorded(5100)))
    told = summary(exit_code=3, rows=50_000, counts=(Count("failure", 50_000),), failures=groups)
    text = render(page_of(told, this, course, Places(Path("/out/x.xlsx"), Path("/out/r.html"), "S")))
    assert len(text) < 200_000
    assert "None of the 50,000 rows succeeded" in text
