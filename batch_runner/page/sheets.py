"""A sheet before it runs: what was understood, what is chosen, the plan, and the command that would do the same."""

from __future__ import annotations

import ast
import re
import tempfile
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from batch_runner.errors import BatchRunnerError, SheetError, UsageError, reason_of
from batch_runner.fs import is_draft
from batch_runner.job.inputs import ENDINGS, night_job_of
from batch_runner.job.job import Job, stem_of
from batch_runner.job.options import command_words
from batch_runner.plan.plan import Keep, Refuse, Step, counted_as
from batch_runner.rows.amounts import Amount, read_amount
from batch_runner.rows.source import Source
from batch_runner.runner.connect import inputs_of
from batch_runner.runner.memory import place_journals
from batch_runner.runner.night import Rehearsal
from batch_runner.sheet.model import Row, RowKind
from batch_runner.units import problem_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from starlette.datastructures import FormData, QueryParams

    from batch_runner.job.inputs import SheetJob
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.task_inputs import Input
    from batch_runner.runner.check import Preview
    from batch_runner.sheet.model import Column


INVOICE: Final = "invoice"
FILE_NAME: Final = "File Name"
FIXED = "="
"""Begins a choice that is a fixed text rather than a column."""
PAGE = 100
MOST_PROFILED = 2_000
"""So many rows say what a column holds; whether its values are all different, all rows say."""
LONGEST_TASK_FILE = 1 << 20
MANY = 20_000
"""The plan of a sheet with more rows takes a while: it waits until it is asked for."""
_FILES = re.compile(r".+\.(pdf|xml)", re.IGNORECASE)
LEFT = {
    RowKind.ABOVE: "above the list",
    RowKind.HEADER: "header",
    RowKind.EMPTY: "empty",
    RowKind.HIDDEN: "hidden in the sheet",
    RowKind.REPEATED: "the header once more",
    RowKind.TOTALS: "total row",
    RowKind.OUTSIDE: "below the end of the list",
    RowKind.SUSPECT: "looks like a total, a heading or a note",
}
"""Why a row takes no part."""
PLANNED = {
    "start": "will start",
    "poll": "goes on",
    "carried_over": "done before",
    "retried": "will start again",
    "held": "held back",
    "parked": "parked",
    "unknown": "unknown",
    "refused": "refused",
}
"""What becomes of a row, in words; the names are those of `Counts`."""


class SheetFile(msgspec.Struct, frozen=True):
    """A sheet of the folder."""

    name: str
    changed: str
    is_result: bool


def sheets_in(folder: Path, outputs: set[str]) -> list[SheetFile]:
    """The sheets of a folder, the latest first, results behind them."""
    found = []
    for path in folder.iterdir():
        if path.suffix.lower() in ENDINGS and not path.name.startswith((".", "~$")) and not is_draft(path):
            moment = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
            is_result = stem_of(path) != path.stem or str(path.absolute()) in outputs
            found.append((is_result, -moment.timestamp(), SheetFile(path.name, f"{moment:%Y-%m-%d %H:%M}", is_result)))
    return [file for _, _, file in sorted(found, key=lambda each: each[:2])]


def keep_upload(folder: Path, name: str, data: bytes) -> str:
    """Keep a sheet in the folder; where there is a file of its name, this one gets a number. Gives its name."""
    plain = name.replace("\\", "/").rpartition("/")[2].strip()
    path = Path(plain)
    if path.suffix.lower() not in ENDINGS or plain.startswith((".", "~$")) or not plain.isprintable():
        raise UsageError(f"{plain or 'this file'}: not a sheet; choose a .xlsx, .xlsm, .csv or .tsv file")
    if problem := problem_of_name(path):
        raise UsageError(f"{plain}: {problem}; rename it first")
    for number in range(1, 1000):
        kept = folder / (plain if number == 1 else f"{path.stem} ({number}){path.suffix}")
        try:
            with kept.open("xb") as file:
                file.write(data)
        except FileExistsError:
            if kept.is_file() and kept.stat().st_size == len(data) and kept.read_bytes() == data:
                return kept.name
        except OSError as error:
            raise UsageError(f"{plain}: can't be kept in {folder}: {reason_of(error)}") from None
        else:
            return kept.name
    raise UsageError(f"{plain}: there are too many files of this name in {folder}")


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has chosen for a sheet. `mapping` says for a param the column, or with `=` a fixed text."""

    file: str
    asked: bool
    task: str = ""
    service: str = "local"
    key: str = ""
    total: str = ""
    concurrency: int | None = None
    sheet: str | None = None
    header_row: int | None = None
    hidden: str | None = None
    suspect_rows: str | None = None
    merged: str | None = None
    trust_formulas: bool = False
    retry: tuple[str, ...] = ()
    mapping: dict[str, str] = {}

    def reading(self) -> dict[str, Any]:
        """How the sheet is read, as options of a job."""
        said = {name: getattr(self, name) for name in ("sheet", "header_row", "hidden", "suspect_rows", "merged")}
        found = {name: value for name, value in said.items() if value is not None}
        return {**found, **({"trust_formulas": True} if self.trust_formulas else {})}

    def options(self) -> dict[str, Any]:
        """All of it as options of a job, in the order of a command line."""
        rename = {col: param for param, col in self.mapping.items() if col and col[:1] != FIXED and col != param}
        fixed = {
            param: col[1:].replace("{", "{{").replace("}", "}}")
            for param, col in self.mapping.items()
            if col[:1] == FIXED
        }
        said = {
            "task": self.task or None,
            "service": None if self.service == "local" else self.service,
            "rename": rename or None,
            "param": fixed or None,
            "key": [self.key] if self.key else None,
            "total": [self.total] if self.total else None,
            "retry": list(self.retry) or None,
            "concurrency": self.concurrency,
            "report": f"{stem_of(Path(self.file))}.report.html" if self.task else None,
        }
        return {**{name: value for name, value in said.items() if value is not None}, **self.reading()}


def choices_of(query: QueryParams | FormData, folder: Path) -> Choices:
    """What an address or a form says was chosen. Raises `UsageError` for a file that isn't in the folder."""
    words = {name: str(value) for name, value in query.multi_items()}
    name = words.get("file", "")
    if Path(name).name != name or name in ("", ".", "..") or not (folder / name).is_file():
        raise UsageError(f"{name or 'no name'}: there is no such sheet in {folder}")
    return Choices(
        file=name,
        asked="task" in words,
        task=words.get("task_id") or words.get("task", ""),
        service="anchor" if words.get("task") == "anchor:" else "local",
        key=words.get("key", ""),
        total=words.get("total", ""),
        concurrency=_number(words.get("concurrency", "")),
        sheet=words.get("sheet") or None,
        header_row=_number(words.get("header_row", "")),
        hidden=words.get("hidden") or None,
        suspect_rows=words.get("suspect_rows") or None,
        merged=words.get("merged") or None,
        trust_formulas=bool(words.get("trust_formulas")),
        retry=tuple(filter(None, words.get("retry", "").split(","))),
        mapping={n.removeprefix("map."): text for n, text in words.items() if n.startswith("map.") and text},
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 8 else None


def planned_of(choices: Choices) -> SheetJob:
    """The batch to come. Raises `UsageError` for what makes no sense, and where a param has nothing to be made of."""
    options: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in choices.options().items()}
    job = Job(input=choices.file, **options)
    if choices.task == INVOICE and FILE_NAME not in choices.mapping:
        raise UsageError(f"the task needs {FILE_NAME!r}: choose the column that has the names of the PDF files")
    return place_journals(night_job_of(job, datetime.now().astimezone().date())).batches[0]


class Profile(msgspec.Struct, frozen=True):
    """What the columns of a sheet hold: names of files, amounts, values that are all different."""

    columns: tuple[Column, ...]
    files: tuple[str, ...]
    amounts: tuple[str, ...]
    different: tuple[str, ...]


def _profile(source: Source) -> Profile:
    own = source.layout.own
    seen: dict[int, set[str]] = {column.index: set() for column in own}
    samples: list[Sequence[str]] = []
    rows = 0
    for row in source.sheet.rows():
        if row.kind is not RowKind.DATA or row.suspicion is not None:
            continue
        rows += 1
        if len(samples) < MOST_PROFILED:
            samples.append(row.texts)
        for index in [*seen]:
            if row.texts[index] and row.texts[index] not in seen[index]:
                seen[index].add(row.texts[index])
            else:
                del seen[index]
    held = {column.name: [texts[column.index] for texts in samples if texts[column.index]] for column in own}
    files = [
        name for name, texts in held.items() if texts and 2 * sum(map(bool, map(_FILES.fullmatch, texts))) > len(texts)
    ]
    amounts = [name for name, texts in held.items() if _are_amounts(texts)]
    different = [c.name for c in own if rows > 1 and c.index in seen and c.name not in amounts]
    return Profile(own, tuple(files), tuple(amounts), tuple(different))


def _are_amounts(texts: list[str]) -> bool:
    return (
        bool(texts)
        and any(set(t) & set(".,") for t in texts)
        and all(isinstance(read_amount(t), Amount) for t in texts)
    )


def own_tasks(folder: Path) -> list[str]:
    """The functions in the folder's Python files that look like tasks. No file is executed for this list."""
    found = []
    for path in sorted(folder.glob("*.py")):
        with suppress(OSError, SyntaxError, ValueError, UnicodeDecodeError):
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


class ParamMenu(msgspec.Struct, frozen=True):
    """A menu for something that the task takes: what can be chosen for it, and what is."""

    name: str
    required: bool
    kind: str
    choices: tuple[str, ...]
    chosen: str
    default: str | None


class ShownCell(msgspec.Struct, frozen=True):
    """A cell as the table shows it."""

    text: str
    is_refused: bool


class ShownRow(msgspec.Struct, frozen=True):
    """A row as the table shows it: what becomes of it, and why."""

    number: int
    kind: str
    word: str
    why: str
    cells: tuple[ShownCell, ...]


class Understood(msgspec.Struct, frozen=True, kw_only=True):
    """All that the screen of a sheet shows."""

    choices: Choices
    sheet: str | None
    header_row: int
    columns: tuple[Column, ...]
    profile: Profile
    tasks: tuple[str, ...]
    params: tuple[ParamMenu, ...]
    problems: tuple[str, ...]
    plan: Preview | None
    counts: tuple[tuple[str, str, int], ...]
    rows: tuple[ShownRow, ...]
    show: str
    following: int | None
    command: list[str]

    @property
    def starts(self) -> int:
        """How many rows would be started."""
        return self.plan.plan.start + self.plan.plan.retried if self.plan else 0


def look(choices: Choices, folder: Path, show: str, begin: str) -> Understood:
    """Read the sheet once as `check` does, and make the screen of it. Raises what makes it no sheet at all."""
    with _opened(choices) as source:
        profile, was_asked = _profile(source), choices.asked
        choices, params = _completed(choices, profile, folder)
        steps: dict[int, tuple[str, str]] = {}
        is_large = not was_asked and source.sheet.row_count > MANY
        plan, problems = (None, []) if is_large else _planned(choices, steps)
        first = int(begin) if begin.isdecimal() else 0
        rows = list(islice(_rows(source, steps, show, first, is_planned=plan is not None), PAGE + 1))
        counted = msgspec.structs.asdict(plan.plan) if plan else {}
        return Understood(
            choices=choices,
            sheet=source.sheet.name,
            header_row=source.sheet.header_row,
            columns=profile.columns,
            profile=profile,
            tasks=(INVOICE, *own_tasks(folder)),
            params=params,
            problems=tuple(problems),
            plan=plan,
            counts=tuple((name, PLANNED.get(name, name), rows) for name, rows in counted.items() if rows),
            rows=tuple(rows[:PAGE]),
            show=show,
            following=rows[PAGE].number if len(rows) > PAGE else None,
            command=["batch-runner", *command_words("check", choices.file, choices.options())],
        )


def _opened(choices: Choices) -> Source:
    """The sheet as it is read; for the table only, hidden rows are shown although nobody spoke about them yet."""
    scratch = Path(tempfile.gettempdir())
    reading = choices.reading()
    try:
        return Source(Job(input=choices.file, **reading), scratch)
    except SheetError:
        try:
            return Source(Job(input=choices.file, **{**reading, "hidden": "skip"}), scratch)
        except SheetError:
            pass
        raise


def _completed(choices: Choices, profile: Profile, folder: Path) -> tuple[Choices, tuple[ParamMenu, ...]]:
    """The choices with what is proposed where nothing was said, and the menus for the task's params."""
    if not choices.asked:
        task = INVOICE if profile.files else ""
        key = next(iter(sorted(profile.different, key=profile.files.__contains__)), "")
        choices = msgspec.structs.replace(choices, task=task, key=key, total=next(iter(profile.amounts), ""))
    inputs: tuple[Input, ...] = ()
    if choices.task and choices.service == "local":
        with suppress(UsageError):
            found = inputs_of(choices.task, folder)
            inputs = found.inputs if found else ()
    names = [column.name for column in profile.columns]
    mapping = {each.name: choices.mapping.get(each.name) or _proposed(each, names, profile) for each in inputs}
    mapping = {name: chosen for name, chosen in mapping.items() if chosen}
    choices = msgspec.structs.replace(choices, mapping=mapping)
    params = (
        ParamMenu(each.name, each.required, each.kind.noun, each.kind.choices, mapping.get(each.name, ""), each.default)
        for each in inputs
    )
    return choices, tuple(params)


def _proposed(each: Input, names: list[str], profile: Profile) -> str:
    """The column that an input is made of, where one is surely meant."""
    same = [name for name in names if each.is_called(name)]
    if len(same) == 1:
        return same[0]
    return profile.files[0] if each.name == FILE_NAME and profile.files and not same else ""


def _planned(choices: Choices, steps: dict[int, tuple[str, str]]) -> tuple[Preview | None, list[str]]:
    """The plan as `check` makes it, or why there is none; each row's step goes to `steps`."""

    def seen(step: Step, _: RowParams) -> None:
        name = counted_as(step)
        if name is not None:
            why = step.why if isinstance(step, Refuse) else step.status if isinstance(step, Keep) else ""
            steps[step.row_number] = (name, why)

    if not choices.task:
        return None, []
    try:
        return anyio.run(_rehearsed, planned_of(choices), seen), []
    except (BatchRunnerError, SheetError) as error:
        steps.clear()
        return None, str(error).splitlines()


async def _rehearsed(planned: SheetJob, seen: Callable[[Step, RowParams], None]) -> Preview:
    async with AsyncExitStack() as stack:
        return await Rehearsal(stack, "", seen).page(planned)


def _rows(
    source: Source, steps: Mapping[int, tuple[str, str]], show: str, first: int, *, is_planned: bool
) -> Iterator[ShownRow]:
    indexes = [column.index for column in source.layout.own]
    for row in source.sheet.rows():
        if row.number < first:
            continue
        shown = _shown(source, row, steps.get(row.number), indexes, is_planned=is_planned)
        if show in ("", shown.kind) or (show == "refused" and shown.word in ("refused", "held back", "parked")):
            yield shown


def _shown(
    source: Source, row: Row, step: tuple[str, str] | None, indexes: Iterable[int], *, is_planned: bool
) -> ShownRow:
    name, why = step or ("", "")
    bad = (
        {problem.index for problem in row.problems if problem.refuses} if name == "refused" or not is_planned else set()
    )
    if name == "refused":
        bad |= {index for index in indexes if f"{source.sheet.address(row.number, index)}:" in f"{why}:"}
    cells = tuple(ShownCell(row.texts[index], index in bad) for index in indexes)
    if row.kind is not RowKind.DATA:
        kind = "header" if row.kind is RowKind.HEADER else "left"
        return ShownRow(row.number, kind, LEFT[row.kind], "", cells)
    if not name:
        return ShownRow(row.number, "left" if is_planned else "taken", "left out" if is_planned else "", "", cells)
    kind = "refused" if name in ("refused", "held", "parked", "unknown") else "taken"
    return ShownRow(row.number, kind, PLANNED.get(name, name), why if name != "carried_over" else "", cells)
