"""The local page's addresses and screens, and the files of its folder."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
import jinja2
import msgspec
from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from batch_runner.errors import BatchRunnerError, SheetError, UsageError, quote_words, reason_of
from batch_runner.fs import is_draft
from batch_runner.job.inputs import ENDINGS
from batch_runner.job.job import stem_of
from batch_runner.job.options import KINDS_HERE, job_text, what_runs
from batch_runner.outcomes import kind_of
from batch_runner.page import batches, rows, sheets
from batch_runner.report.summary import duration_of
from batch_runner.rows.amounts import worded
from batch_runner.runner.adjust import Standings
from batch_runner.runner.connect import KEY_VARIABLES, api_key
from batch_runner.units import local_time, problem_of_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp


HERE = Path(__file__).parent
LARGEST_UPLOAD = 512 << 20
"""Bytes of a sheet that is dropped."""
JOB_NAME = "nightly.toml"
LONGEST_TEXT = 160
"""Characters of a cell or message that a table shows; a row's own screen has all of it."""
STEP_KINDS = {"start": "going", "poll": "going", "retried": "going", "carried_over": "good", "unknown": "unsure"}
"""Which colour each step of a plan has."""
MOST_COMMANDS = 5
EVERY = 1.0
"""Seconds between two looks into the journal for a page that is live."""


class PageRequest(msgspec.Struct, frozen=True):
    """What a request says: the address's own words, those of a form, and the file that came with it."""

    query: QueryParams
    form: FormData
    upload: tuple[str, bytes] | None = None

    def text(self, name: str) -> str:
        """A word of the form, or else of the address; empty where it isn't said."""
        found = self.form.get(name, self.query.get(name, ""))
        return found if isinstance(found, str) else ""

    @property
    def words(self) -> dict[str, list[str]]:
        """The address's own words, each name with all that it says."""
        return {name: self.query.getlist(name) for name in self.query}


class Shown(msgspec.Struct, frozen=True):
    """A screen: its template and what that shows."""

    template: str
    values: dict[str, Any]
    status_code: int = 200


class Go(msgspec.Struct, frozen=True):
    """Another address to go to, as after every form."""

    path: str
    query: dict[str, Any] | list[tuple[str, str]] = {}

    @property
    def address(self) -> str:
        """With its query."""
        return self.path + (f"?{urlencode(self.query, doseq=True)}" if self.query else "")


class Sent(msgspec.Struct, frozen=True):
    """A file to take away."""

    path: Path


Answer = Shown | Go | Sent


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


def keep_job(folder: Path, name: str, text: str) -> str:
    """Write a new job file into the folder; gives its name. Raises `UsageError` for one that is there already."""
    plain = name.strip() or JOB_NAME
    if Path(plain).name != plain or not plain.endswith(".toml") or plain.startswith("."):
        raise UsageError(f"{plain}: name a file of this folder that ends in .toml")
    if problem := problem_of_name(Path(plain)):
        raise UsageError(f"{plain}: {problem}; choose another name")
    try:
        with (folder / plain).open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{plain}: there is such a file already, which is kept; choose another name") from None
    except OSError as error:
        raise UsageError(f"{plain}: can't be written: {reason_of(error)}") from None
    return plain


def make_page(folder: Path, is_closing: Callable[[], bool]) -> ASGIApp:
    """The ASGI application for the folder, which is this process's own: names in it are as in the shell.

    Live screens are let go once `is_closing` says so.
    """
    screens = Screens(folder, is_closing)
    pages: dict[str, Callable[[PageRequest], Answer]] = {
        "/": screens.folder,
        "/sheet": screens.sheet,
        "/batch": screens.batch,
        "/row": screens.row,
        "/nights": screens.nights,
        "/save": screens.save,
        "/download": screens.download,
    }
    forms: dict[str, Callable[[PageRequest], Answer]] = {
        "/drop": screens.drop,
        "/key": screens.key,
        "/run": screens.run,
        "/stop": screens.stop,
        "/adjust": screens.adjust,
        "/mend": screens.mend,
        "/retry": screens.retry,
        "/resolve": screens.resolve,
        "/again": screens.again,
        "/save": screens.keep_job,
    }
    return Starlette(
        routes=[
            *(Route(path, _endpoint(view), methods=["GET"], name=f"get {path}") for path, view in pages.items()),
            *(Route(path, _endpoint(view), methods=["POST"], name=f"post {path}") for path, view in forms.items()),
            Route("/events", screens.events, methods=["GET"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )


def _endpoint(view: Callable[[PageRequest], Answer]) -> Callable[[Request], Any]:
    """A view is plain code that may read files: it runs in a thread, and its sentence for a person is a screen, too."""

    async def endpoint(request: Request) -> Response:
        asked = await _asked(request)
        try:
            answer = await to_thread.run_sync(view, asked)
        except (BatchRunnerError, SheetError) as error:
            answer = Shown("problem.html", {"sentences": str(error).splitlines(), "title": "This can't be done"}, 400)
        if isinstance(answer, Go):
            return RedirectResponse(answer.address, 303)
        if isinstance(answer, Sent):
            return FileResponse(answer.path, filename=answer.path.name)
        return HTMLResponse(_render(answer), answer.status_code)

    return endpoint


async def _asked(request: Request) -> PageRequest:
    if request.method != "POST":
        return PageRequest(request.query_params, FormData())
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > LARGEST_UPLOAD:
        raise HTTPException(413, "The file is too large for this page.")
    async with request.form(max_fields=20_000, max_part_size=1 << 20) as form:
        file = form.get("file")
        upload = (file.filename or "", await file.read()) if isinstance(file, UploadFile) else None
        return PageRequest(request.query_params, form, upload)


def _local(moment: str | None) -> str:
    """A recorded moment on this computer's clock."""
    return "–" if moment is None else local_time(moment, "seconds").partition("+")[0]


@jinja2.pass_context
def _query_of(context: jinja2.runtime.Context, **changed: object) -> str:
    """The address's query with some of it changed, for links that stay on this screen."""
    query = {**context.get("query", {}), **changed}
    return "?" + urlencode({name: said for name, said in query.items() if said not in (None, "", [""])}, doseq=True)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["query_of"] = _query_of
    environment.filters.update(
        amount=worded,
        basename=lambda path: Path(path).name,
        column=lambda name: (name, f"column {name}"),
        gist=rows.gist,
        duration=duration_of,
        fixed=lambda text: (sheets.FIXED + text, f"always {text}"),
        kind=kind_of,
        local=_local,
        number=lambda count: f"{count:,}",
        pair=lambda text: (text, text),
        shell=quote_words,
        short=lambda text: text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…",
        step=lambda name: STEP_KINDS.get(name, "bad"),
        words=lambda status: status.replace("_", " "),
    )
    return environment


TEMPLATES = _templates()


def _render(shown: Shown) -> str:
    place = Path.cwd()
    first = [("", ["batch-runner", "open", str(place)])]
    return TEMPLATES.get_template(shown.template).render({"place": place, "commands": first, **shown.values})


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    shown = Shown("problem.html", {"sentences": [error.detail], "title": "This can't be done"})
    return HTMLResponse(_render(shown), error.status_code)


async def _failed(_: Request, error: Exception) -> Response:
    what = f"This is a bug of batch-runner ({type(error).__name__}): please report it. What was sent is recorded."
    return HTMLResponse(_render(Shown("problem.html", {"sentences": [what], "title": "A bug"})), 500)


class Screens:
    """The screens of the page: each takes what was asked and says what to show."""

    def __init__(self, folder: Path, is_closing: Callable[[], bool]) -> None:
        self._folder = folder
        self._is_closing = is_closing
        self._batches = batches.Batches(folder)
        self._columns = rows.OwnColumns()
        self._sheets = sheets.Readings(folder)
        self._standings = Standings()

    def folder(self, _: PageRequest) -> Answer:
        """The sheets of the folder, what runs now, the last nights; and the key, which may be typed once."""
        nights = self._batches.nights()
        return Shown(
            "folder.html",
            {
                "folder": self._folder,
                "sheets": sheets_in(self._folder, {night.batch.output for night in nights}),
                "running": self._batches.lines([night for night in nights if night.is_running]),
                "nights": self._batches.lines(nights[:3]),
                "has_key": api_key() is not None,
            },
        )

    def drop(self, asked: PageRequest) -> Answer:
        """Keep a sheet that was chosen or dropped; a file of that name stays, and the new one gets a number."""
        if asked.upload is None or not asked.upload[0]:
            raise UsageError("no file came with this: choose a sheet first")
        return Go("/sheet", {"file": keep_upload(self._folder, *asked.upload)})

    def key(self, asked: PageRequest) -> Answer:
        """Keep the API key for this process and the batches that it starts; it is written nowhere."""
        typed = asked.text("key").strip()
        if not typed or not typed.isascii() or not typed.isprintable():
            raise UsageError("that is no key: paste it as Anchor shows it")
        os.environ[KEY_VARIABLES[0]] = typed
        return Go("/", {"key": "kept"})

    def sheet(self, asked: PageRequest) -> Answer:
        """What was understood of a sheet, what can be chosen, and the plan."""
        choices = sheets.choices_of(asked.query, self._folder)
        found = self._sheets.look(choices, asked.text("show"), asked.text("from"))
        commands = [("", found.command("check")), *([("To run it", found.command("run"))] if found.plan else [])]
        values = {"it": found, "query": asked.words, "commands": commands, "has_key": api_key() is not None}
        return Shown("planned.html" if asked.text("part") else "sheet.html", values)

    def run(self, asked: PageRequest) -> Answer:
        """Start a batch as a process of its own, unless the sheet is another one than that whose plan was seen."""
        choices = sheets.choices_of(asked.form, self._folder)
        seen = asked.text("seen")
        if seen and seen != self._columns.digest(self._folder / choices.file):
            return Go("/sheet", [*choices.fields(), ("changed", "1")])
        planned = sheets.planned_of(choices)
        output = str(planned.job.output_path.absolute())
        return self._started(choices.file, choices.options(), planned.job.journal_path, output)

    def _started(self, source: str, options: dict[str, Any], journal: Path, output: str) -> Answer:
        pid = self._batches.start(source, options, journal, output)
        return Go("/batch", {"journal": self._batches.name_of(journal), "pid": pid})

    def batch(self, asked: PageRequest) -> Answer:
        """A batch, live or afterwards."""
        seen = self._batches.look(asked.query)
        if seen is None:
            begun = self._batches.beginning(asked.query)
            return Shown("starting.html", {"it": begun, "commands": [("", begun.command)]})
        mending = self._columns.mending(seen, is_part=bool(asked.text("part")))
        whole = self._standings.look(seen.journal, seen.batch, sheets.all_rows_of(seen)) if seen.can_mend else None
        found = {"it": seen, "rows": self._columns.rows(seen, asked.query), "mending": mending, "whole": whole}
        values = {**found, "query": asked.words, "commands": seen.commands}
        return Shown("live.html" if asked.text("part") else "batch.html", values)

    async def events(self, request: Request) -> Response:
        """Server-sent events: something of the batch has changed, or it has ended."""

        async def stream() -> AsyncIterator[bytes]:
            before = b""
            while not (self._is_closing() or await request.is_disconnected()):
                began = anyio.current_time()
                told = await to_thread.run_sync(self._batches.heartbeat, request.query_params)
                if told != before:
                    yield b"data: " + told + b"\n\n"
                else:
                    yield b": still here\n\n"
                before = told
                until = began + max(EVERY, 5 * (anyio.current_time() - began))
                while anyio.current_time() < until and not self._is_closing():
                    await anyio.sleep(EVERY / 5)

        return StreamingResponse(stream(), media_type="text/event-stream")

    def stop(self, asked: PageRequest) -> Answer:
        """Stop a batch in two steps: first it starts nothing more, then it leaves at once."""
        return Go("/batch", self._batches.stop(asked.form).place)

    def adjust(self, asked: PageRequest) -> Answer:
        """More or fewer runs at once, from now on."""
        seen = self._batches.change(asked.form)
        return Go("/batch", {**seen.place, "at_once": asked.text("concurrency")})

    def row(self, asked: PageRequest) -> Answer:
        """The story of one row."""
        story = rows.story_of(self._batches.look_at(asked.query), asked.query)
        own = self._columns.of_row(story.seen, story.number)
        return Shown("row.html", {"it": story, "own": own, "commands": story.commands})

    def mend(self, asked: PageRequest) -> Answer:
        """Write what was mended into the result file, and run those rows."""
        seen = self._batches.look_at(asked.form)
        path, numbers = self._columns.write(seen, asked.form)
        return self._started(path, seen.options_again(path, numbers), seen.journal, path)

    def retry(self, asked: PageRequest) -> Answer:
        """Run a group of rows again that failed alike."""
        seen = self._batches.look_at(asked.form)
        numbers = self._batches.numbers_of(seen, asked.text("status"), asked.text("error"))
        path = seen.batch.output
        return self._started(path, seen.options_again(path, numbers), seen.journal, path)

    def again(self, asked: PageRequest) -> Answer:
        """Go on with a batch that was left before its end, by its own command."""
        seen = self._batches.look_at(asked.form)
        return (
            self._started(*seen.again, seen.journal, seen.batch.output) if seen.can_go_on else Go("/batch", seen.place)
        )

    def resolve(self, asked: PageRequest) -> Answer:
        """Settle an unknown row, or one whose run never ends."""
        seen = self._batches.look_at(asked.form)
        return Go("/row", {**seen.place, "row": rows.settle(seen, asked.form)})

    def nights(self, _: PageRequest) -> Answer:
        """All nights of the journals in the folder, and of the index."""
        nights = self._batches.lines(self._batches.nights())
        names = dict.fromkeys(night.journal for night in nights)
        commands = [("", ["batch-runner", "status", name]) for name in [*names][:MOST_COMMANDS]]
        return Shown("nights.html", {"nights": nights, "commands": commands})

    def save(self, asked: PageRequest) -> Answer:
        """What a job file of this batch would say, and what runs it every night."""
        seen = self._batches.look_at(asked.query)
        name = asked.text("saved") or JOB_NAME
        place, how = self._folder / name, f"--{KINDS_HERE[0]}"
        values = {
            "it": seen,
            "job": job_text(seen.source, seen.known),
            "saved": asked.text("saved"),
            "lines": {kind: what_runs(place, kind) for kind in KINDS_HERE},
            "commands": [("", ["batch-runner", "run", name]), ("The lines", ["batch-runner", "init", name, how])],
        }
        return Shown("save.html", values)

    def keep_job(self, asked: PageRequest) -> Answer:
        """Write the job file; one that is there stays."""
        seen = self._batches.look_at(asked.form)
        saved = keep_job(self._folder, asked.text("name"), job_text(seen.source, seen.known))
        return Go("/save", {**seen.place, "saved": saved})

    def download(self, asked: PageRequest) -> Answer:
        """The output or the report of a batch, as the journal names them."""
        seen = self._batches.look_at(asked.query)
        path = seen.report if asked.text("what") == "report" else Path(seen.batch.output)
        if path is None or not path.is_file():
            raise HTTPException(404, "This file isn't there (yet).")
        return Sent(path)
