"""A sheet before it runs: what was understood, what is chosen, the plan, and the command that would do the same."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import finalize

import anyio
import msgspec

from batch_runner.errors import BatchRunnerError, SheetError, UsageError
from batch_runner.fs import state_of_folder
from batch_runner.job.inputs import night_job_of
from batch_runner.job.job import Job, stem_of
from batch_runner.job.options import command_words
from batch_runner.page.rows import PLANNED, ShownRow, sheet_rows
from batch_runner.plan.plan import Keep, Refuse, Step, counted_as
from batch_runner.rows.source import Profile, Source, profile_of, proposed, repeated_keys
from batch_runner.runner.check import estimate_of
from batch_runner.runner.connect import api_key, inputs_of, tasks_in
from batch_runner.runner.memory import key_before, place_journals
from batch_runner.runner.night import Rehearsal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starlette.datastructures import FormData, QueryParams

    from batch_runner.job.inputs import SheetJob
    from batch_runner.page.batches import BatchSeen
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


def job_of(path: str, chosen: Mapping[str, Any]) -> Job:
    """The job over this file with these options, as a job file or a command has them."""
    options: dict[str, Any] = {name: tuple(said) if isinstance(said, list) else said for name, said in chosen.items()}
    return Job(input=path, **options)


def all_rows_of(seen: BatchSeen) -> Job:
    """The job over a batch's result file, with all its rows, to count where they stand: it starts none.

    A cell that was mended there leaves the values of all formulas out of date, by what the file says. They are still
    those that were sent, and no row counts as edited because of that.
    """
    return job_of(seen.batch.output, {**seen.options_again(seen.batch.output), "trust_formulas": True})


def planned_of(choices: Choices) -> SheetJob:
    """The batch to come. Raises `UsageError` for what makes no sense, and where a param has nothing to be made of."""
    job = job_of(choices.file, choices.options())
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


class Understood(msgspec.Struct, frozen=True, kw_only=True):
    """All that the screen of a sheet shows. Of a large sheet the profile, then the plan, then its rows come later.

    `size` is how many of the sheet's rows may take part, of `looked_up` it is known so far what they are.
    """

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
    looked_up: int
    size: int
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

    def __init__(self, choices: Choices, folder: Path, profile: Profile | None) -> None:
        self.profiled, self.planned, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.choices, self.params = choices, tuple[ParamMenu, ...]()
        self.state = _state_of(folder / choices.file)
        self.profile = profile
        """What another reading has found of the same file, or what this one finds."""
        self.plan: Preview | None = None
        self.looked_up = self.size = 0
        self.problems: list[str] = []
        self.repeated = 0
        self.first: list[ShownRow] = []
        self.is_dropped = False
        self.began = time.monotonic()
        self._folder = folder
        self._lock = threading.Lock()
        self._table = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        finalize(self, self._table.close).atexit = False  # a screen may still read what another one has let go
        self._table.execute("CREATE TABLE shown (number INTEGER PRIMARY KEY, kind TEXT, row TEXT)")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            with _opened(self.choices) as source:
                self.sheet, self.header_row = source.sheet.name, source.sheet.header_row
                self.columns, self.size = source.layout.own, source.total
                self.first = list(islice(sheet_rows(source, {}, is_planned=False), PAGE))
                self.profile = self.profile or profile_of(source, look=self.look)
                self.looked_up = 0
                self.choices, self.params = _completed(self.choices, self.profile, self._folder)
                self.profiled.set()
                steps: dict[int, tuple[str, str]] = {}
                self.plan, self.problems = _planned(self.choices, steps, self)
                self.repeated = repeated_keys(source, self.choices.key, self.profile)
                self.planned.set()
                self._keep(sheet_rows(source, steps, is_planned=self.plan is not None))
        except _DroppedError:
            pass
        except Exception as error:  # noqa: BLE001  it is raised in the thread of who asks
            self.error = error
        finally:
            self.profiled.set()
            self.ended.set()

    def look(self) -> None:
        """One row more was looked at. Raises `_DroppedError` where nobody waits for it."""
        if self.is_dropped:
            raise _DroppedError
        self.looked_up += 1

    def is_alike(self, choices: Choices, folder: Path) -> bool:
        """Whether this has found the profile of the same file, as it is, read in the same way."""
        is_same = (self.choices.file, self.choices.reading()) == (choices.file, choices.reading())
        return is_same and self.profiled.is_set() and self.state == _state_of(folder / choices.file)

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
        is_done, plan = reading.ended.is_set(), reading.plan if reading.planned.is_set() else None
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
            plan=plan,
            is_done=is_done,
            looked_up=reading.looked_up,
            size=reading.size,
            repeated=reading.repeated,
            estimate=estimate_of(plan, reading.choices.concurrency) if plan else "",
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
            profile = next((r.profile for _, r in self._known.values() if r.is_alike(choices, self._folder)), None)
            for _, other in self._known.values():
                other.is_dropped = other.is_dropped or other.choices.file == choices.file
            kept = [pair for pair in self._known.items() if not pair[1][1].is_dropped]
            known = _Reading(choices, self._folder, profile)
            self._known = {**dict(kept[1 - MOST_READINGS :]), name: (state, known)}
            return known


def _tab_of(row: ShownRow) -> str:
    """In which of the tabs the row stands."""
    return "refused" if row.word in ("refused", "held back", "parked") else row.kind


def _state_of(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


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
        reading.look()
        name = counted_as(step)
        if name is not None:
            why = step.why if isinstance(step, Refuse) else step.status if isinstance(step, Keep) else ""
            steps[step.row_number] = (name, why)

    if not choices.task:
        return None, ["say the id of the task, as Anchor shows it"] if choices.service == "anchor" else []
    try:
        return anyio.run(_rehearse, planned_of(choices), seen), []
    except (BatchRunnerError, SheetError) as error:
        steps.clear()
        return None, str(error).splitlines()


async def _rehearse(planned: SheetJob, seen: Callable[[Step, RowParams], None]) -> Preview:
    async with AsyncExitStack() as stack:
        return await Rehearsal(stack, "", seen).page(planned)
