"""A key is made of values, not of how they look: what ran is found again whatever the format of cells and file."""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from anyio import to_thread
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import batch_info, run_row, steps_of
from openpyxl import Workbook
from workbooks import Tab, text_cell, text_row, write_workbook

from batch_runner.job.job import Job
from batch_runner.journal.index import LaterJournals, OtherJournals, looking_into, ran_in
from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import Keep, Policy, Refuse, Send
from batch_runner.rows.keys import key_of, number_form, other_readings, readings, without_currencies
from batch_runner.rows.source import Source, look_ahead, plan_rows
from batch_runner.sheet.numfmt.formatter import NumberFormat
from batch_runner.sheet.xlsx.workbook import volatile_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

AMOUNTS = ("General", "0", "0.00", "#,##0.00", '#,##0.00 "€"', "0.0##", "0%", "0.0%", "0.00E+00", "# ?/?", "#,##0,")
"""Formats that show a number, each in its own way."""
DATES = ("yyyy-mm-dd", "dd/mm/yy", "d. mmmm yyyy", "dd/mm/yyyy hh:mm", "hh:mm:ss", "mmm-yy")
NUMBERS = st.decimals(-1_000_000, 1_000_000, places=4, allow_nan=False).map(float)


def workbook(path: Path, rows: Sequence[Sequence[Any]], code: str = "General") -> Path:
    """A sheet whose columns are called A, B, …; its numbers have this format."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append([chr(65 + place) for place in range(len(rows[0]))])
    for row in rows:
        sheet.append(list(row))
        for cell in sheet[sheet.max_row]:
            if isinstance(cell.value, int | float):
                cell.number_format = code
    book.save(path)
    return path


def text_file(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """The same as text."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[chr(65 + place) for place in range(len(rows[0]))], *rows])
    return path


def keys(path: Path) -> list[bytes | None]:
    with Source(Job(input=str(path)), path.parent) as source:
        return [row.key for row in source.rows()]


def run_night(journal: Path, sheet: Path, **options: Any) -> None:
    """All rows of the sheet that are sent succeed."""

    async def night() -> None:
        info = msgspec.structs.replace(batch_info(key=options.get("key", ())), input=str(sheet))
        async with Journal.open(journal, info) as opened:
            with Source(Job(input=str(sheet), **options), sheet.parent) as source:
                await look_ahead(source, opened)
                async for chunk in plan_rows(source, opened):
                    for step, row in chunk:
                        if isinstance(step, Keep | Refuse):
                            continue
                        await run_row(opened, step, f"run-{row.row_number}")
            await opened.finish(0)

    anyio.run(night)


def starts(journal: Path, sheet: Path, **options: Any) -> int:
    """How many rows of the sheet would be started."""
    info = msgspec.structs.replace(batch_info("changed", key=options.get("key", ())), input=str(sheet))
    steps = steps_of(journal, sheet, info, **options)
    assert all(isinstance(step, Send | Keep) for step in steps), steps
    return sum(isinstance(step, Send) for step in steps)


@given(NUMBERS, st.sampled_from(AMOUNTS), st.sampled_from(AMOUNTS))
def test_a_number_has_one_form_under_all_formats(number: float, one: str, other: str) -> None:
    """Two cells with one value have one form, and it is the value."""
    assert NumberFormat(one).value(number) == NumberFormat(other).value(number)
    assert Decimal(NumberFormat(one).value(number)) == Decimal(f"{number:.15g}")


@given(st.integers(0, 4_000_000_000), st.sampled_from(DATES), st.sampled_from(DATES))
def test_a_moment_has_one_form_under_all_formats(tenths: int, one: str, other: str) -> None:
    """A date and its time of day are one value, whatever the format shows of them."""
    number = tenths / 864_000
    assert NumberFormat(one).value(number) == NumberFormat(other).value(number)


@given(NUMBERS, NUMBERS, st.sampled_from(AMOUNTS), st.sampled_from(AMOUNTS))
def test_different_numbers_never_have_one_form(first: float, second: float, one: str, other: str) -> None:
    """Not even where both show the same."""
    assert (NumberFormat(one).value(first) == NumberFormat(other).value(second)) == (first == second)


@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000), st.sampled_from(DATES))
def test_different_moments_never_have_one_form(first: int, second: int, code: str) -> None:
    """A tenth of a second apart, below one date."""
    forms = [NumberFormat(code).value(tenths / 864_000) for tenths in (first, second)]
    assert (forms[0] == forms[1]) == (first == second)


@pytest.mark.parametrize(
    ("code", "number", "form"), [("00000", 123, "00123"), ("000-00-0000", 123456789, "123-45-6789")]
)
def test_masks_keep_their_zeros(code: str, number: int, form: str) -> None:
    """What a mask fills up is part of a name."""
    assert NumberFormat(code).value(number) == form


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_text_of_a_number_has_its_form(number: Decimal) -> None:
    """However many zeros it ends with; one that begins with zeros is none, and stays."""
    plain = number_form(f"{number:f}")
    assert number_form(plain) == plain == number_form(f"{number:.6f}")
    assert Decimal(plain) == number
    assert number_form(f"00{abs(number):f}") == f"00{abs(number):f}"


def test_rows_of_a_workbook_have_one_key_under_all_formats(tmp_path: Path) -> None:
    """The same list in each format: the same keys; 10 and 10.004 are two, though both may show 10.00."""
    rows = [("a", 10), ("b", 10.004), ("c", 0.195), ("d", -1234.5)]
    found = [keys(workbook(tmp_path / f"{place}.xlsx", rows, code)) for place, code in enumerate(AMOUNTS)]
    assert all(each == found[0] for each in found)
    assert len(set(keys(workbook(tmp_path / "two.xlsx", [("a", 10), ("a", 10.004)], "0.00")))) == 2


def test_ten_shown_as_ten_point_zero_zero_runs_nothing_again(tmp_path: Path) -> None:
    """A format that is changed between two nights starts no row, not even with --retry changed."""
    journal, rows = tmp_path / "a.journal.db", [("a", 10), ("b", 1234.5)]
    run_night(journal, workbook(tmp_path / "in.xlsx", rows))
    assert starts(journal, workbook(tmp_path / "in.xlsx", rows, "0.00")) == 0
    assert starts(journal, workbook(tmp_path / "in.xlsx", rows, "#,##0.000")) == 0
    assert starts(journal, workbook(tmp_path / "in.xlsx", [("a", 10), ("b", 1234.51)], "0.00")) == 1


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), NUMBERS, st.integers(0, 99)), min_size=1, max_size=4, unique=True),
    st.sampled_from(("General", "0.00", "0.0000", "#,##0.00", "0.0%")),
    st.booleans(),
    st.sampled_from([(), ("B",), ("A", "C")]),
)
def test_the_same_list_as_a_workbook_and_as_text(
    rows: list[tuple[str, float, int]], code: str, is_text_first: bool, key: tuple[str, ...]
) -> None:
    """What ran from one runs from the other no more, whichever came first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        book = workbook(folder / "in.xlsx", rows, code)
        with Source(Job(input=str(book)), folder) as source:
            shown = text_file(folder / "in.csv", [list(row.params.values()) for row in source.rows()])
        first, second = (shown, book) if is_text_first else (book, shown)
        run_night(folder / "a.journal.db", first, key=key)
        assert starts(folder / "a.journal.db", second, key=key) == 0
        assert starts(folder / "a.journal.db", first, key=key) == 0


def test_a_text_file_that_excel_has_saved(tmp_path: Path) -> None:
    """10.00 in the export is 10 in the workbook that was made of it."""
    run_night(tmp_path / "a.journal.db", text_file(tmp_path / "in.csv", [("a", "10.00"), ("b", "1.10")]))
    assert starts(tmp_path / "a.journal.db", workbook(tmp_path / "in.xlsx", [("a", 10), ("b", 1.1)])) == 0


def test_a_text_that_may_be_either(tmp_path: Path) -> None:
    """1.10 and 1.1 in a text file are two rows; one that is new is sent beside the other, and held without it."""
    journal = tmp_path / "a.journal.db"
    run_night(journal, text_file(tmp_path / "in.csv", [("1.1",), ("2",)]))
    assert starts(journal, text_file(tmp_path / "in.csv", [("1.10",), ("1.1",), ("2",)])) == 1
    (held, kept) = steps_of(journal, text_file(tmp_path / "in.csv", [("1.10",), ("2",)]), batch_info())
    assert isinstance(held, Refuse)
    assert isinstance(kept, Keep)


NO = ("A",)


@pytest.mark.parametrize(("ran", "tonight"), [("7.1", "7.10"), ("7.10", "7.1"), ("10", "10.0"), ("5%", "0.05")])
def test_two_texts_of_one_number_are_held_where_they_are_the_key(tmp_path: Path, ran: str, tonight: str) -> None:
    """In text files 7.1 and 7.10 may be two invoices: neither is started unasked, nor has the other's outcome."""
    journal, first, second = tmp_path / "a.journal.db", tmp_path / "1.csv", tmp_path / "2.csv"
    run_night(journal, text_file(first, [(ran, "30")]), key=NO)
    for amount in ("30", "50"):
        info = msgspec.structs.replace(batch_info(key=NO), input=str(second))
        (step,) = steps_of(journal, text_file(second, [(tonight, amount)]), info, key=NO)
        assert isinstance(step, Refuse)
        assert "but for how a number or date is written" in step.why
    assert starts(journal, text_file(second, [(tonight, "50"), (ran, "30")]), key=NO) == 1
    assert starts(journal, text_file(second, [(ran, "30")]), key=NO) == 0


def test_a_volatile_column_is_no_part_of_the_default_key(tmp_path: Path) -> None:
    """Days overdue differ at each save: the row is the same, and doesn't count as edited; `check` names the column."""
    book, journal = tmp_path / "in.xlsx", tmp_path / "a.journal.db"
    set_formula(book, "=TODAY()-46000", 300)
    run_night(journal, book)
    set_formula(book, "=TODAY()-46000", 301)
    assert starts(journal, book) == 0
    with Source(Job(input=str(book)), tmp_path) as source:
        assert any("'B'" in note and "TODAY()" in note for note in source.first_notes), source.first_notes
        assert next(source.rows()).params == {"A": "a", "B": "301"}
    set_formula(book, "=B1-46000", 302)
    assert starts(journal, book) == 1


CELLS: dict[str, dict[tuple[int, int], bytes]] = {
    "above": {(1, 7): b"<f>TODAY()</f>", (4, 1): b"<f>$H$1-D2</f>"},
    "right": {(4, 1): b"<f>IF(C4&lt;&gt;0,C4,1)</f>", (4, 2): b"<f>1+NOW()</f>"},
    "shared": {(2, 1): b'<f t="shared" ref="B2:B4" si="0">$H$1</f>', (3, 1): b'<f t="shared" si="0"/>',
               (4, 1): b'<f t="shared" si="0"/>', (1, 7): b"<f>RAND()</f>"},
}  # fmt: skip


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_what_hangs_on_a_volatile_cell_is_volatile(cells: dict[tuple[int, int], bytes]) -> None:
    """A day above the list, the cell to the right, a formula shared by a column: each save makes other values."""
    assert (4, 1) in volatile_cells(cells)
    assert volatile_cells(cells | {(4, 1): b"<f>Sheet2!H1+XH1+H11+SUM(A1)</f>"}).keys().isdisjoint({(4, 1)})


def set_formula(book: Path, formula: str, value: int) -> None:
    """Put a formula with its value into B2."""
    rows = f'<row r="2">{text_cell("A2", "a")}<c r="B2"><f>{formula}</f><v>{value}</v></c></row>'
    write_workbook(book, {"S": Tab(rows=text_row(1, "A", "B") + rows)})


LISTS = (("1042", "1.234,50", "28.02.2026"), ("1042", "1,234.50", "2/28/2026"), ("1042", "1234,5", "28.02.26"))
"""One invoice as Excel exports it in German and in English."""


@pytest.mark.parametrize("exported", LISTS)
@pytest.mark.parametrize("key", [(), NO])
def test_a_list_that_is_exported_as_text_starts_nothing_again(
    tmp_path: Path, exported: tuple[str, ...], key: tuple[str, ...]
) -> None:
    """From workbook to text and back, on every night after it, too: its numbers and dates have the same values."""
    journal, text = tmp_path / "a.journal.db", text_file(tmp_path / "in.csv", [exported])
    book = workbook(tmp_path / "in.xlsx", [("1042", 1234.5, date(2026, 2, 28))])
    for sheet in (book, text, text, book):
        run_night(journal, sheet, key=key)
        assert starts(journal, sheet, key=key) == 0
    with closing(sqlite3.connect(journal)) as connection:
        assert connection.execute("SELECT count(*) FROM attempt").fetchone() == (1,)


@pytest.mark.parametrize(("said", "number", "day"), [("10", 10, "3/4/2026"), ("1.234", 1234, "28.02.2026")])
def test_what_may_be_read_in_two_ways_is_held(tmp_path: Path, said: str, number: float, day: str) -> None:
    """3/4/2026 is the day of that row or another one, and 1.234 a thousand or one: only a person can tell."""
    journal = tmp_path / "a.journal.db"
    run_night(
        journal, workbook(tmp_path / "in.xlsx", [("a", number, date(2026, *((4, 3) if "/" in day else (2, 28))))])
    )
    (step,) = steps_of(journal, text_file(tmp_path / "in.csv", [("a", said, day)]), batch_info())
    assert isinstance(step, Refuse)
    assert "but for how a number or date is written" in step.why


@pytest.mark.parametrize("key", [(), NO])
@pytest.mark.parametrize("is_book", [False, True], ids=["text", "workbook"])
def test_what_ran_and_may_be_read_in_two_ways_holds_each_of_them(
    tmp_path: Path, *, is_book: bool, key: tuple[str, ...]
) -> None:
    """A list in English, then the same one in German or as a workbook: its row is held on every later night."""
    journal = tmp_path / "a.journal.db"
    run_night(journal, text_file(tmp_path / "en.csv", [("3/4/2026", "10", "x")]), key=key)
    if is_book:
        sheet = workbook(tmp_path / "in.xlsx", [(date(2026, 4, 3), 10, "x")])
    else:
        sheet = text_file(tmp_path / "de.csv", [("04.03.2026", "10", "x")])
    for _night in range(2):
        run_night(journal, sheet, key=key)
        (step,) = steps_of(journal, sheet, batch_info(key=key), key=key)
        assert isinstance(step, Refuse)
        assert "but for how a number or date is written" in step.why
    with looking_into(journal) as connection:
        ran = ran_in(journal, connection, [key_of({"A": "2026-04-03"})] if key else [])
    assert len(ran) == bool(key)


def test_what_may_be_read_in_two_ways_is_asked_for_once_more_before_it_is_sent(tmp_path: Path) -> None:
    """Another folder has started it meanwhile, under one of both readings."""
    there, sheet = tmp_path / "there.journal.db", text_file(tmp_path / "en.csv", [("3/4/2026", "10")])

    async def night() -> str | None:
        others = OtherJournals(look=LaterJournals(tmp_path, (), lambda: [there]))
        with Source(Job(input=str(sheet), key=NO), tmp_path) as source:
            async with Journal.open(tmp_path / "a.journal.db", batch_info(key=NO), others=others) as journal:
                ((step, row),) = [planned async for chunk in plan_rows(source, journal) for planned in chunk]
                await to_thread.run_sync(run_there)
                assert isinstance(step, Send)
                return await journal.hold_if_started(await journal.intend(step), step, row)

    def run_there() -> None:
        run_night(there, text_file(tmp_path / "de.csv", [("03.04.2026", "10")]), key=NO)

    held = anyio.run(night)
    assert held is not None
    assert "ran on" in held


@given(st.decimals(-1_000_000, 1_000_000, places=2, allow_nan=False), st.sampled_from([",.", ".,", "\u00a0,", "’."]))
def test_a_number_has_one_form_in_all_languages(number: Decimal, marks: str) -> None:
    """Whatever marks thousands and decimals."""
    text = f"{number:,.2f}".translate({ord(","): marks[0], ord("."): marks[1]})
    assert number_form(text) == number_form(f"{number:f}")


@given(st.dates(date(1950, 1, 1), date(2049, 12, 31)))
def test_a_day_has_one_form_in_all_languages(day: date) -> None:
    """Between slashes the month may come first or last, which a day after the twelfth tells."""
    assert number_form(f"{day:%d.%m.%Y}") == day.isoformat()
    is_clear = day.day > 12 or day.day == day.month
    for text in (f"{day:%d/%m/%Y}", f"{day:%m/%d/%Y}"):
        assert number_form(text) == (day.isoformat() if is_clear else text)
        assert day.isoformat() in readings(text)


@given(st.from_regex(r"-?[0-9]{1,4}([.,/'-][0-9]{1,4}){1,3}([ T][0-9:]{4,8})?", fullmatch=True))
def test_what_has_two_readings_is_looked_up_under_both(text: str) -> None:
    """However few texts are looked at closely, none of these is passed over."""
    read = readings(text)
    assert [texts[0] for texts in other_readings((text,))] == ([number_form(each) for each in read] if read[1:] else [])


def test_a_list_in_german_is_gone_on_with_as_the_last_release_knew_it(tmp_path: Path) -> None:
    """It hashed `1.234,50` as it stands, beside numbers whose form it knew: the very same texts have not changed."""
    journal, sheet = tmp_path / "a.journal.db", text_file(tmp_path / "in.csv", [("RE-1", "10.00", "1.234,50")])
    run_night(journal, sheet)
    with closing(sqlite3.connect(journal)) as connection:
        connection.execute("UPDATE attempt SET params = x'00112233445566778899aabbccddeeff'")
        connection.commit()
    (step,) = steps_of(journal, sheet, batch_info())
    assert step == Keep(2, 1, "success", changed=False)


CURRENCIES = [("1.234,50", "1.234,50 €"), ("1.234,50 €", "1,234.50"), ("10", "EUR 10.00"), ("10.00 USD", "10")]
"""An amount as a list has it that ran, and as it comes back: with its currency, or without."""


@pytest.mark.parametrize(("ran", "tonight"), CURRENCIES)
@pytest.mark.parametrize("is_book", [False, True], ids=["text", "workbook"])
def test_an_amount_that_got_or_lost_its_currency(tmp_path: Path, ran: str, tonight: str, *, is_book: bool) -> None:
    """It was not edited, and nothing starts; where edited rows are to start, it is held: who knows what was paid?"""
    journal, name = tmp_path / "a.journal.db", f"in.{'xlsx' if is_book else 'csv'}"
    write = workbook if is_book else text_file
    run_night(journal, write(tmp_path / name, [("a", ran), ("b", ran)]), key=NO)
    sheet = write(tmp_path / name, [("a", tonight), ("b", f"9{tonight}".replace("9EUR ", "EUR 9"))])
    info = msgspec.structs.replace(batch_info(key=NO), input=str(sheet))
    kept, edited = steps_of(journal, sheet, info, key=NO)
    assert kept == Keep(2, 1, "success", changed=False)
    assert edited == Keep(3, 2, "success", changed=True)
    retried = msgspec.structs.replace(batch_info("changed", key=NO), input=str(sheet))
    held, again = steps_of(journal, sheet, retried, key=NO)
    assert isinstance(held, Refuse)
    assert "with another currency, or none" in held.why
    assert isinstance(again, Send)
    same = msgspec.structs.replace(retried, policy=Policy(retry=frozenset({"changed"}), same=True))
    assert steps_of(journal, sheet, same, key=NO)[0] == Keep(2, 1, "success", changed=False)


@pytest.mark.parametrize("key", [(), NO])
@pytest.mark.parametrize(("ran", "tonight"), [("1,00 €", "1,00 $"), ("EUR 1,00", "1,00 USD"), ("1,00 £", "GBP 1.00")])
def test_two_currencies_are_never_the_same_amount(tmp_path: Path, ran: str, tonight: str, key: tuple[str, ...]) -> None:
    """With a key it is an edit, which no --retry starts unasked; without one it may be that row, and is held."""
    journal, sheet = tmp_path / "a.journal.db", tmp_path / "in.csv"
    run_night(journal, text_file(sheet, [("a", ran)]), key=key)
    text_file(sheet, [("a", tonight)])
    (step,) = steps_of(journal, sheet, msgspec.structs.replace(batch_info(key=key), input=str(sheet)), key=key)
    (retried,) = steps_of(
        journal, sheet, msgspec.structs.replace(batch_info("changed", key=key), input=str(sheet)), key=key
    )
    assert isinstance(retried, Refuse)
    assert step == Keep(2, 1, "success", changed=True) if key else isinstance(step, Refuse)


@pytest.mark.parametrize(("ran", "tonight"), CURRENCIES)
def test_without_a_key_an_amount_with_its_currency_may_be_the_one_without(
    tmp_path: Path, ran: str, tonight: str
) -> None:
    """It is held, on each night, also as a workbook that shows no sign; --same says that it is that row."""
    journal, sheet = tmp_path / "a.journal.db", tmp_path / "in.csv"
    run_night(journal, text_file(sheet, [("a", ran)]))
    text_file(sheet, [("a", tonight)])
    for _night in range(2):
        run_night(journal, sheet)
        (step,) = steps_of(journal, sheet, msgspec.structs.replace(batch_info(), input=str(sheet)))
        assert isinstance(step, Refuse)
        assert "but for how a number or date is written" in step.why
    (other,) = steps_of(journal, text_file(tmp_path / "b.csv", [("b", tonight)]), batch_info())
    assert isinstance(other, Send)


@given(st.decimals(-1_000_000, 1_000_000, places=2, allow_nan=False), st.sampled_from(["EUR", "€", "$", "US$", "zł"]))
def test_an_amount_without_its_currency_is_the_number(number: Decimal, currency: str) -> None:
    """Wherever the currency stands; a word that is none stays."""
    plain = f"{number:f}"
    for text in (f"{plain} {currency}", f"{plain}{currency}", f"{plain}\u00a0{currency}", f"{currency} {plain}"):
        assert without_currencies(("a", text)) == ("a", plain)
    texts = (f"{plain} kg", f"RE {plain}", f"{currency} {plain} {currency}", f"{plain} {currency} brutto", plain)
    assert without_currencies(texts) is texts
