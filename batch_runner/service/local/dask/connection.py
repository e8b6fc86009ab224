"""The way to the scheduler: found, checked, kept, and found again; and whether it can run calls now."""

from __future__ import annotations

import asyncio
import uuid
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

from batch_runner import log
from batch_runner.errors import UsageError
from batch_runner.service.local.dask.bundle import ANSWERS, SENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client, Future, LocalCluster


LOCAL = "local"
"""The address that stands for a cluster of our own, in this process and its children."""

UNDISTURBED = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""What the workers of that cluster run first, as text. Ctrl-C reaches every process of the terminal's foreground.

What becomes of runs then is decided by the program, which ends its cluster when they have had their time."""

FOUND_WITHIN = 6.0
"""Seconds within which a scheduler has to answer at first."""

_NO_SCHEDULER = "what answers there is no scheduler"

_LOOK = 1.0
"""Seconds between two looks at the workers and at the connection."""

STANDS_STILL = 5.0
"""Seconds that a scheduler may take for an answer until it is said that it stands still."""

SEND_AFTER = 0.002
"""Seconds between two messages to the scheduler, at least, as Dask's workers leave. Its client leaves 0.01, so that a
row's start would wait behind the end of the one before it."""

RELEASE_AFTER = 0.02
"""Seconds after which the cluster forgets what has come home. It tells that to the worker, and Dask leaves 0.005 until
it tells it more: the next row's start would wait so long."""

FETCHES = 2
"""So many answers are fetched at once, at most: each passes through the scheduler's memory, and may be large."""

_SAME = {"batch-runner": 3, "distributed": 3, "msgpack": 1, "python": 2}
"""What has to be the same on all machines: in so many of the numbers of its version."""


class Connection:
    """A client of a Dask scheduler that is there again when the scheduler is. Needs asyncio."""

    def __init__(self, address: str, workers: int | None = None) -> None:
        self._address = address
        self._workers = workers
        self._client: Client | None = None
        self._cluster: LocalCluster | None = None
        self.session = ""
        """Begins the names of all runs that go to this scheduler (see AttemptCounter)."""
        self._joined: object = None
        """The connection on which it has heard of us: Dask's own client makes another when that was lost."""
        self._stands_still = False
        self._hindrance: str | None = None
        self._outbox: dict[str, dict[str, Any]] = {}
        self._sent: dict[str, Future[Any]] = {}
        self._told: dict[str, asyncio.Future[bytes]] = {}
        self._fetches = anyio.CapacityLimiter(FETCHES)
        self._there: Mapping[str, int] = {}
        self._avoided: set[str] = set()

    async def open(self) -> int:
        """Connect; gives the number of the workers' threads. Raises UsageError if that is impossible."""
        if find_spec("distributed") is None:
            raise UsageError("--dask needs Dask, which is not installed: pip install distributed")
        _quiet_dask()
        try:
            return await self._find()
        except BaseException:
            await self.aclose()
            raise

    async def _find(self) -> int:
        if self._address == LOCAL:
            self._cluster = await _own_cluster(self._workers)
            self._address = self._cluster.scheduler_address
        try:
            self._client = await _connect(self._address)
            self._there = await self._client.nthreads()
            await self._compare()
            await self._join()
            threads = await self._threads()
        except (OSError, ValueError, TypeError) as error:  # TypeError: `tls://` where Dask has no certificates
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(
                f"There is no Dask scheduler at {self._address} ({reason}); start one with `dask scheduler`, "
                "or correct the address of --dask."
            ) from error
        return threads

    async def _join(self) -> None:
        """Have the record there, and hear of answers. A new record has another session: it knows nothing of before."""
        from batch_runner.service.local.dask.worker_plugin import AttemptCounter

        assert self._client is not None
        joined, client = self._client.scheduler_comm, self._client.id
        await self._client.register_plugin(AttemptCounter())
        self._client.subscribe_topic(ANSWERS, self._hear)
        new = uuid.uuid4().hex[:16]
        self.session = await self._record.batch_runner_open_session(session=self.session, client=client, new=new)
        self._joined = joined

    async def _compare(self) -> None:
        """Avoid workers of other versions. Raises UsageError for such a scheduler, or if no worker is right."""
        assert self._client is not None
        asked: Any = self._client.get_versions(packages=["batch-runner"])  # a coroutine, as the client is async
        others = differences_of(await asked)
        wrong = [worker for worker in self._there if worker in others]
        if SCHEDULER in others or (wrong and len(wrong) == len(self._there)):
            told = [f"{machine} {what}" for machine, what in others.items()]
            more = f", and {len(told) - 3} more" if len(told) > 3 else ""
            why = f"{'; '.join(told[:3])}{more}"
            raise UsageError(f"The Dask cluster at {self._address} has other versions than this program: {why}.")
        for worker in wrong:
            if self.avoid(worker):
                log.warning(f"the Dask worker {worker} {others[worker]}; install the same there. Nothing is sent to it")

    async def watch(self, changed: Callable[[int | None], object]) -> None:
        """Keep the connection, and tell the number of the workers' threads now and then, for ever: None while the
        scheduler is away."""
        while True:
            await anyio.sleep(_LOOK)
            changed(await self._look())

    async def _look(self) -> int | None:
        assert self._client is not None
        self._hindrance = None
        try:
            if self._client.status == "closed":  # Dask's own client has given up looking
                self._client = await _connect(self._address)
            if self._client.status != "running":
                return None
            async with asyncio.timeout(STANDS_STILL):
                if self._client.scheduler_comm is not self._joined:
                    await self._join()
                threads = await self._threads()
        except TimeoutError:
            self._stands_still = True
            return None
        except OSError:
            return None
        except Exception as error:  # noqa: BLE001  what another scheduler there can't do, such as import this program
            self._hindrance = f"can't be used ({' '.join(str(error).split())})"
            return None
        self._stands_still = False
        return threads

    @property
    def _is_there(self) -> bool:
        client = self._client
        is_joined = client is not None and client.status == "running" and client.scheduler_comm is self._joined
        return is_joined and not self._stands_still

    @property
    def trouble(self) -> str | None:
        """A sentence while the scheduler is away."""
        if self._is_there:
            return None
        what = "stands still" if self._stands_still else self._hindrance or "is away; it is looked for"
        return f"The Dask scheduler at {self._address} {what}."

    def avoid(self, worker: str) -> bool:
        """From now on, send nothing to the worker of this address; whether that is new."""
        is_new = worker not in self._avoided
        self._avoided.add(worker)
        return is_new

    def has_no_other(self, worker: str) -> bool:
        """Whether no other worker can run our calls, as was seen a moment ago."""
        return not set(self._right) - {worker}

    async def ready(self) -> Client:
        """The client, once it is connected. Whoever waits for it is to be cancelled when that lasts too long."""
        while not self._is_there or (self._avoided and not self._right):
            await anyio.sleep(0.05)
        assert self._client is not None
        return self._client

    async def back(self) -> None:
        """Wait a moment for a connection that was lost: Dask's own client makes another."""
        with anyio.move_on_after(STANDS_STILL):
            while not self._is_there:
                await anyio.sleep(0.05)

    async def submit(self, key: str, values: dict[str, Any]) -> Future[Any]:
        """Have a worker evaluate `SENT` with these values.

        What is submitted in the same turn of the event loop goes together: each graph costs the scheduler the same.
        """
        self._outbox[key] = values
        try:
            await checkpoint()
            self._send()
            return self._sent.pop(key)
        finally:
            self._outbox.pop(key, None)
            if unwanted := self._sent.pop(key, None):
                unwanted.release()

    def _send(self) -> None:
        if not self._outbox:
            return
        import dask

        assert self._client is not None
        if self._client.scheduler_comm is not None:  # a new one after each outage
            self._client.scheduler_comm.interval = SEND_AFTER
        keys, values = list(self._outbox), list(self._outbox.values())
        where: dict[str, Any] = {"workers": self._right, "allow_other_workers": True} if self._avoided else {}
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
            futures = self._client.map(eval, [SENT] * len(keys), values, key=keys, pure=False, **where)
        self._outbox.clear()
        self._sent.update(zip(keys, futures, strict=True))

    async def result_of(self, future: Future[Any]) -> Any:
        """As `await future`. What is short is told as soon as it is there; of the others few are fetched at once."""
        from distributed import wait

        assert self._client is not None
        key = str(future.key)
        told = self._told[key] = asyncio.get_running_loop().create_future()
        with self._client.as_current():
            waits: Any = wait([future])
        finished = asyncio.ensure_future(waits)
        try:
            await asyncio.wait({told, finished}, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                return told.result()
        finally:
            if not finished.cancel() and not finished.cancelled():
                finished.exception()  # the future says it better
            del self._told[key]
        async with self._fetches:
            return await future

    def release(self, future: Future[Any]) -> None:
        """Have the cluster forget it, a moment later; if it is at work, end it."""
        asyncio.get_running_loop().call_later(RELEASE_AFTER, future.release)

    def _hear(self, event: tuple[float, tuple[str, bytes]]) -> None:
        """A bundle has ended, and this is its answer (see AttemptCounter)."""
        _, (key, answer) = event
        if (told := self._told.get(key)) and not told.done():
            told.set_result(answer)

    async def answer(self, key: str) -> bytes:
        """What came of a bundle that was begun on a worker that is gone, once that is known (see AttemptCounter).

        Nothing where the scheduler, or its record, is gone.
        """
        return await self._asked("answer", None, key=key) or b"[]"

    async def withdraw(self, bundles: dict[str, list[str]]) -> dict[str, int]:
        """How many errands of each bundle have begun: no other will (see AttemptCounter). Not of all can it be told."""
        return await self._asked("withdraw", STANDS_STILL, bundles=bundles) or {}

    async def never_began(self, run: str) -> bool:
        """Whether a run of an earlier program has surely not begun, and never will (see AttemptCounter)."""
        return bool(await self._asked("never_began", STANDS_STILL, run=run))

    async def _asked(self, what: str, within: float | None, **values: object) -> Any:
        """What the record answers; None where there is none, or no answer comes `within` so many seconds."""
        try:
            async with asyncio.timeout(within):
                return await getattr(self._record, f"batch_runner_{what}")(**values)
        except (OSError, RuntimeError):  # a timeout is the first; the other comes of a client that is closed meanwhile
            return None

    @property
    def _record(self) -> Any:
        """The scheduler, and in it the record of what was begun. Raises OSError where it is away."""
        assert self._client is not None
        if self._client.scheduler is None or self._client.status != "running":
            raise ConnectionError(f"The Dask scheduler at {self._address} is away.")
        return self._client.scheduler

    @property
    def _right(self) -> list[str]:
        """Of the workers that were there a moment ago those that can run our calls."""
        return [worker for worker in self._there if worker not in self._avoided]

    async def aclose(self) -> None:
        """Leave the scheduler, which forgets and ends all that we have there; end a cluster of our own."""
        # A client that isn't closed leaves its calls running on the cluster, also when we are being cancelled.
        with anyio.CancelScope(shield=True):
            if self._client is not None:
                await self._client.close()
            if self._cluster is not None:
                closing: Any = self._cluster.close()
                await closing

    async def _threads(self) -> int:
        assert self._client is not None
        self._there = await self._client.nthreads()
        self._avoided.intersection_update(self._there)
        return sum(self._there[worker] for worker in self._right)


SCHEDULER = "the scheduler"


def differences_of(versions: Mapping[str, Any]) -> dict[str, str]:
    """What is not the same there, by machine (a worker's address); from `Client.get_versions`."""
    ours = versions["client"]["packages"]
    others = {SCHEDULER: versions["scheduler"], **versions["workers"]}
    found = {
        machine: [
            f"has {package} {there or 'not at all'}, here it is {ours[package]}"
            for package, numbers in _SAME.items()
            if _first(there := told["packages"].get(package), numbers) != _first(ours[package], numbers)
        ]
        for machine, told in others.items()
    }
    return {machine: " and ".join(what) for machine, what in found.items() if what}


def _first(version: str | None, numbers: int) -> list[str]:
    return (version or "").split(".")[:numbers]


async def _connect(address: str) -> Client:
    """A client of the scheduler. Raises OSError, ValueError or TypeError where none answers within `FOUND_WITHIN`."""
    from distributed import Client

    await _look_who_answers(address)
    options = {"asynchronous": True, "set_as_default": False, "name": "batch_runner"}
    client: Client = await Client(address, timeout=FOUND_WITHIN, **options)
    return client


async def _look_who_answers(address: str) -> None:
    """Raises as `_connect`. Dask's own client waits for ever where something takes the connection and says nothing."""
    from distributed.comm.core import connect
    from distributed.core import send_recv
    from distributed.security import Security

    arguments: dict[str, Any] = Security().get_connection_args("client")
    try:
        async with asyncio.timeout(FOUND_WITHIN):
            comm = await connect(address, timeout=FOUND_WITHIN, **arguments)
            try:
                who = await send_recv(comm, op="identity")
            finally:
                comm.abort()
    except TimeoutError as error:
        raise OSError(f"nothing there answered as a scheduler within {FOUND_WITHIN:.0f} s") from error
    except MemoryError as error:  # another language's first bytes, read as the length of a message
        raise OSError(_NO_SCHEDULER) from error
    if not isinstance(who, dict) or who.get("type") != "Scheduler":
        raise OSError(_NO_SCHEDULER)


async def _own_cluster(workers: int | None) -> LocalCluster:
    from distributed import LocalCluster

    # Dask serves HTTP in any case: on port 8787, or with a warning on another, unless it is told to take any.
    cluster: LocalCluster = await LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        preload=[UNDISTURBED],
        asynchronous=True,
    )
    return cluster


def _quiet_dask() -> None:
    """What Dask has to say is said by us: in a run's error, or in the sentence that ends the program.

    A program that has imported it before has made its own choice.
    """
    import sys

    import dask

    if "distributed" not in sys.modules:
        names = ("distributed", "distributed.client", "distributed.worker", "distributed.nanny")
        dask.config.set({"logging": dict.fromkeys(names, "critical")})
    from distributed.versions import VersionMismatchWarning

    warnings.filterwarnings("ignore", category=VersionMismatchWarning)
