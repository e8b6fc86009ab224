"""Which tasks there are, and what a task's function is given.

A task is a function `def f(params: dict[str, str]) -> dict`, sync or async, or one with `@task` over it, whose
arguments are the params (context.py); if it takes an argument `context`, that is the run's Context. It ends its run
by returning (`success`), by raising (`failure`), or by raising TaskCancelled.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib.util
import inspect
import sys
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from batch_runner.errors import UsageError
from batch_runner.rows.task_inputs import TEXT, TaskInputs
from batch_runner.service.local.context import (
    Context,
    Function,
    is_declared,
    signature_of,
)
from batch_runner.service.local.result import unfit_result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import anyio

    from batch_runner.service.local.result import RunEnd


BUILT_IN = "invoice"


class TaskSource(msgspec.Struct, frozen=True):
    """Where a task's function is found, in this process or another. Without a file it is the built-in one."""

    function: str
    file: str | None = None

    def load(self) -> Function:
        """The function itself. Raises UsageError with the next step if it can't be had."""
        return _load(self)

    def __str__(self) -> str:
        return f"{self.file}:{self.function}" if self.file else self.function


@functools.cache
def _load(source: TaskSource) -> Function:
    if source.file is None:
        from batch_runner.service.local.invoice import invoice

        return invoice
    module = _module(source.file)
    function = getattr(module, source.function, None)
    if not callable(function):
        near = difflib.get_close_matches(source.function, [n for n, v in vars(module).items() if callable(v)], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "name one that is defined there."
        raise UsageError(f"{source.file} has no function {source.function!r}; {hint}")
    if why := _why_no_task(function):
        raise UsageError(f"{source} can't be a task: {why}.")
    return function  # type: ignore[no-any-return]  # it was found by name; what it returns is checked when it runs


class Call(msgspec.Struct, frozen=True):
    """One run, as whoever executes it needs it: what to run, with what, and within how many seconds.

    `repeatable` says that it may be run again, from its beginning, if it was cut off.
    """

    source: TaskSource
    params: dict[str, str]
    context: Context
    limit: float
    repeatable: bool = False

    def bind(self, function: Function) -> functools.partial[Any]:
        """The function with its arguments, ready to be called. Raises TaskFailed for params that it can't take."""
        context = {"context": self.context} if wants_context(function) else {}
        signature = signature_of(function)
        if signature is None:
            return functools.partial(function, self.params, **context)
        return functools.partial(function, **signature.arguments(self.params), **context)


class Executor(Protocol):
    """Runs calls, in as many places as fit at once. Whoever runs a call holds one of the places meanwhile.

    `places` may grow and shrink while runs go on, where workers come and go. `runs_are_short` tells of those seen last.
    """

    places: anyio.CapacityLimiter
    runs_are_short: bool
    session: str = ""
    """Up to 16 hexadecimal digits that begin the names of its runs, where another program can ask for them later."""

    @property
    def trouble(self) -> str | None:
        """Why no call can be run just now, a sentence; None while all is well."""

    async def open(self) -> None:
        """Make ready for calls. Raises UsageError, a sentence, if that is impossible."""

    async def run(self, call: Call) -> RunEnd:
        """The ending of one call. It never raises for what the task does; cancelled, it leaves nothing running."""

    async def never_began(self, run_id: str) -> bool:  # noqa: ARG002
        """Whether a run that another program had started has surely not begun. If so, it never will."""
        return False

    def wind_down(self) -> None:
        """Begin nothing more, as far as that is in its hands: such calls end as never begun. Those at work go on."""

    async def aclose(self) -> None:
        """End what is left, at once."""


class Task(msgspec.Struct, frozen=True):
    """A task under one of its ids. An async one runs in the event loop, any other in a worker process.

    `inputs` are what it takes, None where it doesn't say: the built-in one takes any row, and fails those that it can't
    do anything with. `timeout` is its own limit for a run, in seconds.
    `repeatable` says that a run that was cut off may simply be run again.
    """

    task_id: str
    source: TaskSource
    is_async: bool = False
    inputs: TaskInputs | None = None
    timeout: float | None = None
    repeatable: bool = False


class Tasks(msgspec.Struct, frozen=True):
    """All tasks of a service by id, and the folder that they may read."""

    by_id: Mapping[str, Task]
    files: Path

    def find(self, task_id: str) -> Task | None:
        """The task with this id, if there is one."""
        return self.by_id.get(task_id)


def load_tasks(*specs: str, files: Path) -> Tasks:
    """The built-in task, and those that `specs` name.

    `FILE.py:FUNCTION` is that one function, under exactly this id. `FILE.py` is every public function of the file that
    can take params, each under `FILE.py:FUNCTION` and under `FUNCTION`. The files are executed to see what is in them.
    Raises UsageError for a spec that is neither, a file that can't be imported, and a function that isn't there.
    """
    if not files.is_dir():
        raise UsageError(f"The folder {files} that tasks may read (--files) does not exist; name one that does.")
    _refuse_undecodable(str(files))
    found = {BUILT_IN: _built_in()}
    for spec in specs:
        for task in _tasks_of(spec):
            if found.setdefault(task.task_id, task) != task:
                raise UsageError(f"Two tasks are called {task.task_id!r}, one of them in {spec}; rename the function.")
    return Tasks(MappingProxyType(found), files.absolute())  # a sentence that ends with it is read by people


def _built_in() -> Task:
    """The built-in task. It wants its columns, and takes any other and any row: a cell that makes no sense fails it."""
    task = _made(BUILT_IN, TaskSource(BUILT_IN))
    assert task.inputs is not None
    lenient = (msgspec.structs.replace(each, kind=TEXT, may_be_empty=True) for each in task.inputs.inputs)
    return msgspec.structs.replace(task, inputs=TaskInputs(tuple(lenient), takes_rest=True))


def _tasks_of(spec: str) -> Iterable[Task]:
    file, colon, function = spec.rpartition(".py:")
    if spec == BUILT_IN:
        return ()
    if colon:
        return (_task(spec, f"{file}.py", function),)
    if spec.endswith(".py"):
        names = _public_functions(spec)
        return [_task(task_id, spec, name) for name in names for task_id in (f"{spec}:{name}", name)]
    raise UsageError(f"There is no task {spec!r}: name {BUILT_IN!r}, or a function of your own as FILE.py:FUNCTION.")


def _task(task_id: str, file: str, function: str) -> Task:
    source = TaskSource(function, str(Path(file).resolve()))
    _refuse_undecodable(str(source))
    return _made(task_id, source)


def _made(task_id: str, source: TaskSource) -> Task:
    function = source.load()
    is_async = inspect.iscoroutinefunction(function)
    signature = signature_of(function)
    if signature is None:
        return Task(task_id, source, is_async)
    options = signature.options
    return Task(task_id, source, is_async, signature.inputs, options.timeout, options.repeatable)


def _refuse_undecodable(path: str) -> None:
    """A path goes to the workers as JSON text, which a name of arbitrary bytes can't."""
    if path.encode(errors="replace").decode() != path:
        raise UsageError(f"The name of {path!r} is no valid UTF-8; rename the file or folder.")


def _public_functions(file: str) -> list[str]:
    module = _module(str(Path(file).resolve()))
    names = [name for name, value in vars(module).items() if _is_task(module, name, value)]
    if not names:
        raise UsageError(f"{file} holds no task: write a function in it, def NAME(params: dict[str, str]) -> dict.")
    return names


def _is_task(module: ModuleType, name: str, value: object) -> bool:
    """Whether it is a function of this very file (not one that it imports), public, and can take params."""
    is_own = inspect.isfunction(value) and value.__module__ == module.__name__
    if not is_own or name.startswith("_"):
        return False
    return is_declared(value) or (not _yields(value) and _takes_params(value) and unfit_result(value) is None)


def _why_no_task(function: Function) -> str | None:
    if _yields(function):
        return "it is a generator; give the result by return, not by yield"
    if (unfit := unfit_result(function)) is not None:
        return (
            f"it says that it gives {unfit}, which can't be written as JSON: no run of it would have a result; give "
            "text, numbers, dates, lists, dicts, a dataclass or a model"
        )
    try:
        if signature_of(function) or _takes_params(function):
            return None
    except TypeError as error:
        return str(error)
    return "it has to take one argument, the params, and may take `context`; or put @task over it"


def _yields(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


@functools.cache
def wants_context(function: Function) -> bool:
    """Whether the function takes an argument `context`, the run's Context."""
    return "context" in inspect.signature(function).parameters


def _takes_params(function: Any) -> bool:
    try:
        context = {"context": None} if wants_context(function) else {}
        inspect.signature(function).bind({}, **context)
    except (TypeError, ValueError):
        return False
    return True


@functools.cache
def _module(file: str) -> ModuleType:
    """The user's file as a module; its folder comes last on the import path, so that its neighbours can be imported."""
    name = f"batch_runner_task_{Path(file).stem}_{abs(hash(file)):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not Path(file).is_file():
        raise UsageError(f"There is no file {file}; name the Python file that holds your task.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(Path(file).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # ours is for the summary
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"{file} can't be imported: {type(error).__name__}: {error}") from error
    return module


def forget_files() -> None:
    """Read each file of tasks anew the next time: it may have been edited since."""
    _module.cache_clear()
    _load.cache_clear()


LONGEST_TASK_FILE = 1 << 20


def own_tasks(folder: Path) -> list[str]:
    """The functions in the folder's Python files that look like tasks. No file is executed for this list."""
    found = []
    for path in sorted(folder.glob("*.py")):
        with contextlib.suppress(OSError, SyntaxError, ValueError, UnicodeDecodeError):
            if path.stat().st_size <= LONGEST_TASK_FILE:
                tree = ast.parse(path.read_text("utf-8"))
                functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
                found += [f"{path.name}:{node.name}" for node in functions if _looks_like_task(node)]
    return found


def _looks_like_task(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if node.name.startswith("_"):
        return False
    marks = [mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list]
    names = [mark.attr if isinstance(mark, ast.Attribute) else getattr(mark, "id", "") for mark in marks]
    needed = [
        arg.arg for arg in node.args.args[: len(node.args.args) - len(node.args.defaults)] if arg.arg != "context"
    ]
    return "task" in names or (needed == ["params"] and not marks)
