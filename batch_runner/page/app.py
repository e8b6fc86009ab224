"""Who may use the local page, its addresses, and the server on 127.0.0.1."""

from __future__ import annotations

import contextlib
import hmac
import os
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode

import anyio
import jinja2
import msgspec
from anyio import to_thread
from starlette.applications import Starlette
from starlette.datastructures import FormData, QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from batch_runner.errors import BatchRunnerError, SheetError, UsageError, quote_words
from batch_runner.page import batches, rows, sheets
from batch_runner.rows.amounts import worded
from batch_runner.runner.connect import KEY_VARIABLES, api_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


HOST: Final = "127.0.0.1"
HERE = Path(__file__).parent
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""What every answer carries: nothing of another origin is loaded, and nothing of this page is kept elsewhere."""
LARGEST_UPLOAD = 512 << 20
"""Bytes of a sheet that is dropped."""
LONGEST_TEXT = 160
"""Characters of a cell or message that a table shows; a row's own screen has all of it."""
STEP_KINDS = {"start": "going", "poll": "going", "retried": "going", "carried_over": "good", "unknown": "unsure"}
"""Which colour each step of a plan has."""
EVERY = 1.0
"""Seconds between two looks into the journal for a page that is live."""


class Guard:
    """Lets only this person's browser in: the right host (DNS rebinding), the page's own origin (CSRF), the cookie.

    The token of the first address becomes a cookie. Without either the answer is 401, for another host or origin 403.
    """

    def __init__(self, app: ASGIApp, port: int, token: str, start: str) -> None:
        self._app = app
        self._start = start
        self._token = token.encode()
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._cookie = f"batch_runner_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self._welcome(scope)

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", ()) if pair[0].decode().lower() not in HEADERS]
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*kept, *added]
            await send(message)

        await (answer or self._app)(scope, receive, say)

    def _refusal(self, scope: Scope) -> Response | None:
        host, origin = _header(scope, "host"), _header(scope, "origin")
        if host not in self._hosts:
            return PlainTextResponse(f"This page answers to {HOST} only.", 403)
        if origin and origin != f"http://{host}":
            return PlainTextResponse("This request comes from another page.", 403)
        if scope["method"] not in ("GET", "HEAD") and _header(scope, "sec-fetch-site") not in ("", "same-origin"):
            return PlainTextResponse("This request comes from another page.", 403)
        return None

    def _welcome(self, scope: Scope) -> Response | None:
        """Nothing for whom the cookie lets in; the cookie for whom brings the token; else a refusal."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if self._is_right(query.get("token", [""])[0]):
            rest = urlencode({name: texts for name, texts in query.items() if name != "token"}, doseq=True)
            there = scope["path"] + (f"?{rest}" if rest else "")
            answer = RedirectResponse(self._start if there == "/" else there, 303)
            answer.set_cookie(self._cookie, self._token.decode(), httponly=True, samesite="strict", path="/")
            return answer
        if self._is_right(_cookies(scope).get(self._cookie, "")):
            return None
        return PlainTextResponse(
            "This page needs the address that batch-runner open has printed, with its token. Open it again from there.",
            401,
        )

    def _is_right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token)


def _header(scope: Scope, name: str) -> str:
    value: bytes = dict(scope.get("headers", ())).get(name.encode(), b"")
    return value.decode("latin-1")


def _cookies(scope: Scope) -> dict[str, str]:
    with contextlib.suppress(CookieError):
        return {name: morsel.value for name, morsel in SimpleCookie(_header(scope, "cookie")).items()}
    return {}


class PageRequest(msgspec.Struct, frozen=True):
    """What a request says: the address's own words, those of a form, and the file that came with it."""

    query: QueryParams
    form: FormData
    upload: tuple[str, bytes] | None = None

    def text(self, name: str) -> str:
        """A word of the form, or else of the address; empty where it isn't said."""
        found = self.form.get(name, self.query.get(name, ""))
        return found if isinstance(found, str) else ""


class Shown(msgspec.Struct, frozen=True):
    """A screen: its template and what that shows."""

    template: str
    values: dict[str, Any]
    status_code: int = 200


class Go(msgspec.Struct, frozen=True):
    """Another address to go to, as after every form."""

    path: str
    query: dict[str, Any] = {}

    @property
    def address(self) -> str:
        """With its query."""
        return self.path + (f"?{urlencode(self.query, doseq=True)}" if self.query else "")


class Sent(msgspec.Struct, frozen=True):
    """A file to take away."""

    path: Path


Answer = Shown | Go | Sent


def make_page(folder: Path, port: int, token: str, start: str, is_closing: Callable[[], bool]) -> ASGIApp:
    """The ASGI application for the folder, which is this process's own: names in it are as in the shell.

    `start` is the screen that the first address leads to. Live screens are let go once `is_closing` says so.
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
        "/save": screens.keep_job,
    }
    return Starlette(
        routes=[
            *(Route(path, _endpoint(view), methods=["GET"], name=f"get {path}") for path, view in pages.items()),
            *(Route(path, _endpoint(view), methods=["POST"], name=f"post {path}") for path, view in forms.items()),
            Route("/events", screens.events, methods=["GET"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[Middleware(Guard, port=port, token=token, start=start)],
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


@jinja2.pass_context
def _query_of(context: jinja2.runtime.Context, **changed: object) -> str:
    """The address's query with some of it changed, for links that stay on this screen."""
    query = {**context.get("query", {}), **changed}
    return "?" + urlencode({name: value for name, value in query.items() if value not in (None, "")}, doseq=True)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["query_of"] = _query_of
    environment.filters.update(
        amount=worded,
        column=lambda name: (name, f"column {name}"),
        gist=rows.gist,
        fixed=lambda text: (sheets.FIXED + text, f"always {text}"),
        kind=batches.kind_of,
        local=batches.local,
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
    return TEMPLATES.get_template(shown.template).render(shown.values)


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

    def folder(self, _: PageRequest) -> Answer:
        """The sheets of the folder, what runs now, the last nights; and the key, which may be typed once."""
        nights = self._batches.nights()
        return Shown(
            "folder.html",
            {
                "folder": self._folder,
                "sheets": sheets.sheets_in(self._folder, {night.output for night in nights}),
                "running": [night for night in nights if night.is_running],
                "nights": nights[:3],
                "has_key": api_key() is not None,
                "command": ["batch-runner", "open", str(self._folder)],
            },
        )

    def drop(self, asked: PageRequest) -> Answer:
        """Keep a sheet that was chosen or dropped; a file of that name stays, and the new one gets a number."""
        if asked.upload is None or not asked.upload[0]:
            raise UsageError("no file came with this: choose a sheet first")
        return Go("/sheet", {"file": sheets.keep_upload(self._folder, *asked.upload)})

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
        found = sheets.look(choices, self._folder, asked.text("show"), asked.text("from"))
        return Shown("sheet.html", {"it": found, "query": dict(asked.query.multi_items()), "command": found.command})

    def run(self, asked: PageRequest) -> Answer:
        """Start a batch as a process of its own."""
        choices = sheets.choices_of(asked.form, self._folder)
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
            return Shown("starting.html", {"it": begun, "command": begun.command})
        shown = self._columns.rows(seen, asked.query)
        values = {"it": seen, "rows": shown, "query": dict(asked.query), "command": seen.command}
        if not asked.text("part"):
            values["mending"] = self._columns.mending(seen)
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
        seen = self._batches.stop(asked.form)
        return Go("/batch", {"journal": seen.journal_name, "id": seen.batch.id, "stopping": "1"})

    def adjust(self, asked: PageRequest) -> Answer:
        """More or fewer runs at once, from now on."""
        seen = self._batches.change(asked.form)
        return Go("/batch", {"journal": seen.journal_name, "id": seen.batch.id})

    def row(self, asked: PageRequest) -> Answer:
        """The story of one row."""
        story = rows.story_of(self._batches.look_at(asked.query), asked.query)
        own = self._columns.of_row(story.seen, story.number)
        return Shown("row.html", {"it": story, "own": own, "command": story.command})

    def mend(self, asked: PageRequest) -> Answer:
        """Write what was mended into the result file, and run those rows."""
        seen = self._batches.look_at(asked.form)
        path, numbers = self._columns.write(seen, asked.form)
        options = seen.options_again(numbers, path)
        return self._started(path, options, seen.journal, path)

    def retry(self, asked: PageRequest) -> Answer:
        """Run a group of rows again that failed alike."""
        seen = self._batches.look_at(asked.form)
        numbers = self._batches.numbers_of(seen, asked.text("status"), asked.text("error"))
        options = seen.options_again(numbers, seen.batch.output)
        return self._started(seen.batch.output, options, seen.journal, seen.batch.output)

    def resolve(self, asked: PageRequest) -> Answer:
        """Settle an unknown row."""
        seen = self._batches.look_at(asked.form)
        number = rows.settle(seen, asked.form)
        return Go("/row", {"journal": seen.journal_name, "id": seen.batch.id, "row": number, "settled": "1"})

    def nights(self, _: PageRequest) -> Answer:
        """All nights of the journals in the folder."""
        return Shown(
            "nights.html", {"nights": self._batches.nights(), "command": ["batch-runner", "status", "JOURNAL"]}
        )

    def save(self, asked: PageRequest) -> Answer:
        """What a job file of this batch would say, and the lines for cron and systemd."""
        seen = self._batches.look_at(asked.query)
        return Shown(
            "save.html",
            {
                "it": seen,
                "job": rows.job_text(seen),
                "folder": self._folder,
                "saved": asked.text("saved"),
                "lines": rows.timer_lines(self._folder, asked.text("saved") or rows.JOB_NAME),
                "command": ["batch-runner", "run", asked.text("saved") or rows.JOB_NAME],
            },
        )

    def keep_job(self, asked: PageRequest) -> Answer:
        """Write the job file; one that is there stays."""
        seen = self._batches.look_at(asked.form)
        saved = rows.keep_job(self._folder, asked.text("name"), rows.job_text(seen))
        return Go("/save", {"journal": seen.journal_name, "id": seen.batch.id, "saved": saved})

    def download(self, asked: PageRequest) -> Answer:
        """The output or the report of a batch, as the journal names them."""
        seen = self._batches.look_at(asked.query)
        path = seen.report if asked.text("what") == "report" else Path(seen.batch.output)
        if path is None or not path.is_file():
            raise HTTPException(404, "This file isn't there (yet).")
        return Sent(path)
