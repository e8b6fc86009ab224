"""The fixtures that several test files ask for; and what stands in `support/`, whose files are no tests.

Sheets
csvfiles.py             text files, opened and written back
workbooks.py            workbooks to read: sheets of raw XML, strings, formats
packages.py             workbooks to write back: whole packages with tables, names, pivots
spliced_workbook.py     one of these with four columns appended, checked from all sides

Services
remembering_service.py  one on a real socket that knows what really happened
faulty_service.py       one with every fault there is, in a process of its own
faulty_night.py         a night of the program against it, checked row by row
scripted_server.py      one that does to each connection what a script says
cutting_proxy.py        a proxy that cuts connections
certificates.py         certificates for servers
dask_cluster.py         a scheduler and workers in processes of their own, to be killed
over_httpx.py           a transport of httpx as the client's own, so that no socket is needed
executing.py            executors of each kind, and calls for them
contract.py             a client that holds requests and answers to the API's schemas
tasks_api_schema.json   these schemas
own_tasks.py            tasks of a user's own, for the embedded service
invoice_fields.psv      what `extract_fields` finds in each sample
thirds.py               a service of a user's own, behind the three verbs
drawn_invoices.py       invoices drawn from texts and their places, and their fields
measure_invoices.py     the task `invoice` measured over public collections, outside the gate
one_start.py            one start by an impatient client
ports.py                ports on which nobody listens
ping_server.py          one that notes the pings and messages that it gets

Virtual time
nights.py               a whole night: batch, client, embedded service
plans.py                a plan's limits put before that service
limited_service.py      a service with limits, met by `Limits` alone
poll_simulation.py      runs and a policy that says whom to poll

The real program, journals and disks
program.py              the program in this process, or in one of its own
served.py               `serve` in such a process, and what is asked of it
paged.py                the same for `open`
screens.py              every screen of the local page, each in the state that it is named after
browsing.py             a real browser, a person's hand and keys, and what axe finds
recorder.py             what it does to files, in order; faults of its calls
as_windows.py           it as if this were Windows, as far as that goes elsewhere
killing.py              the program killed at a chosen moment
kept_promises.py        what must hold of a batch that was killed
journals.py             a batch's description, rows, and what stands in a journal
claims.py               nights whose rows make claims to be unique
counted_nights.py       nights of the program over sheets in a folder; the starts are counted at the service
journal_v1.sql          the tables of a journal of version 1
journal_v2.sql          those of version 2
journal_v3.sql          those of version 3
journal_child.py        a batch that writes a journal until it is killed
disks.py                small disks
systems.py              what a test needs of the system that it runs on
"""

from __future__ import annotations

import compileall
import os
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from disks import mounted
from hypothesis import HealthCheck, settings
from systems import reset_zone, set_zone

import batch_runner
from batch_runner.batch import poll_schedule
from batch_runner.journal.index import STATE_VARIABLE
from batch_runner.log import LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from counted_nights import Scene
    from dask_cluster import DaskCluster
    from remembering_service import Service

settings.register_profile("explore", max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("gate", settings.get_profile("explore"), derandomize=True, max_examples=25)
settings.load_profile("gate")
"""The gate fails for what was changed only: not for a new example, nor for one that takes long on a busy machine.

`--hypothesis-profile explore` looks for new examples, and for more of them.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once, not in each of the hundreds of processes, where bytecode isn't written by itself.

    What is made before a test, for many, has a state folder of its own, too.
    """
    os.environ[STATE_VARIABLE] = str(Path(tempfile.gettempdir()) / f"batch-runner-tests-{os.getpid()}")
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(batch_runner.__file__).parent, quiet=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests first, so that no worker is busy alone with these at the end."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the real program; files that test on another, or on two, have a fixture of their own."""
    return "asyncio"


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the index of another's journals, nor that of this machine's user."""
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path_factory.getbasetemp() / f"state-{next(_STATES)}"))


_STATES = count(1)

KILLS = int(os.environ.get("KILLS", "1"))
"""How often each scene is played with kills; each time they are drawn anew."""
LONG = ["quiet", *(f"killed-{nth}" for nth in range(1, KILLS + 1))]


@pytest.fixture(params=["told", *(pytest.param(mode, marks=pytest.mark.long) for mode in LONG)])
def play(request: pytest.FixtureRequest, tmp_path: Path, impatient: None) -> Callable[[Service], Scene]:
    """A scene at a service of the test's own: as told, with `--quiet`, and killed with SIGKILL at drawn instants."""
    from counted_nights import Scene

    return lambda service: Scene(tmp_path / "work", service, str(request.param), request.node.name)


@pytest.fixture
def scene(play: Callable[[Service], Scene]) -> Iterator[Scene]:
    """A scene at a service where every run succeeds."""
    from remembering_service import Service, on_a_socket

    with on_a_socket(Service(looks=1)) as service:
        yield play(service)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """No test's log hears of another's events, nor is it silent because another's was: whatever order they run in."""
    handlers, level, propagate = LOG.handlers[:], LOG.level, LOG.propagate
    yield
    for handler in LOG.handlers[:]:
        if handler not in handlers:
            LOG.removeHandler(handler)
            handler.close()
    LOG.setLevel(level)
    LOG.propagate = propagate


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at runs every few milliseconds: those of the tests' services end at once."""
    for name, value in (("SHORTEST", 0.002), ("LONGEST", 0.005), ("SHARE", 0.0)):
        monkeypatch.setattr(poll_schedule, name, value)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A Dask cluster of two workers for all tests that harm none of its processes."""
    from dask_cluster import DaskCluster

    with DaskCluster(tmp_path_factory.mktemp("cluster")) as started:
        started.add_workers(2)
        yield started


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A cluster without workers, for this test alone."""
    from dask_cluster import DaskCluster

    folder = tmp_path / "dask"
    folder.mkdir()
    with DaskCluster(folder) as started:
        yield started


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets this process's time zone, and puts it back."""
    yield lambda name: set_zone(name, monkeypatch)
    monkeypatch.undo()
    reset_zone()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a disk of 2 MiB."""
    with mounted(tmp_path / "disk", "2m") as folder:
        yield folder
