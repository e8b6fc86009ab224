"""`serve` and `open` as a person meets them: where they listen, where runs are kept, how they end."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import sys
import threading
import webbrowser
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import anyio
import click
import msgspec
import uvicorn

from batch_runner import log
from batch_runner.errors import ExitCode, UsageError, reason_of, sole_error
from batch_runner.progress import Progress
from batch_runner.runner.connect import KEY_VARIABLES, api_key, executor_for
from batch_runner.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batch_runner.service.local.tasks import Tasks


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """The options of `serve`, as they were said."""

    port: int
    host: str
    tasks: str | None
    files: str
    workers: int | None
    dask: str | None
    send_files: bool
    run_timeout: str
    runs: str
    keep: str
    queue: int
    grace: str


@contextmanager
def name_variables(said: Mapping[str, str]) -> Iterator[None]:
    """Let a `UsageError` that is raised in here name the variables, by flag, where these were said and no flags."""
    try:
        yield
    except UsageError as error:
        text = str(error)
        for flag, variable in said.items():
            text = re.sub(rf"{flag}(?![\w-])", variable, text)
        raise UsageError(text) from error


def serve_until_stopped(said: Serving) -> int:
    """Serve until Ctrl-C (0) or SIGTERM (0): both are the orderly end of a service."""
    log.write_log("text", "info", Progress().say, api_key())
    with sole_error(), redirect_stdout(sys.stderr):  # as the prints of tasks in worker processes
        anyio.run(_serve, said)
    return ExitCode.OK


async def _serve(said: Serving) -> None:
    from batch_runner.service.local.service import LocalService
    from batch_runner.service.local.store_file import open_runs
    from batch_runner.service.serve.server import check_host, serve

    run_timeout, grace = _seconds("--run-timeout", said.run_timeout), _seconds("--grace", said.grace, or_none=True)
    keep = _seconds("--keep", f"{said.keep}d" if re.fullmatch(r"[\d.]+", said.keep.strip()) else said.keep)
    key = api_key()
    check_host(said.host, asks_for_key=key is not None)
    tasks = _tasks(said)
    executor = executor_for(said.workers, said.dask, send_files=said.send_files)
    repeatable = [task_id for task_id, task in tasks.by_id.items() if task.repeatable]
    with open_runs(Path(said.runs), keep, repeatable=repeatable) as store:
        await serve(
            LocalService(tasks, executor, run_timeout, store=store, queue=said.queue),
            said.port,
            partial(_say_listening, said.runs, key is not None, _names_of(tasks)),
            api_key=key,
            host=said.host,
            grace=grace,
            on_stopping=partial(_say_stopping, grace),
        )


def _tasks(said: Serving) -> Tasks:
    from batch_runner.service.local.tasks import load_tasks

    built_in = load_tasks(files=Path(said.files))
    if not said.tasks:
        return built_in
    try:
        return load_tasks(said.tasks, files=built_in.files)
    except UsageError as error:
        raise UsageError(f"--tasks: {error}") from error


def _seconds(option: str, text: str, *, or_none: bool = False) -> float:
    if or_none and text.strip() in ("0", "0s"):
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _names_of(tasks: Tasks) -> str:
    """What clients ask for: of a function that has a short id, that one."""
    known = tasks.by_id
    names = [name for name in known if not (".py:" in name and name.rpartition(":")[2] in known)]
    return f"tasks: {', '.join(names)}" if len(names) > 1 else f"task: {names[0]} (--tasks FILE.py adds your own)"


def _say_listening(runs: str, locked: bool, tasks: str, url: str) -> None:
    lock = (
        "the key from the environment is asked for" if locked else f"no key is asked for ({KEY_VARIABLES[0]} is unset)"
    )
    click.echo(
        f"batch-runner: serving the Tasks API on {url}; {lock}; runs are kept in {runs}; Ctrl-C stops it\n"
        f"batch-runner: {tasks}",
        err=True,
    )


TIDYING = 10.0
"""Seconds that cancelled runs get to tidy up."""


def _say_stopping(grace: float, running: int | None) -> None:
    if running is None:  # the thread of an async task, say, can't be stopped; a restart knows of its run
        last = threading.Timer(TIDYING, os._exit, (ExitCode.OK,))
        last.daemon = True
        last.start()
    elif running:
        runs = "1 run has" if running == 1 else f"{running} runs have"
        click.echo(f"batch-runner: stopping: {runs} {grace:g} s to end (again: none)", err=True)


def open_page(target: Path, port: int, *, browser: bool) -> None:
    """Serve the page for a folder, or for a sheet in it, until Ctrl-C. The first line printed is its address.

    Raises `UsageError` where there is no such folder or file, and where the port can't be had.
    """
    from batch_runner.page.app import make_page
    from batch_runner.service.serve.server import HOST, Door, PageGuard, config_of

    if not target.exists():
        raise UsageError(f"{target}: no such file or folder")
    is_folder = target.is_dir()
    os.chdir(target if is_folder else target.absolute().parent)
    token, ticket = (secrets.token_urlsafe(32) for _ in range(2))
    with _listening(HOST, port) as sock:
        number = sock.getsockname()[1]
        start = "/" if is_folder else "/sheet?" + urlencode({"file": target.name})
        page = PageGuard(make_page(Path.cwd(), lambda: server.should_exit), Door(number, token, ticket, start))
        server = _PageServer(config_of(page, timeout_graceful_shutdown=5))
        address = f"http://{HOST}:{number}/?token="
        print(address + token, flush=True)  # noqa: T201  it is what the command is for
        if browser:
            webbrowser.open(address + ticket)  # it stands in the list of processes, so it isn't the token
        with contextlib.suppress(KeyboardInterrupt):
            server.run([sock])


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket of this machine alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
        try:
            if sys.platform != "win32":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(128)
        except OSError as error:
            raise UsageError(f"port {port} can't be had: {reason_of(error)}; choose another with --port") from error
        yield sock


class _PageServer(uvicorn.Server):
    """uvicorn, which ends quietly at Ctrl-C: that is the orderly end of a page."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()
