"""The Dask worker's side, and the scheduler's record of what was begun.

Dask runs a task again when its worker is lost, whether it had begun or not, and also when only its result is lost.
So a worker asks the record before it begins, and what was begun is not begun again by Dask: its client learns what
became of it. A worker that is closed in order (retired, scaled away, SIGTERM) lets its runs end first, and leaves their
results, which Dask takes no more, in the record. Short answers go to the client at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import pickle
import shutil
import signal
import threading
import time
import uuid
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec
from distributed import Reschedule, get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin
from distributed.utils import sync

from batch_runner._version import __version__
from batch_runner.service.local import result
from batch_runner.service.local.context import Line
from batch_runner.service.local.dask.bundle import (
    ANSWERS,
    BEGUN_BEFORE,
    LEFT,
    SESSION,
    SHORT,
    Bundle,
    Done,
    Enough,
    Unpacking,
)
from batch_runner.service.local.process_pool import WORKER_MEMORY, InWorkers

if TYPE_CHECKING:
    from types import FrameType

    from distributed import Nanny, Scheduler, Worker
    from distributed.scheduler import WorkerState


SILENCE = 60.0
"""Seconds after which a worker that is closing, and says nothing of what is at work there, is taken for lost."""

STILL_AT_WORK = 1.0
"""Seconds between two signs of life of a worker that is closing."""

TELL_WITHIN = 10.0
"""Seconds in which the scheduler hears of a worker that is closing, or is taken for gone: nothing is to end then."""

MOST_RUNS = 100_000
"""So many begun runs are remembered at most, some ten megabytes; of a session all of them, or none."""

MOST_SESSIONS = 1_000


class _Session:
    """The runs of one client that were begun."""

    def __init__(self, client: str) -> None:
        self.client, self.begun = client, set[str]()


class AttemptCounter(SchedulerPlugin):
    """The record of what was begun. One for all programs on the cluster; its methods are the scheduler's handlers.

    A bundle is known until the scheduler forgets its task. A run that may not be repeated is known longer: the program
    that started it may be killed, and the next one asks whether it had begun.
    """

    name = "batch_runner-claims"
    idempotent = True

    def __init__(self) -> None:
        self._claimed: dict[str, Counter[int]] = {}
        self._withdrawn: set[str] = set()
        self._answers: dict[str, bytes] = {}
        self._heard_at: dict[str, float] = {}
        self._sessions: dict[str, _Session] = {}
        self._runs = 0

    async def start(self, scheduler: Scheduler) -> None:
        """Be asked from now on. It awaits nothing, so two that are registered at once can't both be in force."""
        self._scheduler = scheduler
        self._news = asyncio.Event()
        told = (self.keep_up, self.keep_answer, self.answer)
        asked = (self.claim, self.decline, self.withdraw, self.open_session, self.never_began)
        for handler in (*told, *asked):
            scheduler.handlers[f"batch_runner_{handler.__name__}"] = handler
        scheduler.stream_handlers["batch_runner_tell"] = self.tell

    @property
    def number(self) -> int:
        """How many bundles are known."""
        return len(self._claimed)

    def claim(self, key: str, place: int = 0, run: str = "") -> int:
        """How often a bundle, or the `run` that is at this place of it, was begun before; 0: it is about to begin.

        One that nobody waits for any more doesn't begin either: Dask may keep a task whose client is gone.
        """
        session = self._sessions.get(run[SESSION])
        is_wanted = session is None or session.client in self._scheduler.clients
        if not is_wanted or key not in self._scheduler.tasks or key in self._withdrawn:
            return 1
        places = self._claimed.setdefault(key, Counter())
        before, places[place] = places[place], places[place] + 1
        if session is not None:
            before += run in session.begun
            self._runs += run not in session.begun
            session.begun.add(run)
            self._make_room()
        return before

    def decline(self, key: str, place: int, run: str = "") -> None:
        """What was claimed just now was not begun after all, and isn't in this bundle."""
        del self._claimed[key][place]
        self._withdrawn.add(key)
        session = self._sessions.get(run[SESSION])
        if session is not None and run in session.begun:
            session.begun.remove(run)
            self._runs -= 1

    def withdraw(self, bundles: dict[str, list[str]]) -> dict[str, int]:
        """How many errands of each bundle, with these runs, have begun: its first ones. No other will.

        Nothing is said of one whose task is not here, unless the sessions of all its runs are known.
        """
        begun = dict[str, int]()
        for key, runs in bundles.items():
            if key in self._scheduler.tasks:
                begun[key] = len(self._claimed.get(key, ()))
            elif all(run[SESSION] in self._sessions for run in runs):
                begun[key] = sum(run in self._sessions[run[SESSION]].begun for run in runs)
        self._withdrawn.update(begun)
        return begun

    def keep_up(self, keys: list[str]) -> list[str]:
        """The worker of these bundles is closing, and still at work; gives those that nobody waits for any more."""
        self._heard_at.update(dict.fromkeys(keys, time.monotonic()))
        return [key for key in keys if key not in self._claimed]

    def keep_answer(self, key: str, answer: bytes, *, is_whole: bool) -> None:
        """What came of a bundle on a worker that is closing; where it is all of it, nobody has to look for the rest."""
        if key in self._claimed:
            if is_whole:
                self.tell("", key, answer)
            self._answers[key] = answer
            self._news.set()
            self._news = asyncio.Event()

    def tell(self, worker: str, key: str, answer: bytes) -> None:  # noqa: ARG002  as Dask calls it
        """A worker tells what came of a bundle, and whoever waits for that hears it at once. Nothing is kept of it."""
        if (task := self._scheduler.tasks.get(key)) and task.who_wants:
            event = {"op": "event", "topic": ANSWERS, "event": (time.time(), (key, answer))}
            self._scheduler.send_all({client.client_key: [event] for client in task.who_wants}, {})

    async def answer(self, key: str) -> bytes:
        """What came of a bundle that was begun, once its worker has told; nothing if that is gone without a word."""
        while key not in self._answers:
            if time.monotonic() - self._heard_at.get(key, -SILENCE) >= SILENCE:
                return b"[]"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STILL_AT_WORK):
                    await self._news.wait()
        return self._answers[key]

    def open_session(self, session: str, client: str, new: str) -> str:
        """A client goes on with its session, or with a new one: of the runs that are begun all are known, or none."""
        name = session if session in self._sessions else new
        self._sessions.setdefault(name, _Session(client)).client = client
        self._make_room()
        return name

    def never_began(self, run: str) -> bool:
        """Whether a run of an earlier session has surely not begun. With its client its task is gone: it never will."""
        session = self._sessions.get(run[SESSION])
        return session is not None and session.client not in self._scheduler.clients and run not in session.begun

    def _make_room(self) -> None:
        while self._runs > MOST_RUNS or len(self._sessions) > MOST_SESSIONS:
            self._runs -= len(self._sessions.pop(next(iter(self._sessions))).begun)

    def valid_workers_downscaling(self, scheduler: Scheduler, workers: list[WorkerState]) -> list[WorkerState]:  # noqa: ARG002
        """Called by Dask's adaptive scaling: a worker that is at work for us isn't one to close."""
        return [worker for worker in workers if not any(task.key in self._claimed for task in worker.processing)]

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by Dask: a worker begins to close in order, and what is at work there is about to end."""
        worker = self._scheduler.workers.get(topic)
        if worker is not None and isinstance(msg, dict) and str(msg.get("status")).startswith("closing"):
            self.keep_up([str(task.key) for task in worker.processing if task.key in self._claimed])

    def transition(self, key: Any, start: Any, finish: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002  as Dask calls it
        """Forget a bundle with its task: keys are never used again."""
        if finish == "forgotten":
            self._withdrawn.discard(key)
            if self._claimed.pop(key, None) is not None:
                self._answers.pop(key, None)
                self._heard_at.pop(key, None)


NAME = "batch_runner"

MOST_LINES = 1_000
"""Lines of what a bundle's tasks logged that are carried home: the last ones."""

IDLE_SECONDS = 60.0
"""How long worker processes wait for the next bundle until they are ended."""

CLOSING = (Status.closing, Status.closed, Status.failed)


def work(version: str, key: str, bundle: bytes) -> bytes:
    """Run a Bundle on this worker; gives Dones as JSON, one for each errand that was begun.

    It waits in one of the worker's threads; the worker's processes do the work. A bundle of another version is
    declined: only its `key` can be read here.
    """
    worker = get_worker()
    return sync(worker.loop, _work, worker, version, key, bundle)


async def _work(worker: Worker, version: str, key: str, bundle: bytes) -> bytes:
    if worker.status in CLOSING:  # the plugin is gone by now, or about to be
        raise Reschedule
    if NAME not in worker.plugins:
        await worker.plugin_add(WorkerSeat(), NAME, catch_errors=False)
    seat = cast("WorkerSeat", worker.plugins[NAME])
    if version != __version__:
        return msgspec.json.encode([await seat.decline(version, key)])
    return await seat.work(msgspec.msgpack.decode(bundle, type=Bundle))


def _memory_of(worker: Worker) -> int:
    """Bytes that a task's process may have: its share of what this worker was given, which Dask doesn't watch there."""
    given = worker.memory_manager.memory_limit
    return min(WORKER_MEMORY, given // worker.state.nthreads) if given else WORKER_MEMORY


class NannySeat(NannyPlugin):
    """Our place beside a worker's nanny, which SIGTERM reaches, and which would kill the worker soon after."""

    name = NAME

    async def teardown(self, nanny: Nanny) -> None:
        """Called by Dask when the nanny closes: the worker first lets end what is at work there."""
        process = nanny.process
        if process is None or nanny.worker_address is None:
            return
        with contextlib.suppress(OSError):  # the worker is gone
            async with nanny.rpc(nanny.worker_address) as worker:
                if await worker.batch_runner_retire():
                    await process.stopped.wait()


class WorkerSeat(WorkerPlugin):
    """Our place on one Dask worker: its worker processes, the bundles that are at work, and a folder."""

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the plugin is added; it must not fail, and what may is done when it is needed."""
        self._worker = worker
        self._executor = InWorkers(worker.state.nthreads, memory=_memory_of(worker), level=logging.INFO)
        self._going: dict[str, anyio.CancelScope] = {}
        self._ended: dict[str, dict[str, Any]] = {}
        self._rest: asyncio.TimerHandle | None = None
        self._resting: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._folder = Path(worker.local_directory, f"batch_runner-{uuid.uuid4().hex}")
        self._is_closing = False
        self._knows_claims = False
        worker.handlers["batch_runner_retire"] = self.retire
        self._is_in_charge = threading.current_thread() is threading.main_thread()
        if self._is_in_charge:
            self._before = signal.signal(signal.SIGTERM, self._hear)

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002  as Dask calls it
        """Called by Dask when the worker closes: what is at work ends within its time, and nothing is left running."""
        self._is_closing = True
        try:
            await self._let_end()
        except OSError:  # the scheduler is gone, so nobody could hear how it ends
            for scope in self._going.values():
                scope.cancel()
        if self._rest is not None:
            self._rest.cancel()
        await self._executor.aclose()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._is_in_charge and signal.getsignal(signal.SIGTERM) == self._hear:
            signal.signal(signal.SIGTERM, self._before)

    async def _let_end(self) -> None:
        """Tell the scheduler what has ended here, and that the rest is at work, until it has ended, too."""
        for key, ended in list(self._ended.items()):
            async with asyncio.timeout(TELL_WITHIN):
                await self._record.batch_runner_keep_answer(key=key, **ended)
        said_at = -STILL_AT_WORK
        while self._going:
            if time.monotonic() - said_at >= STILL_AT_WORK:
                async with asyncio.timeout(TELL_WITHIN):
                    unwanted = await self._record.batch_runner_keep_up(keys=list(self._going))
                for key in unwanted:
                    if key in self._going:
                        self._going[key].cancel()
                said_at = time.monotonic()
            await asyncio.sleep(0.02)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: what is at work ends first. A second one is Dask's own, at once."""
        if self._going and self._retiring is None:
            self._worker.loop.add_callback_from_signal(self.retire)
        elif callable(self._before):
            self._before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def retire(self) -> bool:
        """Leave the cluster in order, if anything is at work here; whether there is."""
        if self._going and self._retiring is None:
            self._retiring = asyncio.ensure_future(self._leave())
        return self._retiring is not None

    async def _leave(self) -> None:
        """As the scheduler retires a worker; one that has what no other can take is closed all the same."""
        with contextlib.suppress(OSError):  # a timeout is one
            async with asyncio.timeout(TELL_WITHIN):
                await self._record.retire_workers(workers=[self._worker.address], close_workers=True, remove=True)
        await self._worker.close(reason="batch_runner-retire")

    @property
    def _record(self) -> Any:
        """The scheduler, and in it the record of what was begun."""
        return self._worker.scheduler

    def transition(self, key: Any, start: Any, finish: Any, **_: Any) -> None:
        """Called by Dask for each change of a task: one that is released at work is wanted by nobody any more."""
        if start == "memory" or finish == "forgotten":
            self._ended.pop(key, None)
        answer = self._ended[key]["answer"] if finish == "memory" and key in self._ended else None
        if answer and len(answer) <= SHORT and not self._is_closing:
            # In the message in which Dask says that the thread is free: the next row is to find it so.
            self._worker.batched_send({"op": "batch_runner_tell", "key": key, "answer": answer})
        if start == "executing" and finish == "released" and key in self._going and self._worker.status not in CLOSING:
            self._going[key].cancel()

    async def work(self, bundle: Bundle) -> bytes:
        """See the function of this name. Of a cancelled bundle nothing goes on, and nobody reads what it gives."""
        with anyio.CancelScope() as scope:
            self._going[bundle.key] = scope
            try:
                done = await self._done(bundle)
                answer = msgspec.json.encode(done)
                is_whole = len(done) == len(bundle.errands) and not any(each.begun_before for each in done)
                self._ended[bundle.key] = ended = {"answer": answer, "is_whole": is_whole}
                if self._is_closing:
                    await self._record.batch_runner_keep_answer(key=bundle.key, **ended)
                return answer
            finally:
                del self._going[bundle.key]
                if self._rest is not None:
                    self._rest.cancel()
                self._rest = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest_now)
        return b"[]"

    async def decline(self, version: str, key: str) -> Done:
        """What is said of a bundle that was sent by another version."""
        why = f"The Dask worker {self._worker.address} has batch_runner {__version__}, and {version} has sent this"
        before = await self._claim(key)
        return Done(result.failure(why), 0.0, begun_before=before, declined_by=self._worker.address)

    async def _done(self, bundle: Bundle) -> list[Done]:
        """What came of the errands of a bundle; those behind the last one that has begun are left.

        Two workers may have the same bundle, where the scheduler has given up one of them. The one that finds errands
        begun at first goes past them. The other one stops there, and what is left is not for it to say.
        """
        done, lines = list[Done](), deque[Line](maxlen=MOST_LINES)
        enough = Enough(bundle)
        for place, errand in enumerate(bundle.errands):
            run = "" if bundle.is_repeatable else errand.call.context.run_id
            must_claim = not (done and bundle.is_repeatable)
            if must_claim and (before := await self._claim(bundle.key, place, run)):
                if done and not done[-1].begun_before:
                    return done
                done.append(msgspec.structs.replace(BEGUN_BEFORE, begun_before=before))
                if bundle.is_repeatable:
                    return done
                continue
            began = time.monotonic()
            runs = functools.partial(self._executor.run, hear=lines.append)
            ending = await self._unpacking.run(errand, bundle.code, runs)
            if ending.cant_load:
                if must_claim:
                    await self._record.batch_runner_decline(key=bundle.key, place=place, run=run)
                if not done:
                    return [Done(ending, 0.0, declined_by=self._worker.address)]
                break
            done.append(Done(ending, time.monotonic() - began))
            if ending.is_last or ending.cut_off or self._is_leaving or enough.is_reached(ending):
                break
        done[-1] = msgspec.structs.replace(done[-1], lines=tuple(lines))
        return [*done, *await self._left(bundle, len(done))]

    async def _left(self, bundle: Bundle, number: int) -> list[Done]:
        """What is said of the errands behind the first ones: they have not begun, and never will in this bundle."""
        others = len(bundle.errands) - number
        if others and not bundle.is_repeatable:
            begun = await self._record.batch_runner_withdraw(bundles={bundle.key: bundle.runs})
            others = others if begun.get(bundle.key) == number else 0
        return [LEFT] * others

    @property
    def _is_leaving(self) -> bool:
        """Whether nothing is to begin here any more."""
        return self._is_closing or self._retiring is not None

    @functools.cached_property
    def _unpacking(self) -> Unpacking:
        return Unpacking(self._folder, self._worker.address)

    async def _claim(self, key: str, place: int = 0, run: str = "") -> int:
        """How often what is about to begin was begun before, anywhere on this cluster."""
        if not self._knows_claims:
            plugin = pickle.dumps(AttemptCounter())
            await self._record.register_scheduler_plugin(plugin=plugin, name=AttemptCounter.name, idempotent=True)
            beside: Any = self._worker.nanny  # its address, whatever Dask's annotation says
            if beside is not None:
                async with self._worker.rpc(beside) as nanny:
                    await nanny.plugin_add(plugin=pickle.dumps(NannySeat()), name=NAME)
            self._knows_claims = True
        return int(await self._record.batch_runner_claim(key=key, place=place, run=run))

    def _rest_now(self) -> None:
        if not self._going:
            self._resting = asyncio.create_task(self._executor.aclose())
