"""The way to the scheduler: found, checked, kept, and found again."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio

from batch_runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client, LocalCluster


LOCAL = "local"
"""The address that stands for a cluster of our own, in this process and its children."""

UNDISTURBED = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""What the workers of that cluster run first, as text. Ctrl-C reaches every process of the terminal's foreground.

What becomes of runs then is decided by the program, which ends its cluster when they have had their time."""

FOUND_WITHIN = 8.0
"""Seconds within which a scheduler has to answer at first."""

_LOOK = 1.0
"""Seconds between two looks at the workers and at the connection."""

_SAME = {"batch-runner": 3, "distributed": 3, "msgpack": 1, "python": 2}
"""What has to be the same on all machines: in so many of the numbers of its version."""


class Connection:
    """A client of a Dask scheduler that is there again when the scheduler is. Needs asyncio."""

    def __init__(self, address: str, workers: int | None = None) -> None:
        self._address = address
        self._workers = workers
        self._client: Client | None = None
        self._cluster: LocalCluster | None = None
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
            versions: Any = self._client.get_versions(packages=["batch-runner"])  # a coroutine, as the client is async
            difference = difference_of(await versions)
            threads = await self._threads()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(
                f"There is no Dask scheduler at {self._address} ({reason}); start one with `dask scheduler`, "
                "or correct the address of --dask."
            ) from error
        if difference is not None:
            raise UsageError(f"The Dask cluster at {self._address} has other versions than this program: {difference}.")
        return threads

    async def watch(self, changed: Callable[[int | None], object]) -> None:
        """Keep the connection, and tell the number of the workers' threads now and then, for ever: None while the
        scheduler is away."""
        while True:
            await anyio.sleep(_LOOK)
            changed(await self._look())

    async def _look(self) -> int | None:
        assert self._client is not None
        try:
            if self._client.status == "closed":  # Dask's own client has given up looking
                self._client = await _connect(self._address)
            return await self._threads() if self._is_there else None
        except OSError:
            return None

    @property
    def _is_there(self) -> bool:
        return self._client is not None and self._client.status == "running"

    @property
    def trouble(self) -> str | None:
        """A sentence while the scheduler is away."""
        if self._is_there:
            return None
        return f"The Dask scheduler at {self._address} is away; it is looked for."

    def avoid(self, worker: str) -> bool:
        """From now on, send nothing to the worker of this address; whether that is new."""
        is_new = worker not in self._avoided
        self._avoided.add(worker)
        return is_new

    async def ready(self) -> tuple[Client, list[str] | None]:
        """The client, once it is connected, and the workers to send to: None for any.

        Whoever waits for it is to be cancelled when that lasts too long.
        """
        while not self._is_there or (self._avoided and not self._right):
            await anyio.sleep(0.05)
        assert self._client is not None
        return self._client, self._right if self._avoided else None

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


def difference_of(versions: Mapping[str, Any]) -> str | None:
    """What is not the same everywhere, machine by machine; from `Client.get_versions`."""
    ours = versions["client"]["packages"]
    others = {"the scheduler": versions["scheduler"], **{f"worker {k}": v for k, v in versions["workers"].items()}}
    found = [
        f"{machine} has {package} {there or 'not at all'}, here it is {ours[package]}"
        for machine, told in others.items()
        for package, numbers in _SAME.items()
        if _first(there := told["packages"].get(package), numbers) != _first(ours[package], numbers)
    ]
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more if found else None


def _first(version: str | None, numbers: int) -> list[str]:
    return (version or "").split(".")[:numbers]


async def _connect(address: str) -> Client:
    from distributed import Client

    options = {"asynchronous": True, "set_as_default": False, "name": "batch_runner"}
    client: Client = await Client(address, timeout=FOUND_WITHIN, **options)
    return client


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
