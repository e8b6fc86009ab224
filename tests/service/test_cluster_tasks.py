"""What reaches a Dask worker: the task's own file, and the files of a row; and what is said of what isn't there."""

from __future__ import annotations

import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec
import pytest
from anyio.abc import SocketAttribute
from contract import until
from distributed import Client, Scheduler, Worker
from executing import all_ended, call, is_alive, on_cluster

from batch_runner.errors import UsageError
from batch_runner.service.local.dask import bundle, connection, worker_plugin
from batch_runner.service.local.dask import cluster as executor_module
from batch_runner.service.local.dask.bundle import code_of
from batch_runner.service.local.dask.connection import differences_of
from batch_runner.service.local.dask.worker_plugin import AttemptCounter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream
    from dask_cluster import DaskCluster

    from batch_runner.service.local.dask.cluster import OnCluster
    from batch_runner.service.local.result import RunEnd

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)
pytestmark = [pytest.mark.anyio, pytest.mark.long]


HOST = "127.0.0.1"
FREE = "127.0.0.1:0"


def result_of(ending: RunEnd) -> Any:
    assert ending.status == "success", ending.error
    return msgspec.json.decode(bytes(ending.result))


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return str(path)


async def test_a_task_file_is_sent(cluster: DaskCluster, tmp_path: Path) -> None:
    """Its text is what it was when it was first needed; two files of one name, and a changed one, are told apart."""
    one = written(tmp_path / "one" / "task.py", "def f(params): return 1")
    two = written(tmp_path / "two" / "task.py", "def f(params): return 2")
    async with on_cluster(cluster.address) as executor:
        assert [result_of(await executor.run(call("f", file=file))) for file in (one, two, one)] == [1, 2, 1]
        written(tmp_path / "one" / "task.py", "def f(params): return 3")
        assert result_of(await executor.run(call("f", file=one))) == 1
    async with on_cluster(cluster.address) as executor:
        assert result_of(await executor.run(call("f", file=one))) == 3
        (tmp_path / "one" / "task.py").unlink()
        assert result_of(await executor.run(call("f", file=one))) == 3


async def test_files_beside_the_tasks_go_along_as_it_imports_them(cluster: DaskCluster, tmp_path: Path) -> None:
    """Modules and packages, however far, and no other file; a changed one isn't taken for the one of before."""
    file = written(tmp_path / "task.py", "import beside_42\ndef f(params): return beside_42.value")
    written(tmp_path / "other.py", "this is no Python")
    written(tmp_path / "beside_42.py", "from package_42.deep import value")
    written(tmp_path / "package_42" / "__init__.py", "")
    for value in (1, 2):
        written(tmp_path / "package_42" / "deep.py", f"value = {value}")
        assert [*code_of(file)] == ["beside_42.py", "package_42/__init__.py", "package_42/deep.py", "task.py"]
        async with on_cluster(cluster.address) as executor:
            assert result_of(await executor.run(call("f", file=file))) == value


@pytest.mark.parametrize("is_there_at_first", [True, False])
async def test_a_worker_that_lacks_the_program_is_not_harmed(
    own_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there_at_first: bool
) -> None:
    """It may do other people's work; what goes there declines, and the calls go to another."""
    lacking = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "batch_runner":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""
    own_cluster.add_workers(1)
    file = written(tmp_path / "task.py", "import time\ndef f(params): time.sleep(0.1)")
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(written(tmp_path / "bare" / "sitecustomize.py", lacking)).parent))
        bare = own_cluster.add_workers(1) if is_there_at_first else []
        async with on_cluster(own_cluster.address) as executor:
            bare = bare or own_cluster.add_workers(1)
            endings = await all_ended(executor, [call("f", file=file) for _ in range(12)])
    assert {ending.status for ending in endings} == {"success"}
    assert bare[0].poll() is None


async def test_a_worker_that_can_not_import_the_task_declines(
    own_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is installed on one machine only runs there; the other one is named once, and fails no row."""
    file = written(tmp_path / "task.py", "import installed_42, time\ndef f(params): time.sleep(0.1)")
    own_cluster.add_workers(1)
    monkeypatch.setenv("PYTHONPATH", str(Path(written(tmp_path / "packages" / "installed_42.py", "")).parent))
    own_cluster.add_workers(1)
    async with on_cluster(own_cluster.address) as executor:
        endings = await all_ended(executor, [call("f", file=file) for _ in range(12)])
    assert {ending.status for ending in endings} == {"success"}
    (told,) = [record.getMessage() for record in caplog.records if "Nothing more is sent" in record.getMessage()]
    assert "No module named 'installed_42' (on the Dask worker tcp://127.0.0.1:" in told


@pytest.mark.parametrize("text", ["import not_there_42\ndef f(params): ...", "def f(params): import not_there_42"])
async def test_a_missing_import_is_a_failure_that_names_it(cluster: DaskCluster, tmp_path: Path, text: str) -> None:
    """With the worker on which it is missing; the file is named by its own path."""
    file = written(tmp_path / "task.py", text)
    async with on_cluster(cluster.address) as executor:
        ending = await executor.run(call("f", file=file))
    assert ending.status == "failure"
    assert "No module named 'not_there_42' (on the Dask worker tcp://127.0.0.1:" in str(ending.error)
    assert "dask-scratch-space" not in str(ending.error)


async def test_files_are_sent_along_if_the_params_name_them(cluster: DaskCluster, tmp_path: Path) -> None:
    """A run has a folder with exactly its own files, at their places; nothing outside --files is ever sent."""
    written(tmp_path / "secret.txt", "not yours")
    for name in ("a.txt", "sub/b ü.txt", "c.txt"):
        written(tmp_path / "files" / name, f"text of {name}")
    written(tmp_path / "files" / "large.txt", "x" * 12_000_000)
    names = {
        "Large": "large.txt",
        "File Name": "a.txt",
        "Also": "sub/b ü.txt",
        "No": "nothing.txt",
        "Out": "../secret.txt",
        "Dir": "sub",
    }
    names["Absolute"] = str(tmp_path / "secret.txt")
    the_call = msgspec.structs.replace(call("files_here", files=str(tmp_path / "files")), params=names)
    async with on_cluster(cluster.address, send_files=True) as executor:
        found = result_of(await executor.run(the_call))
        folder = result_of(await executor.run(msgspec.structs.replace(the_call, source=call("tell_context").source)))
    assert len(found.pop("large.txt")) == 12_000_000
    assert found == {"a.txt": "text of a.txt", "sub/b ü.txt": "text of sub/b ü.txt"}
    assert not str(folder["files"]).startswith(str(tmp_path))


async def test_files_that_are_too_large_are_a_failure(
    cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read or sent."""
    monkeypatch.setattr(bundle, "FILES_LIMIT", 5)
    written(tmp_path / "a.txt", "abcdef")
    async with on_cluster(cluster.address, send_files=True) as executor:
        ending = await executor.run(call("files_here", files=str(tmp_path), name="a.txt"))
    assert ending.status == "failure"
    assert str(ending.error).startswith("The files of this row are 6 bytes, and 5 is the limit of --send-files; share")


async def test_a_folder_that_is_not_shared_is_a_failure_that_says_what_to_do(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    """The worker looks before it begins."""
    async with on_cluster(cluster.address) as executor:
        ending = await executor.run(call("files_here", files=str(tmp_path / "elsewhere")))
    assert ending.status == "failure"
    assert str(ending.error).endswith(
        f"has no folder {tmp_path / 'elsewhere'}; share it with the workers, or say --send-files."
    )


async def test_a_cancelled_call_takes_no_other_with_it(cluster: DaskCluster, tmp_path: Path) -> None:
    """Of short calls that go together in a parcel one hangs and is cancelled: all others end."""
    ended: list[RunEnd] = []
    async with on_cluster(cluster.address) as executor:
        await all_ended(executor, [call("echo", repeatable=True) for _ in range(60)])
        assert executor.places.total_tokens > 2 * executor_module.AT_HAND
        hanging = anyio.CancelScope()

        async def hang() -> None:
            with hanging:
                mark, never = str(tmp_path / "mark"), str(tmp_path / "never")
                slow = call("wait_for", repeatable=True, mark=mark, until=never)
                await executor.run(msgspec.structs.replace(slow, source=call("wait_for").source))

        async def echo(number: int) -> None:
            ended.append(await executor.run(call("echo", repeatable=True, n=str(number))))

        async with anyio.create_task_group() as group:
            group.start_soon(hang)
            for number in range(30):
                group.start_soon(echo, number)
            await until((tmp_path / "mark").exists)
            hanging.cancel()
    assert sorted(int(result_of(ending)["n"]) for ending in ended) == list(range(30))


@asynccontextmanager
async def inside(folder: Path, threads: int = 1) -> AsyncIterator[tuple[Scheduler, OnCluster]]:
    """A scheduler and a worker in this process, so that a test can look into them, and an executor on them."""
    async with (
        Scheduler(host=HOST, port=0, dashboard_address=FREE) as scheduler,
        Worker(scheduler.address, nthreads=threads, local_directory=str(folder), host=HOST, dashboard_address=FREE),
        on_cluster(scheduler.address) as executor,
    ):
        yield scheduler, executor


async def test_a_worker_runs_no_more_at_once_than_it_has_threads(tmp_path: Path) -> None:
    """However many calls wait there, two threads are two worker processes."""
    async with inside(tmp_path, threads=2) as (_, executor):
        endings = await all_ended(executor, [call("pid") for _ in range(12)])
        assert len({result_of(ending) for ending in endings}) <= 2


async def test_whoever_hears_of_an_end_finds_the_thread_free(tmp_path: Path) -> None:
    """The scheduler knows by then that it is, so that it sends the next row there, and not behind another's."""
    async with inside(tmp_path) as (scheduler, executor):
        for _ in range(5):
            assert (await executor.run(call("echo"))).status == "success"
            assert [worker for worker in scheduler.workers.values() if worker.processing] == []


async def test_claims_are_forgotten_with_their_tasks(tmp_path: Path) -> None:
    """What the scheduler remembers of the runs that were begun doesn't grow all night."""
    async with inside(tmp_path) as (scheduler, executor):
        assert (await executor.run(call("echo"))).status == "success"
        claims = cast("AttemptCounter", scheduler.plugins[AttemptCounter.name])
        await until(lambda: claims.number == 0)
        assert claims.claim("a") == 1  # which is no task that anybody waits for


async def test_adaptive_scaling_closes_no_worker_that_is_at_work(tmp_path: Path) -> None:
    """Dask asks which workers may go; one that has begun a run may when that has ended."""
    mark, go = tmp_path / "mark", tmp_path / "go"
    async with inside(tmp_path) as (scheduler, executor):
        async with anyio.create_task_group() as group:
            group.start_soon(executor.run, call("wait_for", mark=str(mark), until=str(go)))
            await until(mark.exists)
            assert scheduler.workers_to_close(n=1) == []
            go.touch()
        await until(lambda: scheduler.workers_to_close(n=1) == [*scheduler.workers])


def test_the_record_of_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a session all runs are known, or none: what isn't known is never said to have not begun."""
    monkeypatch.setattr(worker_plugin, "MOST_RUNS", 3)
    first, second, foreign = ("run_" + letter * 16 + "{}" for letter in "abc")
    record = AttemptCounter()
    record._scheduler = cast(
        "Scheduler", SimpleNamespace(tasks={f"key-{n}" for n in range(9)}, clients={"there", "living"})
    )
    record.open_session("", "there", "a" * 16)
    assert [record.claim(f"key-{number}", run=first.format(number)) for number in range(3)] == [0, 0, 0]
    assert record.claim("key-3", run=first.format(0)) == 1
    record.open_session("a" * 16, "gone", "")
    assert [record.never_began(first.format(number)) for number in (0, 9)] == [False, True]
    record.open_session("", "living", "b" * 16)
    assert record.claim("key-4", run=second.format(0)) == 0
    assert not record.never_began(first.format(9))
    assert not record.never_began(second.format(9))
    assert not record.never_began(foreign.format(0))
    assert record.claim("forgotten", run=second.format(9)) == 1


def test_a_session_goes_on_with_another_client() -> None:
    """While that one is there nothing has surely not begun. One that a scheduler does not know stays unknown there."""
    record = AttemptCounter()
    record._scheduler = cast("Scheduler", SimpleNamespace(tasks={"key"}, clients={"second"}))
    known, lost, new = "a" * 16, "b" * 16, "c" * 16
    assert record.open_session("", "first", known) == known
    assert record.never_began("run_" + known)
    assert record.open_session(known, "second", new) == known
    assert record.open_session(lost, "second", new) == new
    assert not any(record.never_began("run_" + session) for session in (known, lost, new))
    record._scheduler.clients.clear()
    assert [record.never_began("run_" + session) for session in (known, lost, new)] == [True, False, True]


def test_what_never_began_never_will() -> None:
    """A connection that breaks on one side alone leaves its tasks in Dask, also when the program is gone."""
    record = AttemptCounter()
    record._scheduler = cast("Scheduler", SimpleNamespace(tasks={"key"}, clients={"client"}))
    run = f"run_{record.open_session('', 'client', 'a' * 16)}1"
    record._scheduler.clients.clear()
    assert record.never_began(run)
    assert record.claim("key", run=run) == 1
    assert record.never_began(run)


def test_nothing_is_said_of_a_bundle_with_a_run_that_is_older_than_the_record() -> None:
    """It was named when another scheduler was there, so that its beginning is known as long as its task is."""
    record = AttemptCounter()
    record._scheduler = cast("Scheduler", SimpleNamespace(tasks={"key"}, clients={"client"}))
    session = record.open_session("a" * 16, "client", "b" * 16)
    new, old = f"run_{session}1", f"run_{'a' * 16}1"
    assert [record.claim("key", place, run) for place, run in enumerate((new, old))] == [0, 0]
    assert record.withdraw({"key": [new, old]}) == {"key": 2}
    cast("set[str]", record._scheduler.tasks).clear()
    assert record.withdraw({"key": [new, old]}) == record.withdraw({"key": [old, new]}) == {}
    assert record.withdraw({"key": [new]}) == {"key": 1}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("def f(params): return 'x' * 64_000_000", "The task's result is 64000002 bytes of JSON, and 62914560 is"),
        ("def f(params): return {1: {2, 3}, 'x': object}", "The task's result can't be written as JSON, so it"),
    ],
)
async def test_done_work_is_a_success_whatever_it_gives(
    cluster: DaskCluster, tmp_path: Path, text: str, note: str
) -> None:
    """Cut, or as text, with a note: doing it again would do it twice."""
    file = written(tmp_path / "task.py", text)
    async with on_cluster(cluster.address) as executor:
        ending = await executor.run(call("f", file=file))
    assert ending.status == "success"
    assert str(ending.error).startswith(note)
    assert isinstance(msgspec.json.decode(bytes(ending.result)), str)


async def test_a_large_result_arrives_whole(cluster: DaskCluster, tmp_path: Path) -> None:
    """Up to the same limit as here, several at once, also from a worker in a bundle; nothing of it stays there."""
    file = written(tmp_path / "task.py", "def f(params): return params['n'] * 40_000_000")
    async with on_cluster(cluster.address) as executor:
        endings = await all_ended(executor, [call("f", file=file, n=str(n), repeatable=n > 1) for n in range(4)])
        assert [(ending.status, ending.error) for ending in endings] == [("success", None)] * 4
        for n, ending in enumerate(endings):
            assert bytes(ending.result) == b'"%s"' % (b"%d" % n * 40_000_000)
        with Client(cluster.address, set_as_default=False) as client:
            await until(lambda: not any(client.has_what().values()))


async def test_a_cluster_without_workers_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Runs wait for workers that may never come: a person should know."""
    async with Scheduler(host=HOST, port=0, dashboard_address=FREE) as scheduler, on_cluster(scheduler.address):
        assert "the Dask cluster has no workers" in caplog.text


async def test_worker_processes_rest_when_nothing_has_come_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster that others use, too, has none of ours left a minute (here less) after the last run."""
    monkeypatch.setattr(worker_plugin, "IDLE_SECONDS", 0.05)
    async with inside(tmp_path) as (_, executor):
        process = result_of(await executor.run(call("pid")))
        await until(lambda: not is_alive(process))
        assert result_of(await executor.run(call("pid"))) != process


async def test_what_answers_as_no_scheduler_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes the connection and says nothing, and one that speaks another language."""
    monkeypatch.setattr(connection, "FOUND_WITHIN", 0.5)

    async def speak(stream: SocketStream) -> None:
        async with stream:
            await stream.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            await stream.receive()

    with socket.create_server((HOST, 0)) as silent:
        ports = [silent.getsockname()[1]]
        async with await anyio.create_tcp_listener(local_host=HOST) as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, speak)
            ports.append(listener.extra(SocketAttribute.local_port))
            for address in (*(f"tcp://{HOST}:{port}" for port in ports), f"tls://{HOST}:{ports[1]}"):
                with pytest.raises(UsageError, match=f"There is no Dask scheduler at {address} "):
                    async with on_cluster(address):
                        pass
            group.cancel_scope.cancel()


async def test_no_scheduler_at_the_address_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it doesn't take long."""
    monkeypatch.setattr(connection, "FOUND_WITHIN", 0.2)
    with pytest.raises(UsageError, match=r"There is no Dask scheduler at tcp://127\.0\.0\.1:1 "):
        async with on_cluster("tcp://127.0.0.1:1"):
            pass


def versions(**others: str | None) -> dict[str, Any]:
    ours = {"batch-runner": "0.1.0", "distributed": "2026.8.0", "msgpack": "1.2.4", "python": "3.11.7.final.0"}
    there = ours | {name.replace("_", "-"): version for name, version in others.items()}
    return {
        "client": {"packages": ours},
        "scheduler": {"packages": ours},
        "workers": {"tcp://w:1": {"packages": there}},
    }


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({}, None),
        ({"msgpack": "1.1.0", "python": "3.11.2.final.0"}, None),
        ({"python": "3.12.1.final.0"}, "has python 3.12.1.final.0, here it is 3.11.7.final.0"),
        ({"batch_runner": None}, "has batch-runner not at all, here it is 0.1.0"),
        ({"distributed": "2026.7.0"}, "has distributed 2026.7.0, here it is 2026.8.0"),
    ],
)
def test_other_versions_are_one_sentence(others: dict[str, str | None], said: str | None) -> None:
    """It names the machine, the package and both versions; what is compatible is not mentioned."""
    assert differences_of(versions(**others)) == ({} if said is None else {"tcp://w:1": said})


async def test_a_worker_of_another_version_swallows_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that joined later was in no check at the beginning: calls wait for another, and a person is told once."""
    monkeypatch.setattr(executor_module, "__version__", "0.0.9")
    monkeypatch.setattr(executor_module, "NO_WORKERS_FOR", 0.0)
    ended: list[RunEnd] = []

    async def run(executor: OnCluster) -> None:
        ended.append(await executor.run(call("echo")))

    async with inside(tmp_path) as (scheduler, executor), anyio.create_task_group() as group:
        (stranger,) = scheduler.workers
        for _ in range(3):
            group.start_soon(run, executor)
        await until(lambda: executor.trouble is not None)
        assert not ended
        monkeypatch.setattr(worker_plugin, "__version__", "0.0.9")
        options: Any = {"host": HOST, "dashboard_address": FREE, "nthreads": 2}
        async with Worker(scheduler.address, local_directory=str(tmp_path / "right"), **options):
            await until(lambda: len(ended) == 3)
            await until(lambda: executor.trouble is None)
    assert {ending.status for ending in ended} == {"success"}
    declined = [
        record.getMessage() for record in caplog.records if "nothing more is sent" in record.getMessage().lower()
    ]
    assert declined == [
        f"The Dask worker {stranger} has batch_runner 0.1.0, and 0.0.9 has sent this; install the same there. "
        "Nothing more is sent to it"
    ]
