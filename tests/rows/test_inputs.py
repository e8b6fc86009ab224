"""What a task takes: how texts are read as values, and which of the names that a sheet sends is which."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.errors import quote_words
from batch_runner.rows.task_inputs import KINDS, TEXT, Input, TaskInputs, choice, folded

NUMBER = KINDS[Decimal]
NAMES = st.text(st.sampled_from("aAbB _-.ä"), min_size=1, max_size=6)


def wrong(kind: type, text: str) -> str:
    with pytest.raises(ValueError, match=r"^has to be .+, not ") as caught:
        KINDS[kind].read(text)
    return str(caught.value)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=4))
def test_a_number_as_it_is_sent_is_that_number(number: Decimal) -> None:
    """Fixed decimals come back as they are, spaces around them or not; a percentage is a hundredth."""
    text = f"{number:f}"
    assert NUMBER.read(text) == NUMBER.read(f" {text}\n") == number
    assert str(NUMBER.read(text)) == str(Decimal(text))
    assert NUMBER.read(f"{text}%") * 100 == number
    assert KINDS[float].read(text) == float(text)


@given(st.integers(-(10**30), 10**30), st.integers(0, 4))
def test_a_whole_number_may_be_shown_with_decimals(number: int, decimals: int) -> None:
    """`1200.00` is 1200; `1200.50` is no whole number."""
    zeros = "." + "0" * decimals if decimals else ""
    assert KINDS[int].read(f"{number}{zeros}") == number
    wrong(int, f"{number}.50")


@given(st.dates(), st.times())
def test_dates_and_times_as_they_are_sent(day: date, moment: time) -> None:
    """ISO 8601, with `T` or a space; a midnight is its date, a date alone its midnight."""
    assert KINDS[date].read(day.isoformat()) == KINDS[date].read(f"{day}T00:00:00") == day
    assert KINDS[datetime].read(f"{day}T{moment}") == KINDS[datetime].read(f"{day} {moment}")
    assert KINDS[datetime].read(f"{day}T{moment}") == datetime.combine(day, moment)
    assert KINDS[datetime].read(str(day)) == datetime.combine(day, time())
    assert KINDS[time].read(str(moment)) == moment


@given(st.text())
def test_any_text_is_a_value_or_one_sentence(text: str) -> None:
    """Whatever stands in a cell, nothing but a value or a ValueError on one line comes of it."""
    assert TEXT.read(text) == text
    for kind in (*KINDS.values(), choice({"EUR": 1, "USD": 2})):
        try:
            sentence = "" if kind.read(text) is not None else "nothing"
        except ValueError as error:
            sentence = str(error)
        assert not sentence or sentence.startswith("has to be ")
        assert len(sentence.splitlines()) <= 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Decimal, "1,234"),
        (Decimal, "1,234.5,6"),
        (Decimal, "12 kg"),
        (float, "5 or 6"),
        (Decimal, "NaN"),
        (Decimal, "Infinity"),
        (Decimal, "1_000"),
        (Decimal, "١٢"),
        (Decimal, ".5"),
        (float, "1e999"),
        (int, "1E5"),
        (int, "9" * 5000),
        (bool, "maybe"),
        (date, "3/4/2026"),
        (date, "28.02.26"),
        (date, "30.02.2026"),
        (datetime, "12,5"),
        (date, "2026-02-30"),
        (date, "20260228"),
        (date, "2026-02-28T14:05:00"),
        (datetime, "2026-02-28T25:00:00"),
        (time, "2 pm"),
    ],
)
def test_nothing_is_guessed(kind: type, text: str) -> None:
    """What two countries read differently, and what Python would let pass, is no value."""
    assert len(wrong(kind, text)) < 150


@pytest.mark.parametrize(
    "text", ["1234.50", "1.234,50", "1234,50", "1,234.50", "1'234.50", "1.234,50 €", "EUR 1 234,50"]
)
def test_an_amount_in_the_way_of_a_country(text: str) -> None:
    """What can be read in one way only is that number, as a workbook's cell would be sent: without its currency."""
    assert KINDS[Decimal].read(text) == Decimal("1234.50")
    assert KINDS[float].read(text) == 1234.5


def test_which_kinds_look_at_their_column() -> None:
    """All numbers, whole ones too: `12.000` is 12 to a program, and twelve thousand pieces beside a `1,5`."""
    assert [kind for kind, found in KINDS.items() if found.is_amount] == [int, Decimal, float]


@pytest.mark.parametrize("text", ["28.02.2026", "28/02/2026", "2/28/2026", " 28.2.2026 "])
def test_a_date_in_the_way_of_a_country(text: str) -> None:
    """The day comes first between points, and where there is no such month."""
    assert KINDS[date].read(text) == date(2026, 2, 28)
    assert KINDS[datetime].read(text) == datetime(2026, 2, 28)


@pytest.mark.parametrize("text", ["TRUE", "true", " True ", "yes", "1"])
def test_a_truth(text: str) -> None:
    """As Excel writes it, in any case, and as people do."""
    assert KINDS[bool].read(text) is True


def test_choices_are_to_the_letter_and_the_nearest_is_named() -> None:
    """Spaces around it don't count; case does, and the sentence asks about the nearest."""
    kind = choice({"EUR": "€", "USD": "$", "GBP": "£"})
    assert (kind.read("EUR"), kind.read(" USD ")) == ("€", "$")
    with pytest.raises(ValueError, match=r"^has to be EUR, USD or GBP, not 'eur'; did you mean 'EUR'\?$"):
        kind.read("eur")
    with pytest.raises(ValueError, match=r"not 'yen'$"):
        kind.read("yen")
    many = choice({f"{number:03}": number for number in range(100)})
    with pytest.raises(ValueError, match=r"one of 000, .*007, … \(100 in all\), not 'x'$"):
        many.read("x")


def own(name: str, **options: Any) -> Input:
    return Input(name, name, TEXT, has_own_name=True, **options)


def by_argument(name: str, **options: Any) -> Input:
    return Input(name, name, TEXT, **options)


def test_an_argument_finds_its_column_whatever_case_spaces_and_signs() -> None:
    """`invoice_no` is `Invoice No.`; a name of its own is met to the letter only."""
    for column in ("invoice_no", "Invoice No.", "INVOICE-NO", "InvoiceNo"):
        fit = TaskInputs((by_argument("invoice_no"),)).fit(["Id", column])
        assert (fit.problems(), fit.unused) == ([], ("Id",))
        assert dict(fit.values({"Id": "1", column: "7"})) == {"invoice_no": "7"}
    assert TaskInputs((own("Invoice No"),)).fit(["Invoice No"]).problems() == []
    assert TaskInputs((own("Invoice No"),)).fit(["invoice no"]).problems() != []


@given(st.lists(NAMES, unique=True, max_size=6), st.lists(NAMES, unique_by=folded, max_size=3), st.booleans())
def test_every_name_is_taken_once_or_unused(names: list[str], wanted: list[str], exact: bool) -> None:
    """A fit without problems has each required input in exactly one name; all other names are unused, in order."""
    fit = TaskInputs(tuple(Input(name, name, TEXT, exact) for name in wanted)).fit(names)
    if fit.problems():
        return
    taken = [name for _, name in fit.pairs]
    assert set(taken) <= set(names)
    assert [folded(str(name)) for name in taken] == [folded(name) for name in wanted]
    assert fit.unused == tuple(name for name in names if name not in taken)
    assert dict(fit.values({name: name.upper() for name in names})) == {
        each.argument: str(name).upper() for each, name in fit.pairs
    }


def test_two_columns_that_could_be_meant_are_not_chosen_between() -> None:
    """Not even where one is it to the letter: where its cell is empty, the other's text would be taken."""
    fit = TaskInputs((by_argument("amount"),)).fit(["amount", "Amount"])
    assert fit.problems() == [
        "'amount' and 'Amount' could each be what the task takes as 'amount'; leave out all but one (--exclude)"
    ]


def test_a_missing_column_is_named_with_what_would_mend_it() -> None:
    """The nearest unused name and its --rename; a column that was left out; else what there is. All at once."""
    inputs = TaskInputs((own("Invoice No"), own("Amount"), own("Due")))
    problems = inputs.fit(["invoice nr", "Supplier"], left_out=["Due"]).problems()
    assert problems == [
        "the task needs 'Invoice No', and nothing is sent under that name; did you mean 'invoice nr'? then say "
        '--rename "invoice nr=Invoice No"',
        "the task needs 'Amount', and nothing is sent under that name; sent are 'invoice nr', 'Supplier': say which of "
        'them it is, as in --rename "invoice nr=Amount"',
        "the task needs 'Due', and nothing is sent under that name: the column 'Due' is left out (--columns, "
        "--exclude, --rename)",
    ]
    mended = inputs.fit(["Invoice No", "Amount", "Due"])
    assert mended.problems() == []


def test_a_rename_can_be_pasted_into_a_shell() -> None:
    """A dollar sign in a header is not the shell's."""
    (problem,) = TaskInputs((own("Amount"),)).fit(["Amount $"]).problems()
    assert problem.endswith(f"then say --rename {quote_words(['Amount $=Amount'])}")


def test_a_name_that_is_taken_is_not_proposed() -> None:
    """Only what the task does nothing with can be what a missing input was meant to be."""
    (problem,) = TaskInputs((own("Amount"), own("Amounts"))).fit(["Amount"]).problems()
    assert problem.endswith("; nothing else is sent")


def test_a_misspelt_name_of_what_may_be_missing_is_a_hint() -> None:
    """The default would hold for every row, which is worth a word and no error."""
    fit = TaskInputs((own("Currency", required=False),)).fit(["Curency", "Id"])
    assert fit.problems() == []
    assert list(fit.hints()) == [
        "nothing is sent as 'Currency', which the task can do without; did you mean 'Curency'? then say --rename "
        '"Curency=Currency"'
    ]
    assert not list(TaskInputs((own("Currency", required=False),)).fit(["Country", "Id"]).hints())


def test_an_empty_cell_is_wrong_only_where_it_is_needed() -> None:
    """Left out or sent as "", unless an empty text is a value."""
    amount = Input("amount", "Amount", NUMBER)
    empty = [("Amount", "it is empty, and the task needs 'Amount'")]
    for params in ({}, {"Amount": ""}):
        assert list(TaskInputs((amount,)).fit(["Amount"]).wrongs(params)) == empty
        for required, may_be_empty in ((False, False), (True, True)):
            optional = Input("amount", "Amount", NUMBER, required=required, may_be_empty=may_be_empty)
            fit = TaskInputs((optional,)).fit(["Amount"])
            assert list(fit.wrongs(params)) == []
    assert list(TaskInputs((own("Note"),)).fit(["Note"]).wrongs({"Note": ""})) == []
    assert [name for name, _ in TaskInputs((own("Note"),)).fit(["Note"]).wrongs({})] == ["Note"]


def test_all_that_is_wrong_with_a_row_is_said() -> None:
    """Each wrong param with its kind."""
    fit = TaskInputs((Input("a", "A", NUMBER), Input("b", "B", KINDS[date], required=False))).fit(["A", "B"])
    assert list(fit.wrongs({"A": "12,50,1", "B": "tomorrow"})) == [
        ("A", "'A' has to be a number such as 1234.50, not '12,50,1'"),
        ("B", "'B' has to be a date such as 2026-02-28, not 'tomorrow'"),
    ]


@given(st.dictionaries(NAMES, st.text(max_size=5), max_size=5), st.booleans(), st.booleans())
def test_a_row_without_wrongs_has_values(params: dict[str, str], required: bool, may_be_empty: bool) -> None:
    """What `wrongs` lets pass, `values` can make; what it doesn't, `values` refuses. One rule, said twice."""
    amount = Input("a", "a", NUMBER, required=required, may_be_empty=may_be_empty)
    fit = TaskInputs((amount,)).fit(params)
    if fit.problems():
        return
    if list(fit.wrongs(params)):
        with pytest.raises(ValueError, match=r"has to be|empty"):
            dict(fit.values(params))
    else:
        assert set(dict(fit.values(params))) <= {"a"}


def test_a_name_of_signs_only_is_itself() -> None:
    """`%` and `#` are not the same column."""
    assert folded("%") == "%"
    assert folded("#") != folded("%")
