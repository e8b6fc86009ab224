"""Which service runs the tasks, how it is reached, and how it is left."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import anyio
import msgspec

from batch_runner.batch.attempts import Terms
from batch_runner.batch.poll_schedule import AUTO, AUTO_NEAR, IN_PROCESS, PollLimits
from batch_runner.errors import UsageError
from batch_runner.job.job import ANCHOR_URL, Job
from batch_runner.job.validation import cluster_problem, read_secret
from batch_runner.journal.index import Purpose
from batch_runner.service.http.classify import advice_on
from batch_runner.units import way_to

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    from batch_runner.batch.stop import Signals
    from batch_runner.rows.task_inputs import TaskInputs
    from batch_runner.service.local.tasks import Executor, Task, Tasks
    from batch_runner.service.protocol import Service


KEY_VARIABLES = ("ANCHORBROWSER_API_KEY", "ANCHOR_API_KEY")
BASE_URL_VARIABLE = "ANCHORBROWSER_BASE_URL"


class ChosenService(msgspec.Struct, frozen=True):
    """The service of a job, looked at before anything is sent.

    `name` is what the journal knows it by: `local` or a URL. `tasks` are the embedded one's own; None for any other.
    `inputs` are what the job's task takes, where that can be known. `repeatable`: the task was declared safe to repeat.
    """

    name: str
    tasks: Tasks | None
    terms: Terms
    polls: PollLimits
    inputs: TaskInputs | None = None
    repeatable: bool = False


ENDED_WITH_US = (
    "it ended with this program, before it was done; how far it had come is not known. The next run of the same "
    "command says what became of it"
)


def why_left(job: Job) -> str | None:
    """What to say of a run that goes on when a batch is stopped; None where it outlives this program."""
    return ENDED_WITH_US if job.service == "local" and job.dask is None else None


def service_name(job: Job) -> str:
    """What the journal knows the job's service by: `local` or a URL."""
    return (os.environ.get(BASE_URL_VARIABLE) or ANCHOR_URL) if job.service == "anchor" else job.service


def choose_service(job: Job) -> ChosenService:
    """Find the job's service. Raises `UsageError` for a task or a key that it surely would not take."""
    if job.service != "local":
        name = service_name(job)
        _key_for(job)
        _refuse_way(job, name)
        terms = Terms(
            resend=job.on_unknown == "resend",
            runs_outlive_us=True,
            beyond_api=job.service != "anchor",
            follow_seconds=job.run_seconds,
        )
        polls = _polls_for(job, AUTO_NEAR if _is_near(name) else AUTO)
        return ChosenService(name, None, terms, polls)
    tasks, task = _tasks_for(job)
    harmless = job.on_unknown == "resend" or task.repeatable
    terms = Terms(resend=harmless, runs_outlive_us=False, beyond_api=True, tells_ends=True)
    return ChosenService("local", tasks, terms, _polls_for(job, IN_PROCESS), task.inputs, task.repeatable)


def _polls_for(job: Job, auto: PollLimits) -> PollLimits:
    return auto if job.poll_budget is None else PollLimits.fixed(job.poll_budget)


def _is_near(url: str) -> bool:
    """Whether the service is on this machine. What is wrong with an address, the client says."""
    from batch_runner.service.http.client import is_loopback

    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _refuse_way(job: Job, url: str) -> None:
    """Raise `UsageError` where no start could go to the service, or where others could read the key on the way."""
    tls_of(url)
    if url.lower().startswith("http:") and api_key() is not None and not (job.insecure_http or _is_near(url)):
        raise UsageError(
            f"{url} is another machine, and over http:// the key from {KEY_VARIABLES[0]} can be read on the way there: "
            "say https://, or --insecure-http if that network is yours alone"
        )


class Probed(msgspec.Struct, frozen=True):
    """What a service said of the key and of the task: `right`, or that it didn't tell."""

    key: str
    task: str

    def __str__(self) -> str:
        return f"key {self.key}, task {self.task} (no run was started)"


async def probe_service(job: Job) -> Probed:
    """Ask the job's service whether key and task are right, without starting a run. Raises `UsageError` if not."""
    chosen = choose_service(job)
    if chosen.tasks is not None:
        return Probed("not needed", "right")
    from batch_runner.service.http.client import Client
    from batch_runner.service.http.transport import AiohttpTransport

    async with Client(chosen.name, _key_for(job), AiohttpTransport(tls_of(chosen.name))) as client:
        key = await client.probe_key()
        task = key if key.is_right is False else await client.probe_task(job.task)
        if task.is_right is False:
            unheard = "check --service, and whether the service runs; " if task.status_code is None else ""
            raise UsageError(f"--probe: {task.why.rstrip('.')}; {unheard}{advice_on(task.status_code)}")
    untold = ("not told by the service", "right")
    return Probed(untold[bool(key.is_right)], untold[bool(task.is_right)])


def tls_of(url: str) -> ssl.SSLContext | None:
    """How connections to a service are secured; None where they aren't. Raises `UsageError` if that can't be."""
    if not url.lower().startswith("https:"):
        return None
    from batch_runner.service.http.transport import tls_context

    return tls_context()


class ConnectedService(msgspec.Struct, frozen=True):
    """A service that is there.

    `wind_down` is for an interrupt: the embedded service begins nothing more. Any other has other clients, too.
    """

    service: Service
    wind_down: Callable[[], None]


def _nothing() -> None:
    """What an interrupt changes at a service that is not ours alone."""


@asynccontextmanager
async def connect_service(
    job: Job, chosen: ChosenService, printed: Callable[[str], None] | None = None
) -> AsyncIterator[ConnectedService]:
    """The service, which is started first if it is the embedded one.

    What tasks print in worker processes of this machine is told to `printed`; without it, it goes to standard error.
    """
    if chosen.tasks is None:
        from batch_runner.service.http.client import Client
        from batch_runner.service.http.transport import AiohttpTransport

        tls = tls_of(chosen.name)
        async with Client(chosen.name, _key_for(job), AiohttpTransport(tls)) as client:
            yield ConnectedService(client, _nothing)
        return
    from batch_runner.service.local.service import LocalService

    executor = executor_for(job.workers, job.dask, send_files=job.send_files, printed=printed)
    async with LocalService(chosen.tasks, executor, job.run_seconds) as embedded:
        yield ConnectedService(embedded, embedded.runs.wind_down)


T = TypeVar("T")

LOOK = 0.2
"""Seconds between two looks at whether there is an end to come to."""


class _LeftBehind(SystemExit):
    """It passes through an event loop, which keeps most other errors for itself."""


def run_and_leave(batches: Callable[[Callable[[T], None]], Awaitable[object]], signals: Signals | None) -> T:
    """Run batches in an event loop, and return what they tell to have come to when only their service is to be left.

    After a signal that gets some seconds. An async task that waits for a thread can't be stopped, and a loop waits for
    threads even when it is closed: it is left behind then.
    """
    found: list[T] = []
    if signals is None:
        anyio.run(batches, found.append)
        return found[0]
    until: float | None = None

    def look() -> None:
        nonlocal until
        loop = asyncio.get_running_loop()
        loop.call_later(LOOK, look)
        if until is None and found and signals.leaving is not None:
            until = time.monotonic() + signals.leaving
        if until is not None and time.monotonic() > until:
            loop.set_exception_handler(lambda *_: None)  # that something was left is no news
            raise _LeftBehind

    async def watched() -> None:
        asyncio.get_running_loop().call_soon(look)
        await batches(found.append)

    with signals.handed_over(), suppress(_LeftBehind):
        anyio.run(watched)
    return found[0]


def executor_for(
    workers: int | None, dask: str | None, *, send_files: bool, printed: Callable[[str], None] | None = None
) -> Executor:
    """Where the embedded service runs sync functions: a Dask cluster, or worker processes (one for each CPU).

    Raises `UsageError` where these make no sense together.
    """
    if problem := cluster_problem(dask, workers, send_files=send_files):
        raise UsageError(f"--{problem.replace('_', '-', 1)}")
    if dask is not None:
        from batch_runner.service.local.dask.cluster import OnCluster

        return OnCluster(dask, send_files=send_files, workers=workers)
    from batch_runner.service.local.process_pool import InWorkers

    return InWorkers(workers or os.cpu_count() or 1, tell=printed)


def api_key() -> str | None:
    """The key from the environment, or from a file that it names. Raises `UsageError` where that can't be read."""
    try:
        return next((key for name in KEY_VARIABLES if (key := read_secret(name, os.environ))), None)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _key_for(job: Job) -> str:
    key = api_key()
    if key is None and job.service == "anchor":
        raise UsageError(
            f"Anchor's cloud wants a key: put yours into {KEY_VARIABLES[0]} in the environment, "
            f"or into a file that {KEY_VARIABLES[0]}_FILE names"
        )
    return key or ""


def _tasks_for(job: Job) -> tuple[Tasks, Task]:
    """All tasks of the embedded service, and the one that the job names."""
    from batch_runner.service.local.tasks import load_tasks

    tasks = load_tasks(job.task, files=job.files_path)
    task = tasks.find(job.task)
    if task is None:
        names = sorted(name for name in tasks.by_id if name.startswith(f"{job.task}:"))
        raise UsageError(f"{job.task} is a file of tasks; name one of them: {', '.join(names) or 'it has none'}")
    return tasks, task


def inputs_of(task: str, files: Path) -> TaskInputs | None:
    """What a task of the embedded service takes, the built-in one's own included; None where it doesn't say.

    Its file is read anew: somebody who looks at a page may have edited it. Raises `UsageError` for no such task.
    """
    from batch_runner.service.local.context import signature_of
    from batch_runner.service.local.tasks import forget_files, load_tasks

    forget_files()
    found = load_tasks(task, files=files).find(task)
    signature = signature_of(found.source.load()) if found else None
    return signature.inputs if signature else None


def tasks_in(folder: Path) -> list[str]:
    """See `own_tasks`."""
    from batch_runner.service.local.tasks import own_tasks

    return own_tasks(folder)


def task_from_journal(job: Job) -> str:
    """The task as the journal knows it: a file of tasks by its way from the journal, from wherever it is called."""
    file, colon, function = job.task.rpartition(".py:")
    if not colon:
        return job.task
    return way_to(Path(file), job.journal_path.parent) + colon + function


def purpose_of(job: Job) -> Purpose:
    """What the job's journal is for."""
    return Purpose.of(job.task, service_name(job), Path.cwd())
