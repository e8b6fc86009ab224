"""A sheet before it runs: what was understood, what is chosen, the plan, and the command that would do the same."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec

from batch_runner.errors import BatchRunnerError, SheetError, UsageError
from batch_runner.fs import state_of_folder
from batch_runner.job.inputs import night_job_of
from batch_runner.job.job import Job, stem_of
from batch_runner.job.options import command_words
from batch_runner.plan.plan import Keep, Refuse, Step, counted_as
from batch_runner.rows.source import Profile, Source, profile_of, proposed, repeated_keys
from batch_runner.runner.check import estimate_of
from batch_runner.runner.connect import api_key, inputs_of, tasks_in
from batch_runner.runner.memory import key_before, place_journals
from batch_runner.runner.night import rehearse_alone
from batch_runner.sheet.model import Row, RowKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from starlette.datastructures import FormData, QueryParams

    from batch_runner.job.inputs import SheetJob
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.task_inputs import Input
    from batch_runner.runner.check import Preview
    from batch_runner.sheet.model import Column


INVOICE: Final = "invoice"
FILE_NAME: Final = "File Name"
ANCHOR = "anchor:"
"""The choice of a task that Anchor's cloud runs; its id stands beside it."""
FIXED = "="
"""Begins a choice that is a fixed text rather than a column."""
PAGE = 100
PATIENCE = 1.2
"""Seconds for which a screen waits for what is being read; then it is shown as far as that has come."""
MOST_READINGS = 4
FRESH = 600.0
"""Seconds for which a sheet that was read needn't be read again for another page of its rows."""
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


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What a person has chosen for a sheet. `mapping` says for a param the column, or with `=` a fixed text.

    `compare` is a column, `compare_part` the part of the result that it is compared with.
    """

    file: str
    asked: bool
    task: str = ""
    service: str = "local"
    key: tuple[str, ...] = ()
    total: str = ""
    compare: str = ""
    compare_part: str = ""
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
        part = self.compare_part.removeprefix("result.")
        said = {
            "task": self.task or None,
            "service": None if self.service == "local" else self.service,
            "rename": rename or None,
            "param": fixed or None,
            "key": list(self.key) or None,
            "total": [self.total] if self.total else None,
            "compare": {self.compare: f"result.{part}"} if self.compare and part else None,
            "retry": list(self.retry) or None,
            "concurrency": self.concurrency,
            "report": f"{stem_of(Path(self.file))}.report.html" if self.task else None,
        }
        return {**{name: value for name, value in said.items() if value is not None}, **self.reading()}

    def fields(self) -> list[tuple[str, str]]:
        """All of it as a form says it."""
        names = ("total", "compare", "compare_part", "sheet", "header_row", "hidden", "suspect_rows", "merged")
        said = [(name, getattr(self, name)) for name in (*names, "concurrency")]
        return [
            ("file", self.file),
            ("task", ANCHOR if self.service == "anchor" else self.task),
            ("task_id", self.task),
            *((f"map.{name}", column) for name, column in self.mapping.items()),
            *(("key", name) for name in self.key),
            *((name, str(value)) for name, value in said if value),
            *([("trust_formulas", "1")] if self.trust_formulas else []),
        ]


def choices_of(query: QueryParams | FormData, folder: Path) -> Choices:
    """What an address or a form says was chosen. Raises `UsageError` for a file that isn't in the folder."""
    words = {name: str(value) for name, value in query.multi_items()}
    name = words.get("file", "")
    if Path(name).name != name or name in ("", ".", "..") or not (folder / name).is_file():
        raise UsageError(f"{name or 'no name'}: there is no such sheet in {folder}")
    return Choices(
        file=name,
        asked="task" in words,
        task=words.get("task_id", "").strip() if words.get("task") == ANCHOR else words.get("task", ""),
        service="anchor" if words.get("task") == ANCHOR else "local",
        key=tuple(dict.fromkeys(str(column) for column in query.getlist("key") if column)),
        total=words.get("total", ""),
        compare=words.get("compare", ""),
        compare_part=words.get("compare_part", "").strip(),
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
    if bool(choices.compare) != bool(choices.compare_part):
        raise UsageError("to compare, choose the column and say the part of what comes back, such as total")
    return place_journals(night_job_of(job, datetime.now().astimezone().date())).batches[0]


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
    """All that the screen of a sheet shows. Of a large sheet the profile, and then the plan, come later."""

    choices: Choices
    sheet: str | None
    header_row: int
    columns: tuple[Column, ...]
    profile: Profile | None
    tasks: tuple[str, ...]
    params: tuple[ParamMenu, ...]
    problems: tuple[str, ...]
    plan: Preview | None
    is_done: bool
    repeated: int
    estimate: str
    rows: tuple[ShownRow, ...]
    show: str
    following: int | None

    @property
    def counts(self) -> list[tuple[str, str, int]]:
        """The plan's counts, each by its name and in words."""
        counted = msgspec.structs.asdict(self.plan.plan) if self.plan else {}
        return [(name, PLANNED.get(name, name), rows) for name, rows in counted.items() if rows]

    @property
    def starts(self) -> int:
        """How many rows would be started."""
        return self.plan.plan.start + self.plan.plan.retried if self.plan else 0

    def command(self, name: str) -> list[str]:
        """What does the same in a shell."""
        return ["batch-runner", *command_words(name, self.choices.file, self.choices.options())]


class _DroppedError(Exception):
    """Somebody has chosen something else meanwhile: nobody waits for this plan any more."""


class _Reading:
    """A sheet that is being read, profiled and planned beside the screens that show how far this has come."""

    def __init__(self, choices: Choices, folder: Path) -> None:
        self.profiled, self.ended = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.choices, self.params = choices, tuple[ParamMenu, ...]()
        self.profile: Profile | None = None
        self.plan: Preview | None = None
        self.problems: list[str] = []
        self.repeated = 0
        self.first: list[ShownRow] = []
        self.is_dropped = False
        self.began = time.monotonic()
        self._folder = folder
        self._lock = threading.Lock()
        self._table = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._table.execute("CREATE TABLE shown (number INTEGER PRIMARY KEY, kind TEXT, row TEXT)")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            with _opened(self.choices) as source:
                self.sheet, self.header_row = source.sheet.name, source.sheet.header_row
                self.columns = source.layout.own
                self.first = list(islice(_rows(source, {}, is_planned=False), PAGE))
                self.profile = profile_of(source)
                self.choices, self.params = _completed(self.choices, self.profile, self._folder)
                self.profiled.set()
                steps: dict[int, tuple[str, str]] = {}
                self.plan, self.problems = _planned(self.choices, steps, self)
                self.repeated = repeated_keys(source, self.choices.key, self.profile)
                self._keep(_rows(source, steps, is_planned=self.plan is not None))
        except _DroppedError:
            pass
        except Exception as error:  # noqa: BLE001  it is raised in the thread of who asks
            self.error = error
        finally:
            self.profiled.set()
            self.ended.set()

    def _keep(self, rows: Iterable[ShownRow]) -> None:
        texts = ((row.number, _tab_of(row), msgspec.json.encode(row).decode()) for row in rows if not self.is_dropped)
        with self._lock:
            self._table.execute("BEGIN")
            self._table.executemany("INSERT INTO shown VALUES (?, ?, ?)", texts)
            self._table.execute("COMMIT")

    def rows(self, show: str, first: int) -> list[ShownRow]:
        """A page of rows and one more, from a number on, of one kind or of all; the first ones until all are there."""
        if not self.ended.is_set():
            return [row for row in self.first if row.number >= first and show in ("", _tab_of(row))]
        sql = "SELECT row FROM shown WHERE number >= ? AND (? = '' OR kind = ?) ORDER BY number LIMIT ?"
        with self._lock:
            found = self._table.execute(sql, (first, show, show, PAGE + 1)).fetchall()
        return [msgspec.json.decode(text, type=ShownRow) for (text,) in found]


class Readings:
    """The sheets that screens show, each read once for as long as nothing in the folder has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[object, _Reading]] = {}
        self._lock = threading.Lock()

    def look(self, choices: Choices, show: str, begin: str) -> Understood:
        """The screen of a sheet, as far as it is known. Raises what makes it no sheet at all."""
        reading = self._reading(choices)
        until = time.monotonic() + PATIENCE
        reading.profiled.wait(PATIENCE)
        reading.ended.wait(max(until - time.monotonic(), 0.0))
        if reading.error is not None:
            raise reading.error
        is_done = reading.ended.is_set()
        rows = reading.rows(show, int(begin) if begin.isdecimal() else 0)
        return Understood(
            choices=reading.choices,
            sheet=getattr(reading, "sheet", None),
            header_row=getattr(reading, "header_row", 0),
            columns=getattr(reading, "columns", ()),
            profile=reading.profile if reading.profiled.is_set() else None,
            tasks=(INVOICE, *tasks_in(self._folder)),
            params=reading.params,
            problems=tuple(reading.problems),
            plan=reading.plan if is_done else None,
            is_done=is_done,
            repeated=reading.repeated,
            estimate=estimate_of(reading.plan, reading.choices.concurrency) if reading.plan and is_done else "",
            rows=tuple(rows[:PAGE]),
            show=show,
            following=rows[PAGE].number if len(rows) > PAGE else None,
        )

    def _reading(self, choices: Choices) -> _Reading:
        name, state = repr(choices), (api_key() is None, state_of_folder(self._folder))
        with self._lock:
            before, known = self._known.get(name, (None, None))
            is_good = known is not None and not known.is_dropped and time.monotonic() - known.began < FRESH
            if known is not None and is_good and (before == state or not known.ended.is_set()):
                return known
            for _, other in self._known.values():
                other.is_dropped = other.is_dropped or other.choices.file == choices.file
            kept = [pair for pair in self._known.items() if not pair[1][1].is_dropped]
            known = _Reading(choices, self._folder)
            self._known = {**dict(kept[1 - MOST_READINGS :]), name: (state, known)}
            return known


def _tab_of(row: ShownRow) -> str:
    """In which of the tabs the row stands."""
    return "refused" if row.word in ("refused", "held back", "parked") else row.kind


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
        total = next(iter(profile.amounts), "")
        key = key_before(folder / choices.file, profile.columns)
        choices = msgspec.structs.replace(choices, task=task, key=profile.key if key is None else key, total=total)
    inputs: tuple[Input, ...] = ()
    if choices.task and choices.service == "local":
        with suppress(UsageError):
            found = inputs_of(choices.task, folder)
            inputs = found.inputs if found else ()
    mapping = {name: choices.mapping.get(name) or column for name, column in proposed(inputs, profile).items()}
    mapping = {name: chosen for name, chosen in mapping.items() if chosen}
    choices = msgspec.structs.replace(choices, mapping=mapping)
    params = (
        ParamMenu(each.name, each.required, each.kind.noun, each.kind.choices, mapping.get(each.name, ""), each.default)
        for each in inputs
    )
    return choices, tuple(params)


def _planned(
    choices: Choices, steps: dict[int, tuple[str, str]], reading: _Reading
) -> tuple[Preview | None, list[str]]:
    """The plan as `check` makes it, or why there is none; each row's step goes to `steps`."""

    def seen(step: Step, _: RowParams) -> None:
        if reading.is_dropped:
            raise _DroppedError
        name = counted_as(step)
        if name is not None:
            why = step.why if isinstance(step, Refuse) else step.status if isinstance(step, Keep) else ""
            steps[step.row_number] = (name, why)

    if not choices.task:
        return None, ["say the id of the task, as Anchor shows it"] if choices.service == "anchor" else []
    try:
        return anyio.run(rehearse_alone, planned_of(choices), seen), []
    except (BatchRunnerError, SheetError) as error:
        steps.clear()
        return None, str(error).splitlines()


def _rows(source: Source, steps: Mapping[int, tuple[str, str]], *, is_planned: bool) -> Iterator[ShownRow]:
    indexes = [column.index for column in source.layout.own]
    for row in source.sheet.rows():
        yield _shown(source, row, steps.get(row.number), indexes, is_planned=is_planned)


def _shown(
    source: Source, row: Row, step: tuple[str, str] | None, indexes: Iterable[int], *, is_planned: bool
) -> ShownRow:
    name, why = step or ("", "")
    is_refused = name == "refused" or not is_planned
    bad = {problem.index for problem in row.problems if problem.refuses and is_refused}
    if name == "refused":
        bad |= {index for index in indexes if f"{source.sheet.address(row.number, index)}:" in f"{why}:"}
    cells = tuple(ShownCell(row.texts[index], index in bad) for index in indexes)
    if row.kind is not RowKind.DATA:
        kind = "header" if row.kind is RowKind.HEADER else "left"
        return ShownRow(row.number, kind, LEFT[row.kind], "", cells)
    if not name:
        return ShownRow(row.number, "left" if is_planned else "taken", "left out" if is_planned else "", "", cells)
    kind = "refused" if name in ("refused", "held", "parked", "unknown") else "taken"
    return ShownRow(row.number, kind, PLANNED.get(name, name), why if name not in ("carried_over", why) else "", cells)
