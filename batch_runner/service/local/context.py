"""What a task is given: the values of its params, its files folder and its log; and what it prints, as whole lines.

    @task(timeout="10m", repeatable=True)
    def pay(invoice_no: Annotated[str, param("Invoice No")], amount: Decimal, currency: Literal["EUR", "USD"] = "EUR"):
        ...

The function itself stays as it is, to be called by whoever likes. What it takes is read off when it is loaded.

In the process of the program the log of a task is a part of that log. Elsewhere, each of its lines goes to whom
`send_lines` was told, is carried over as a Line, and is logged there: with the run and the row it speaks of, by the
program's level and form.
"""

from __future__ import annotations

import enum
import functools
import inspect
import io
import itertools
import logging
import os
import sys
import threading
import types
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import copy_context
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import msgspec

from batch_runner.log import LOG, event_of, facts, facts_of
from batch_runner.rows.task_inputs import KINDS, TEXT, Input, TaskInputs, ValueKind, choice
from batch_runner.service.local.result import TaskFailed
from batch_runner.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

_NUMBERS: dict[type, tuple[type, ...]] = {float: (int, Decimal), Decimal: (int, float), bool: (int,)}
"""The types of numbers that do as a default for another."""

_OPTIONS = "__batch_runner_task__"
_TYPES = "str, int, Decimal, float, bool, date, datetime, time, Literal, an Enum, or one of these | None"


class Param(msgspec.Struct, frozen=True):
    """The name of an argument's param, to the letter: see `param`."""

    name: str


class Options(msgspec.Struct, frozen=True):
    """What was said with `@task`. `timeout` is in seconds."""

    timeout: float | None = None
    repeatable: bool = False


class Signature(msgspec.Struct, frozen=True):
    """What a decorated function takes. `all_params` and `rest` say whether it takes `params` and `**others`, too."""

    inputs: TaskInputs
    options: Options
    context: bool
    all_params: bool
    rest: bool

    def arguments(self, params: Mapping[str, str]) -> dict[str, Any]:
        """The arguments for one run, without `context`. Raises TaskFailed with a sentence that says what is wrong."""
        fit = self.inputs.fit(params)
        for sentence in fit.confusions():
            raise TaskFailed(sentence)
        try:
            arguments = dict(fit.values(params))
        except ValueError as error:
            raise TaskFailed(str(error)) from None
        if self.all_params:
            arguments["params"] = dict(params)
        return arguments | ({name: params[name] for name in fit.rest} if self.rest else {})


@overload
def task(function: F, /) -> F: ...
@overload
def task(*, timeout: str | float | None = None, repeatable: bool = False) -> Callable[[F], F]: ...
def task(
    function: F | None = None, /, *, timeout: str | float | None = None, repeatable: bool = False
) -> F | Callable[[F], F]:
    """Make a function a task that takes each param as an argument of its own, converted to the argument's type.

    An argument without a default is a column that the sheet must have; `X | None` allows it empty cells. An argument
    `params` gets all params as they were sent, `**others` those that are no argument's, `context` the run's Context.
    `timeout` (`"10m"`, or seconds) ends a run of it as `timeout`, if `--run-timeout` doesn't come first. `repeatable`
    says that a run that was cut off does no harm when it is simply run again. Raises ValueError for a bad timeout.
    """
    options = Options(None if timeout is None else parse_duration(timeout), repeatable)

    def declare(function: F) -> F:
        setattr(function, _OPTIONS, options)
        return function

    return declare if function is None else declare(function)


def param(name: str) -> Param:
    """The name of an argument's param, to the letter: `invoice_no: Annotated[str, param("Invoice No")]`.

    Without it, the param is the one that is called like the argument but for case, spaces and signs.
    """
    return Param(name)


def is_declared(function: object) -> bool:
    """Whether it has `@task` over it."""
    return isinstance(getattr(function, _OPTIONS, None), Options)


@functools.cache
def signature_of(function: Function) -> Signature | None:
    """What a decorated function takes; None for one that is not decorated. Raises TypeError with a reason."""
    if not is_declared(function):
        return None
    options: Options = getattr(function, _OPTIONS)
    parameters = inspect.signature(function).parameters.values()
    context = any(each.name == "context" for each in parameters)
    rest = any(each.kind is each.VAR_KEYWORD for each in parameters)
    ordinary = [each for each in parameters if each.name != "context" and each.kind is not each.VAR_KEYWORD]
    found = {each.name: _input(each, _annotation(function, each)) for each in ordinary}
    all_params = "params" in found and not found["params"].has_own_name
    if all_params:
        del found["params"]
    _refuse_rivals(tuple(found.values()))
    return Signature(TaskInputs(tuple(found.values()), all_params or rest), options, context, all_params, rest)


def _refuse_rivals(inputs: tuple[Input, ...]) -> None:
    """One column is no two arguments': which of them would it be?"""
    for one, other in itertools.combinations(inputs, 2):
        if one.is_called(other.name) or other.is_called(one.name):
            raise TypeError(
                f"its arguments {one.argument!r} and {other.argument!r} would take the same column; rename one, or "
                "name the column of each by param()"
            )


def _annotation(function: Function, parameter: inspect.Parameter) -> Any:
    """The annotation as an object, also where it stands as a text (PEP 563)."""
    if parameter.annotation is parameter.empty:
        return dict if parameter.name == "params" else str
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return get_type_hints(holder, names, include_extras=True)[parameter.name]
    except (NameError, AttributeError, SyntaxError) as error:
        raise TypeError(f"the type of its argument {parameter.name!r} is not known when it runs: {error}") from None


def _input(parameter: inspect.Parameter, annotation: Any) -> Input:
    if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
        raise TypeError(f"its argument {parameter.name!r} has no name to be given by; take away the / or *")
    annotation, name = _unwrap(annotation)
    if parameter.name == "params" and name is None:
        return Input("params", "params", TEXT)
    annotation, may_be_empty = _without_none(annotation)
    annotation, inner_name = _unwrap(annotation)
    name = name or inner_name
    kind = _kind(annotation)
    if kind is None:
        raise TypeError(f"its argument {parameter.name!r} is of a type that no cell can be; use {_TYPES}")
    if not _can_be_default(parameter.default, annotation):
        wanted = annotation.__qualname__ if isinstance(annotation, enum.EnumType) else kind.noun
        raise TypeError(f"the default of its argument {parameter.name!r} has to be {wanted}, not {parameter.default!r}")
    return Input(
        argument=parameter.name,
        name=name or parameter.name,
        kind=kind,
        has_own_name=name is not None,
        required=parameter.default is parameter.empty,
        may_be_empty=may_be_empty,
        default=_text_of(parameter.default, annotation),
    )


def _unwrap(annotation: Any) -> tuple[Any, str | None]:
    """What is inside of `Annotated`, and the name that its `param` gives."""
    if get_origin(annotation) is not Annotated:
        return annotation, None
    inner, *extras = get_args(annotation)
    return inner, next((extra.name for extra in extras if isinstance(extra, Param)), None)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) not in (Union, types.UnionType) or type(None) not in get_args(annotation):
        return annotation, False
    others = [each for each in get_args(annotation) if each is not type(None)]
    return (others[0] if len(others) == 1 else None), True


def _kind(annotation: Any) -> ValueKind | None:
    if values := _choices(annotation):
        return choice(values)
    return KINDS.get(annotation) if isinstance(annotation, type) else None


def _choices(annotation: Any) -> dict[str, Any]:
    """The texts of a Literal's values; of an Enum's where all of these are texts, else the names of its members."""
    if get_origin(annotation) is Literal and all(type(value) in (str, int) for value in get_args(annotation)):
        return {str(value): value for value in get_args(annotation)}
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        members = cast("dict[str, enum.Enum]", dict(annotation.__members__))
        if all(isinstance(member.value, str) for member in members.values()):
            return {member.value: member for member in members.values()}
        return dict(members)
    return {}


def _can_be_default(default: Any, annotation: Any) -> bool:
    """Whether a default can stand in for a value: None and an object of the user's own, as a mark, always do."""
    if default is None or type(default) not in KINDS:
        return True
    if choices := _choices(annotation):
        return default in choices.values()
    return isinstance(default, (annotation, *_NUMBERS.get(annotation, ())))


def _text_of(default: Any, annotation: Any) -> str | None:
    """A default as a person would write it into a cell; None where there is none, or none that can be written."""
    for text, value in _choices(annotation).items():
        if value == default:
            return text
    if isinstance(default, bool):
        return str(default).upper()
    isoformat = getattr(default, "isoformat", None)
    if isoformat is not None:
        return str(isoformat())
    return str(default) if type(default) in KINDS else None


def file_within(folder: Path, name: str) -> Path:
    """The file that a cell names, as a real path inside `folder`; sub-folders are fine.

    Raises TaskFailed for an absolute path (of any system), a `..` anywhere, a link that leads out of the folder, a
    file that isn't there, and for what is no regular file (opening a named pipe would wait for ever).
    """
    _refuse_paths_out(folder, name)
    try:
        root, path = folder.resolve(), (folder / name).resolve()
        is_inside, is_file, exists = path.is_relative_to(root), path.is_file(), path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise TaskFailed(f"The file {name!r} can't be looked up in {folder}: {error}") from error
    if not is_inside:
        raise TaskFailed(f"The file {name!r} leads out of the folder {folder}; only files within it are read.")
    if not exists:
        raise TaskFailed(f"There is no file {name!r} in the folder {folder}.")
    if not is_file:
        raise TaskFailed(f"{name!r} in the folder {folder} is no file.")
    return path


def _refuse_paths_out(folder: Path, name: str) -> None:
    """Judge the name alone. Windows rules know both slashes and drives, so they cover the other systems' too."""
    path = PureWindowsPath(name)
    if not name.strip():
        raise TaskFailed("The file's name is empty.")
    if "\0" in name:
        raise TaskFailed(f"The file's name {name!r} holds a NUL character.")
    if path.drive or path.root:
        raise TaskFailed(f"The file {name!r} is an absolute path; name it as it stands within the folder {folder}.")
    if ".." in path.parts:
        raise TaskFailed(f"The file {name!r} leads out of the folder {folder} by '..'; only files within it are read.")


TASK_LOG = LOG.getChild("task")
LONGEST_LINE = 10_000
"""Characters of a line that are carried over."""


class Line(msgspec.Struct, frozen=True, tag=True):
    """What a task logged: `level` as in `logging`, the text on one line, and whose it is."""

    level: int
    text: str
    run_id: str | None = None
    row: int | None = None

    def log(self) -> None:
        """Put it into the log of this process."""
        TASK_LOG.log(self.level, "%s", self.text, extra=facts(row=self.row, run_id=self.run_id))


def log_of(run_id: str, row: int | None) -> logging.LoggerAdapter[logging.Logger]:
    """The logger of one run."""
    return logging.LoggerAdapter(TASK_LOG, facts(row=row, run_id=run_id))


def level_wanted() -> int:
    """The lowest level that this process's log holds."""
    return TASK_LOG.getEffectiveLevel()


def send_lines(say: Callable[[Line], None], level: int) -> None:
    """From now on, send what tasks log in this process, at `level` and above, to `say`."""
    TASK_LOG.handlers = [_Sending(say)]
    TASK_LOG.setLevel(level)
    TASK_LOG.propagate = False


class _Sending(logging.Handler):
    def __init__(self, say: Callable[[Line], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(msgspec.convert({**facts_of(record), "level": record.levelno, "text": _text(record)}, Line))
        except Exception:  # noqa: BLE001  as everywhere in logging, a line that can't be made fails no run
            self.handleError(record)


def _text(record: logging.LogRecord) -> str:
    """Surrogates can't be carried over as JSON."""
    return event_of(record)[:LONGEST_LINE].encode(errors="replace").decode()


class Context(msgspec.Struct, frozen=True):
    """What a run may know besides its params. `files` is the folder that it may read, `row` the number of its row."""

    run_id: str
    session_id: str
    files: str
    identity_id: str | None = None
    row: int | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines stand in the log of the program, with the run's id and the row."""
        return log_of(self.run_id, self.row)


LAST_WORDS = 1.0
"""Seconds in which the last lines of an ended process must have come: a child that it left may hold the pipe."""


@contextmanager
def capture_prints(tell: Callable[[str], None]) -> Iterator[None]:
    """What this process prints in here, on standard output and standard error, is told."""
    with ExitStack() as redirected:
        for redirect in (redirect_stdout, redirect_stderr):
            lines = _Lines(tell)
            redirected.callback(lines.finish)
            text = io.TextIOWrapper(lines, "utf-8", "backslashreplace", write_through=True)  # type: ignore[type-var]
            redirected.enter_context(redirect(text))
        yield


class Pipe:
    """What another process writes into `entrance`, a file descriptor, is told, by a thread of this one.

    Whoever has started that process has to `close` our own end.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        exit_, self.entrance = os.pipe()
        told_here = copy_context().run  # the lines are of the batch that this is
        self._thread = threading.Thread(target=told_here, args=(_tell_all, exit_, tell), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The other process has the entrance, or there is none."""
        os.close(self.entrance)

    def wait(self) -> None:
        """Wait until all is told that the process, which has ended, has written."""
        self._thread.join(LAST_WORDS)


class _Lines(io.RawIOBase):
    """A file that tells its lines; threads may write to it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self._rest = b""
        self._lock = threading.Lock()
        self._beneath = sys.stderr

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """That of standard error: a program that a task starts with it writes there by itself."""
        if self._beneath is None:
            raise io.UnsupportedOperation
        return self._beneath.fileno()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Tell the lines that are whole now."""
        with self._lock:
            *lines, rest = (self._rest + bytes(data)).split(b"\n")
            if len(rest) > LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            self._rest = rest
        for line in lines:
            self._tell(_line_text(line))
        return len(data)

    def finish(self) -> None:
        """Tell what is left although its line has no end."""
        if self._rest:
            self.write(b"\n")


def _tell_all(exit_: int, tell: Callable[[str], None]) -> None:
    with os.fdopen(exit_, "rb") as pipe:
        while line := pipe.readline(LONGEST_LINE):
            tell(_line_text(line))


def _line_text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")
