"""`@task`: what a function's signature says of its inputs, and what the function is given."""

from __future__ import annotations

import dataclasses
import enum
import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import anyio
import pytest

import batch_runner
from batch_runner import Context, TaskFailed, param, task
from batch_runner.errors import UsageError
from batch_runner.service.local.context import Function, Signature, signature_of
from batch_runner.service.local.result import unfit_result
from batch_runner.service.local.tasks import Call, TaskSource, load_tasks

if TYPE_CHECKING:
    from fractions import Fraction

SUPPORT = Path(__file__).parents[1] / "support"
CONTEXT = Context("run_1", "session_1", "files", row=17)


class Currency(enum.Enum):
    EURO = "EUR"
    DOLLAR = "USD"


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@task(timeout="10m", repeatable=True)
def pay(
    invoice_no: Annotated[str, param("Invoice No")],
    amount: Decimal,
    due: date | None,
    currency: Literal["EUR", "USD"] = "EUR",
    *,
    note: str = "",
    context: Context,
) -> dict[str, Any]:
    return {"no": invoice_no, "amount": amount, "due": due, "in": currency, "note": note, "row": context.row}


def signature(function: Function) -> Signature:
    found = signature_of(function)
    assert found is not None
    return found


def call(function: Function, **params: str) -> Any:
    return Call(TaskSource("f"), params, CONTEXT, 5.0).bind(function)()


def test_the_face_of_the_package_has_the_decorator() -> None:
    """A task's file needs one import."""
    assert {"task", "param", "Context"} <= set(batch_runner.__all__)


def test_a_signature_is_a_schema() -> None:
    """Names, kinds, what is required, defaults and choices; and what was said with the decorator."""
    found = signature(pay)
    assert (found.options.timeout, found.options.repeatable, found.context) == (600.0, True, True)
    assert [
        (each.name, each.kind.noun, each.required, each.may_be_empty, each.default) for each in found.inputs.inputs
    ] == [
        ("Invoice No", "a text", True, False, None),
        ("amount", "a number", True, False, None),
        ("due", "a date", True, True, None),
        ("currency", "EUR or USD", False, False, "EUR"),
        ("note", "a text", False, False, ""),
    ]
    assert [each.has_own_name for each in found.inputs.inputs] == [True, False, False, False, False]


def test_the_function_is_given_values() -> None:
    """Each argument its param as a value; those without a text their defaults, or None; the rest is not passed."""
    told = call(pay, **{"Invoice No": "007", "Amount": "1234.50", "Supplier": "x"})
    assert told == {"no": "007", "amount": Decimal("1234.50"), "due": None, "in": "EUR", "note": "", "row": 17}
    assert call(pay, **{"Invoice No": "007", "AMOUNT": "1", "Due": "2026-02-28", "currency": "USD"})["due"] == date(
        2026, 2, 28
    )


def test_the_function_stays_an_ordinary_one() -> None:
    """A test of the user's own calls it as if there were no decorator, which is also no other object."""
    assert pay("1", Decimal(5), None, context=CONTEXT)["amount"] == 5

    def plain(params: dict[str, str]) -> str:
        return params["a"]

    assert task(plain) is plain
    assert task(timeout=5)(plain)({"a": "b"}) == "b"


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"Invoice No": "1"}, "the param 'amount' is missing; the task needs it"),
        ({"Invoice No": "1", "Amuont": "5"}, "the param 'amount' is missing; did you mean 'Amuont'?"),
        ({"Invoice No": "1", "Amount": ""}, "the param 'amount' is empty; the task needs it"),
        ({"Invoice No": "1", "Amount": "5,1,1"}, "'Amount' has to be a number such as 1234.50, not '5,1,1'"),
        ({"Invoice No": "1", "Amount": "5", "amount": "6"}, "'Amount' and 'amount' could each be what the task takes"),
        ({"Invoice No": "1", "Amount": "5", "Currency": "EURO"}, "did you mean 'EUR'?"),
    ],
)
def test_params_that_it_cannot_take_fail_the_run(params: dict[str, str], said: str) -> None:
    """Where no sheet was looked at before (`serve`), the run says it, in one sentence."""
    with pytest.raises(TaskFailed) as caught:
        call(pay, **params)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_params_and_others() -> None:
    """`params` is all that was sent, as texts; `**others` what no argument took."""

    @task
    def whole(params: dict[str, str], amount: int = 0) -> Any:
        return params, amount

    @task
    def rest(amount: int, **others: str) -> Any:
        return amount, others

    assert call(whole, Amount="5", Id="7") == ({"Amount": "5", "Id": "7"}, 5)
    assert call(rest, Amount="5", **{"File Name": "a.pdf"}) == (5, {"File Name": "a.pdf"})
    assert signature(whole).inputs.takes_rest
    assert signature(rest).inputs.takes_rest
    assert not signature(pay).inputs.takes_rest


def test_no_text_takes_the_place_of_an_argument() -> None:
    """A column that is called like an argument with another name would overwrite it."""

    @task
    def rest(no: Annotated[str, param("Invoice No")], **others: str) -> Any:
        return no, others

    with pytest.raises(TaskFailed, match="'no' is sent beside"):
        call(rest, no="1", **{"Invoice No": "2"})


def test_a_param_may_be_called_params() -> None:
    """Said so, it is one like any other."""

    @task
    def f(params: Annotated[int, param("params")]) -> int:
        return params

    assert call(f, params="5") == 5


def test_kinds_of_arguments() -> None:
    """No annotation is text; an Enum goes by values that are texts, else by its names; `| None` said in both ways."""

    @task
    def f(  # type: ignore[no-untyped-def]
        plain,
        currency: Currency = Currency.EURO,
        level: Level | None = None,
        days: Optional[Annotated[int, param("Days Left")]] = None,  # noqa: UP045
        urgent: bool = False,
    ) -> Any:
        return plain, currency, level, days, urgent

    given = {"Plain": "1.10", "Currency": "USD", "Level": "HIGH", "Days Left": "3", "Urgent": "TRUE"}
    assert call(f, **given) == ("1.10", Currency.DOLLAR, Level.HIGH, 3, True)
    assert call(f, plain="x") == ("x", Currency.EURO, None, None, False)
    assert [each.default for each in signature(f).inputs.inputs] == [None, "EUR", None, None, "FALSE"]


def test_an_async_function_works_the_same() -> None:
    """It stays a coroutine function, with the same arguments."""

    @task
    async def look_up(amount: int) -> int:
        await anyio.sleep(0)
        return amount

    assert anyio.run(lambda: call(look_up, Amount="5")) == 5


def test_a_wrapper_of_ones_own_may_stand_around_it() -> None:
    """What `functools.wraps` is used for doesn't hide the signature, whichever decorator is the outer one."""

    def twice(function: Function) -> Function:
        @functools.wraps(function)
        def both(*arguments: Any, **named: Any) -> Any:
            return function(*arguments, **named) * 2

        return both

    def f(amount: Decimal) -> Decimal:
        return amount

    assert call(task(twice(f)), Amount="5") == 10
    assert call(twice(task(f)), Amount="5") == 10


def positional(a: str, /) -> None: ...
def starred(*a: str) -> None: ...
def listed(a: list[str]) -> None: ...
def either(a: int | str) -> None: ...
def floats(a: Literal[1, None]) -> None: ...
def unknown(a: Fraction) -> None: ...


def other_choice(a: Literal["x", "y"] = "z") -> None: ...  # type: ignore[assignment]
def spelled(a: int = "seven") -> None: ...  # type: ignore[assignment]
def quoted(a: int | None = "7") -> None: ...  # type: ignore[assignment]
def halved(a: int = 2.5) -> None: ...  # type: ignore[assignment]
def value_of_member(a: Currency = "EUR") -> None: ...  # type: ignore[assignment]
def two_cases(amount: int, Amount: int) -> None: ...  # noqa: N803
def two_signs(invoice_no: str, invoiceno: str = "") -> None: ...
def two_names(a: Annotated[str, param("A b")], b: Annotated[str, param("A b")]) -> None: ...
def name_and_argument(a: Annotated[str, param("Amount")], amount: str) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (other_choice, "the default of its argument 'a' has to be x or y, not 'z'"),
        (spelled, "the default of its argument 'a' has to be a whole number, not 'seven'"),
        (quoted, "the default of its argument 'a' has to be a whole number, not '7'"),
        (halved, "the default of its argument 'a' has to be a whole number, not 2.5"),
        (value_of_member, "the default of its argument 'a' has to be Currency, not 'EUR'"),
        (two_cases, "its arguments 'amount' and 'Amount' would take the same column; rename one, or"),
        (two_signs, "its arguments 'invoice_no' and 'invoiceno' would take the same column"),
        (two_names, "its arguments 'a' and 'b' would take the same column"),
        (name_and_argument, "its arguments 'a' and 'amount' would take the same column"),
    ],
)
def test_a_signature_that_cannot_work_is_refused_when_it_is_loaded(function: Function, said: str) -> None:
    """A default that is no value of its argument, and two arguments for one column: `check` used to find all well."""
    with pytest.raises(TypeError, match=re.escape(said)):
        signature_of(task(function))


def test_defaults_that_do_are_taken() -> None:
    """None or a mark of the user's own for nothing, a number for another; two columns told apart by their names."""

    @task
    def f(  # noqa: PLR0913, PLR0917
        a: Annotated[str, param("Amount")],
        b: Annotated[str, param("amount")],
        price: Decimal = 0,  # type: ignore[assignment]
        rate: float = 1,
        urgent: bool = 0,  # type: ignore[assignment]
        due: date = None,  # type: ignore[assignment]  # noqa: RUF013
        by: Literal["x", "y"] = None,  # type: ignore[assignment]  # noqa: RUF013
        level: Level = Level.LOW,
        note: str = object(),  # type: ignore[assignment]
    ) -> str:
        return a + b

    assert call(f, Amount="1", amount="2") == "12"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (positional, "its argument 'a' has no name to be given by"),
        (starred, "its argument 'a' has no name to be given by"),
        (listed, "its argument 'a' is of a type that no cell can be; use str, int, Decimal"),
        (either, "its argument 'a' is of a type that no cell can be"),
        (floats, "its argument 'a' is of a type that no cell can be"),
        (unknown, "the type of its argument 'a' is not known when it runs: name 'Fraction' is not defined"),
    ],
)
def test_what_no_cell_can_be_is_refused(function: Function, said: str) -> None:
    """Each reason names the argument."""
    with pytest.raises(TypeError, match=said):
        signature_of(task(function))


def test_a_bad_timeout_is_refused_where_it_is_written() -> None:
    """It is a duration as everywhere."""
    with pytest.raises(ValueError, match="'soon' is not a duration"):
        task(timeout="soon")


def write(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(f"from batch_runner import *\n{text}", "utf-8")
    return str(folder / "mine.py")


def test_tasks_know_what_was_declared(tmp_path: Path) -> None:
    """The service has timeout, schema and `repeatable` of each of its tasks; `invoice` only reads, so it is safe."""
    file = write(
        tmp_path,
        "@task(timeout=5, repeatable=True)\nasync def f(a, b): ...\n@task\ndef g(a): ...\ndef h(params): ...\n"
        "def no_task(a, b): ...\n",
    )
    tasks = load_tasks(file, files=tmp_path)
    f, g, h, invoice = (tasks.by_id[name] for name in ("f", "g", "h", "invoice"))
    assert (f.is_async, f.timeout, f.repeatable) == (True, 5.0, True)
    assert (g.is_async, g.timeout, g.repeatable, h.timeout, h.repeatable) == (False, None, False, None, False)
    assert f.inputs is not None
    assert [each.name for each in f.inputs.inputs] == ["a", "b"]
    assert (h.inputs, invoice.repeatable) == (None, True)
    assert "no_task" not in tasks.by_id
    assert load_tasks(f"{file}:g", f"{file}:g", files=tmp_path).by_id.keys() == {"invoice", f"{file}:g"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(a, b): ...", "put @task over it"),
        ("def f(params): yield 1", "can't be a task: it is a generator; give the result by return, not by yield."),
        ("async def f(params): yield 1", "can't be a task: it is a generator; give the result by return"),
        ("@task\nasync def f(amount): yield 1", "can't be a task: it is a generator; give the result by return"),
        ("@task\ndef f(a: list): ...", "can't be a task: its argument 'a' is of a type that no cell can be"),
        ("@task(timeout='soon')\ndef f(a): ...", "can't be imported: ValueError: 'soon' is not a duration"),
    ],
)
def test_a_bad_declaration_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    """It names the file, the function and the argument."""
    with pytest.raises(UsageError) as caught:
        load_tasks(write(tmp_path, text) + ":f", files=tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_logger_of_a_context_works_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    """In a user's own tests, too, it is an ordinary logger."""
    with caplog.at_level(logging.INFO, "batch_runner"):
        CONTEXT.log.info("paid %s", "twice")
    assert caplog.messages == ["paid twice"]


class _Plain:
    pass


@dataclasses.dataclass
class _Paid:
    amount: Decimal
    receipt: Path


@dataclasses.dataclass
class _MaybePaid:
    amount: Decimal
    receipt: Path | None = None


def _returning(annotation: object) -> Callable[..., object]:
    def task(params: dict[str, str]) -> object:
        return None

    task.__annotations__["return"] = annotation
    return task


@pytest.mark.parametrize(
    ("annotation", "unfit"),
    [
        (Path, "Path"),
        (_Plain, "_Plain"),
        (_Paid, "Path"),
        (complex, "complex"),
        (Iterator[int], "Iterator"),
        (_MaybePaid, None),
        (Path | None, None),
        (list[Path], None),
        (object, None),
        (Any, None),
        (None, None),
        (Decimal, None),
        (set[int], None),
        (dict[str, Any], None),
        (Iterable[int], None),
        ("a name that nobody knows", None),
    ],
)
def test_a_result_that_can_never_be_written_is_found_by_its_annotation(annotation: object, unfit: str | None) -> None:
    """What every value has and nothing can encode; what may be written for some values says nothing."""
    assert unfit_result(_returning(annotation)) == unfit


def test_such_a_task_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """By name it is an error that says why; among a file's functions it is none of the tasks."""
    (tmp_path / "t.py").write_text(
        "from pathlib import Path\ndef find(params: dict) -> Path: ...\ndef pay(params: dict) -> dict: ...\n"
    )
    with pytest.raises(UsageError, match="it says that it gives Path, which can't be written as JSON"):
        load_tasks(f"{tmp_path / 't.py'}:find", files=tmp_path)
    assert {name for name in load_tasks(str(tmp_path / "t.py"), files=tmp_path).by_id if ":" not in name} == {
        "invoice",
        "pay",
    }
