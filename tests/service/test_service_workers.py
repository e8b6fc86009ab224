"""Worker processes: what a task can do to one, and what becomes of the run, of the others and of the processes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from contract import OWN, until
from executing import all_ended, call, is_alive, number_in, workers
from systems import KILL, needs_posix

from batch_runner.service.local.context import Context
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.tasks import Call, TaskSource, load_tasks
from batch_runner.service.protocol import RunRequest, RunSeen, Started, StartRequest

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.service.local.process_pool import InWorkers

pytestmark = [
    pytest.mark.anyio,
]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def pid_of(executor: InWorkers) -> int:
    return int(bytes((await executor.run(call("pid"))).result))


@pytest.mark.long
def test_a_run_cancelled_while_its_worker_starts_forgets_no_process() -> None:
    """Whenever in the first moments that is: asyncio forgot a process whose start was cancelled halfway."""

    async def run_for(seconds: float) -> None:
        async with workers(1) as executor:
            with anyio.move_on_after(seconds):
                await executor.run(call("pid"))

    for moment in range(40):
        anyio.run(run_for, moment / 2000)
        gc.collect()


async def test_closing_ends_the_workers_that_wait(tmp_path: Path) -> None:
    """No process is left behind."""
    async with workers() as executor:
        pid = await pid_of(executor)
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.long
async def test_workers_start_when_needed_and_are_used_again() -> None:
    """One after another, all runs find the same process; at once, each has its own, and never more than fit."""
    async with workers(2) as executor:
        pids = [await pid_of(executor) for _ in range(3)]
        assert len(set(pids)) == 1
        both: list[int] = []

        async def note() -> None:
            both.append(await pid_of(executor))

        async with anyio.create_task_group() as group:
            group.start_soon(note)
            group.start_soon(note)
        assert len(set(both)) == 2


async def test_a_worker_is_replaced_after_so_many_runs() -> None:
    """The same process serves that many runs, and the next run gets another."""
    async with workers(1, runs_per_worker=2) as executor:
        first, second, third = [await pid_of(executor) for _ in range(3)]
    assert first == second != third


def counting(file: Path) -> Call:
    """A short call that leaves a dot in the file each time that it begins."""
    return call("counted", count=str(file), mark=f"{file}.mark", until=os.devnull)


async def all_short(executor: InWorkers) -> None:
    """Let it learn that calls are short, so that more of them are sent ahead."""
    await all_ended(executor, [call("pid") for _ in range(150)])
    assert executor.places.total_tokens > 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("function", "limit", "status"), [("die", 20.0, "failure"), ("sleep", 0.3, "timeout"), ("fail", 20.0, "failure")]
)
async def test_what_was_sent_ahead_of_a_killed_run_is_begun_once(
    tmp_path: Path, function: str, limit: float, status: str
) -> None:
    """The runs that waited at its worker had not begun, and are run by another: each ends, and none twice."""
    files = [tmp_path / str(number) for number in range(12)]
    calls = [counting(file) for file in files]
    calls.insert(5, call(function, limit, seconds="60"))
    async with workers(1) as executor:
        await all_short(executor)
        ended = await all_ended(executor, calls)
    assert [ending.status for ending in ended] == ["success"] * 5 + [status] + ["success"] * 7
    assert not any(ending.cut_off for ending in ended if ending.status == "success")
    assert {file.read_text() for file in files} == {"."}


async def test_a_run_that_is_cancelled_where_others_wait_cuts_off_none_of_them(tmp_path: Path) -> None:
    """The first of its worker's calls is killed, and one that waits is taken back; the others run, each once."""
    files = [tmp_path / str(number) for number in range(6)]
    async with workers(1) as executor:
        await all_short(executor)
        endings: list[str] = []

        async def run(number: int) -> None:
            endings.append((await executor.run(counting(files[number]))).status)

        async with anyio.create_task_group() as group, anyio.create_task_group() as cancelled:
            cancelled.start_soon(executor.run, call("start_program", mark=str(tmp_path / "pid")))
            await until((tmp_path / "pid").exists)
            cancelled.start_soon(executor.run, call("sleep", seconds="60"))
            for number in range(6):
                group.start_soon(run, number)
            await until(lambda: len(executor._workers[0].calls) == 8)
            cancelled.cancel_scope.cancel()
    assert endings == ["success"] * 6
    assert {file.read_text() for file in files} == {"."}


@pytest.mark.long
async def test_slow_calls_are_not_sent_ahead() -> None:
    """What waits at a worker could be at another: of work that takes long nothing waits there."""
    async with workers(2) as executor:
        await all_short(executor)
        await executor.run(call("sleep", seconds="0.2"))
        assert executor.places.total_tokens == 2


async def test_a_worker_that_died_while_it_waited_is_replaced_unnoticed() -> None:
    """The next run has a new process and no error."""
    async with workers(1) as executor:
        pid = await pid_of(executor)
        (waiting,) = executor._workers
        os.kill(pid, KILL)
        await until(lambda: not waiting.takes_calls)
        assert await pid_of(executor) != pid


@needs_posix
async def test_a_greedy_task_is_a_failure() -> None:
    """Above its memory limit the task gets MemoryError."""
    async with workers(1, memory=2 * 1024**3) as executor:
        ending = await executor.run(call("greedy"))
    assert ending.error == "The task needed more memory than a worker process may have."


@needs_posix
@pytest.mark.long
async def test_a_worker_without_memory_is_replaced_before_the_next_run() -> None:
    """A task that leaks used to fail the rows after it, too, for as long as its worker was used."""
    async with workers(1, memory=2 * 1024**3) as executor:
        pid = await pid_of(executor)
        while (ending := await executor.run(call("leak"))).status == "success":
            assert await pid_of(executor) == pid
        assert ending.error == "The task needed more memory than a worker process may have."
        assert (await executor.run(call("leak"))).status == "success"
        assert await pid_of(executor) != pid


@needs_posix
@pytest.mark.long
async def test_what_was_sent_ahead_of_a_run_without_memory_never_began(tmp_path: Path) -> None:
    """It is begun once, elsewhere: the worker ends with the run that had no memory."""
    count, go = tmp_path / "count", tmp_path / "until"
    go.touch()
    counted = call("counted", count=str(count), mark=str(tmp_path / "mark"), until=str(go))
    async with workers(1, memory=2 * 1024**3) as executor:
        await all_short(executor)
        ended = await all_ended(executor, [call("greedy"), counted, call("echo")])
    assert [ending.status for ending in ended] == ["failure", "success", "success"]
    assert count.read_text() == "."


async def test_what_a_task_prints_is_no_message(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to standard error, so neither the protocol nor the summary on standard output is disturbed."""
    async with workers(1) as executor:
        assert (await executor.run(call("echo"))).status == "success"
    out, err = capfd.readouterr()
    assert (out, err) == ("", "a task may print what it likes\n")


async def test_leaving_is_a_failure_of_the_run_not_of_the_worker() -> None:
    """A task that calls `sys.exit` fails, and its process serves the next run."""
    async with workers(1) as executor:
        pid = await pid_of(executor)
        assert (await executor.run(call("leave"))).error == "SystemExit: 3"
        assert await pid_of(executor) == pid


@needs_posix
@pytest.mark.parametrize(("params", "code", "said"), [({}, 0, ""), ({"raise": "no"}, 1, "ValueError: no\n")])
async def test_a_fork_that_comes_back_from_its_task_ends(
    capfd: pytest.CaptureFixture[str], params: dict[str, str], code: int, said: str
) -> None:
    """By returning or raising: it used to wait for calls, as the worker does, and its parent waited for it."""
    async with workers(1) as executor:
        forking = Call(TaskSource("fork", OWN), params, Context("r", "s", "."), 20.0)
        assert [bytes((await executor.run(forking)).result) for _ in range(2)] == [b"%d" % code] * 2
    assert capfd.readouterr().err == said * 2


@needs_posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_signals_are_the_parents_to_answer(tmp_path: Path, name: str) -> None:
    """They reach all processes, but the parent decides what still runs to its end."""
    async with workers(1) as executor, anyio.create_task_group() as group:
        endings: list[str] = []

        async def run() -> None:
            waiting = call("wait_for", mark=str(tmp_path / "pid"), until=str(tmp_path / "go"))
            endings.append((await executor.run(waiting)).status)

        group.start_soon(run)
        pid = await number_in(tmp_path / "pid")
        os.kill(pid, signal.Signals[name])
        await anyio.sleep(0.1)
        (tmp_path / "go").touch()
    assert endings == ["success"]


@needs_posix
async def test_what_a_task_starts_obeys_signals() -> None:
    """Programs and forks of its own, which the task tells to end, do so."""
    async with workers(1) as executor:
        ended = await executor.run(call("end_others"))
    assert (ended.error, bytes(ended.result)) == (None, b"[-15,-15]")


@pytest.mark.long
async def test_a_file_may_hold_tasks_of_both_kinds(tmp_path: Path) -> None:
    """Neither kind waits for the other's places, both have their time limit, and what has begun may end at a stop."""
    async with LocalService(load_tasks(OWN, files=tmp_path), 1, run_timeout=1.5) as service:

        async def start(task: str, seconds: str) -> str:
            answer = await service.start(StartRequest(task, RunRequest(input_params={"seconds": seconds})))
            assert isinstance(answer, Started)
            return answer.run.run_id

        async def ended(run_id: str) -> str:
            seen = await service.look(run_id, 20.0)
            assert isinstance(seen, RunSeen)
            return seen.run.status

        stuck, held_up = await start("sleep", "60"), await start("sleep", "0.2")
        assert await ended(await start("sleep_in_loop", "0.1")) == "success"
        stuck_too = await start("sleep_in_loop", "60")
        assert [await ended(run) for run in (stuck, held_up, stuck_too)] == ["timeout", "success", "timeout"]
        runs = [await start(task, "1") for task in ("sleep", "sleep_in_loop", "sleep")]
        await until(lambda: service.runs.running == 2)
        await service.wind_down(10.0)
        assert [await ended(run) for run in runs] == ["success", "success", "cancelled"]


MARKS = """
import pathlib
import anyio

def mark(params):
    pathlib.Path(__file__).with_name("begun").touch()

async def mark_in_loop(params):
    mark(params)
    await anyio.sleep(0.01)
"""


@pytest.mark.parametrize("task", ["mark", "mark_in_loop"])
def test_a_run_that_is_about_to_begin_when_the_service_is_stopped_does_not(tmp_path: Path, task: str) -> None:
    """Nothing of it is done, and it is known as one that never began: not as one that was cut off."""
    (tmp_path / "tasks.py").write_text(MARKS)

    async def stop_just_then() -> None:
        tasks = load_tasks(str(tmp_path / "tasks.py"), files=tmp_path)
        async with LocalService(tasks, 1) as service, anyio.create_task_group() as group:

            async def wind_down() -> None:
                service.runs.wind_down()

            async def start() -> None:
                answer = await service.start(StartRequest(task, RunRequest(input_params={})))
                assert isinstance(answer, Started)
                seen.append(await service.look(answer.run.run_id, 20.0))

            group.start_soon(start)
            group.start_soon(wind_down)  # asyncio's turn for it comes after the start, and before the run

    seen: list[object] = []
    anyio.run(stop_just_then)
    (ended,) = seen
    assert isinstance(ended, RunSeen)
    assert (ended.run.status, ended.run.never_began) == ("cancelled", True)
    assert not (tmp_path / "begun").exists()


async def test_a_function_that_is_gone_by_then_is_a_failure_with_a_sentence() -> None:
    """A file that was removed after it was loaded fails the run, and is named."""
    async with workers(1) as executor:
        gone = Call(TaskSource("f", "/no/such/file.py"), {}, Context("r", "s", "."), 5.0)
        assert "There is no file /no/such/file.py" in str((await executor.run(gone)).error)


async def test_a_worker_that_cannot_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an interpreter the run fails with a sentence, and nothing is raised."""
    async with workers(1) as executor:
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        ending = await executor.run(call("echo"))
    assert str(ending.error).startswith("The worker process could not be started: ")


@needs_posix
@pytest.mark.parametrize(("number", "never_began"), [(signal.SIGINT, True), (signal.SIGTERM, True), (KILL, False)])
async def test_a_worker_that_is_told_to_end_before_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, never_began: bool
) -> None:
    """A shutdown's signal for every process fails no run that hasn't begun; a worker that dies of its own does."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nkill -{int(number)} $$\n")
    python.chmod(0o700)
    async with workers(1) as executor:
        monkeypatch.setattr(sys, "executable", str(python))
        ending = await executor.run(call("echo"))
    assert (ending.status, ending.never_began, ending.cut_off) == ("failure", never_began, False)
    assert str(ending.error).startswith("The worker process could not be started: worker died: ")


PARENT = """
import sys, anyio
from batch_runner.service.local.process_pool import InWorkers
from batch_runner.service.local.tasks import Call, Context, TaskSource
function, mark = sys.argv[1:]
call = Call(TaskSource(function, {own!r}), {{"mark": mark, "until": "/never"}}, Context("r", "s", "."), {limit})
anyio.run(InWorkers(1).run, call)
"""


def start_parent(function: str, mark: Path, limit: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PARENT.format(own=OWN, limit=limit), function, str(mark)])


@pytest.mark.parametrize("function", ["wait_for", "start_program"])
async def test_a_worker_dies_with_its_parent(tmp_path: Path, function: str) -> None:
    """Killed by SIGKILL the parent can do nothing; its worker ends itself, and the programs of its task."""
    with start_parent(function, tmp_path / "pid", 60.0) as parent:
        pid = await number_in(tmp_path / "pid")
        parent.kill()
    await until(lambda: not is_alive(pid))


@pytest.mark.long
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_stuck_worker_without_a_parent_ends_when_its_time_is_up(tmp_path: Path) -> None:
    """Even one that holds the interpreter's lock, so that no thread of it could see the parent go."""
    with start_parent("busy_in_c", tmp_path / "pid", 2.0) as parent:
        pid = await number_in(tmp_path / "pid")
        parent.kill()
    await until(lambda: not is_alive(pid))


@pytest.mark.long
async def test_workers_that_die_while_they_have_nothing_to_do() -> None:
    """Whoever comes next puts them away, be it several at once: every run has its own ending."""
    pids: set[int] = set()

    async def run(executor: InWorkers) -> None:
        pids.add(await pid_of(executor))

    async with workers(8) as executor:
        for number in (8, 14):
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(run, executor)
            assert len(pids) == number
            for pid in sorted(pids)[:6] if number == 8 else ():
                os.kill(pid, KILL)
            await anyio.sleep(0.1)


@pytest.mark.long
async def test_work_that_is_done_is_a_success_where_memory_lacks_for_its_result() -> None:
    """It must not be done again; the next run has a process of its own."""
    async with workers(1, memory=400 * 1024**2) as executor:
        ending = await executor.run(call("long_text", length="60000000"))
        assert (ending.status, ending.is_last) == ("success", True)
        assert str(ending.error).startswith("The task's result needs more memory than a worker process may have: ")
        assert bytes(ending.result).startswith('"üü'.encode())
        assert (await executor.run(call("echo"))).status == "success"
