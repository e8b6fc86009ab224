"""What holds of every executor for sync functions: worker processes, on both event loops, and a Dask cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from contract import until
from executing import all_ended, call, is_alive, number_in, on_cluster, workers

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from batch_runner.service.local.result import RunEnd
    from batch_runner.service.local.tasks import Executor

pytestmark = [
    pytest.mark.anyio,
]


TOO_MUCH = "The task's result is 63963138 bytes of JSON, and 62914560 is the limit: its first part stands here as text."


@pytest.fixture(params=["workers on asyncio", "workers on trio", pytest.param("dask", marks=pytest.mark.long)])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(way: str) -> str:
    return "trio" if way.endswith("trio") else "asyncio"


@pytest.fixture
def opened(way: str, request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Executor]:
    """An executor with two workers, to be entered."""
    return on_cluster(request.getfixturevalue("cluster").address) if way == "dask" else workers(2)


@pytest.mark.long
async def test_what_a_function_returns_is_its_result(opened: AbstractAsyncContextManager[Executor]) -> None:
    """As JSON, in whatever writing."""
    async with opened as executor:
        ending = await executor.run(call("echo", Käufer="株式会社 «Ö»", empty=""))
    assert (ending.status, bytes(ending.result).decode()) == ("success", '{"Käufer":"株式会社 «Ö»","empty":""}')


@pytest.mark.parametrize(("limit", "status", "result"), [(20.0, "success", b'{"slept":"0.3"}'), (0.1, "timeout", b"")])
async def test_what_is_to_be_awaited_is(
    opened: AbstractAsyncContextManager[Executor], limit: float, status: str, result: bytes
) -> None:
    """An async function that looks like a sync one was a `success` of which nothing was done."""
    async with opened as executor:
        ending = await executor.run(call("disguised", limit, seconds="0.3"))
    assert (ending.status, bytes(ending.result)) == (status, result)


@pytest.mark.parametrize(
    ("function", "status", "said"),
    [
        ("fail", "failure", "ValueError: the amount is odd"),
        ("fail_plainly", "failure", "This supplier is not known."),
        ("cancel", "cancelled", "the invoice was withdrawn"),
        ("leave", "failure", "SystemExit: 3"),
        ("die", "failure", "worker died: it ended by itself with code 7"),
        ("fork_and_die", "failure", "worker died: it ended by itself with code 7"),
        ("crash", "failure", "worker died: it was killed by signal 11 (Segmentation fault)"),
        ("greedy", "failure", "The task needed more memory than a worker process may have."),
        ("too_much", "success", TOO_MUCH),
        ("disguised_failure", "failure", "LookupError: no such customer"),
    ],
)
async def test_how_a_function_ends_is_how_its_run_ends(
    opened: AbstractAsyncContextManager[Executor], function: str, status: str, said: str
) -> None:
    """By raising, by leaving, by dying, by taking too much: the run says how, and the next one finds all well."""
    async with opened as executor:
        ending = await executor.run(call(function))
        assert (ending.status, ending.error) == (status, said)
        assert (await executor.run(call("echo"))).status == "success"


@pytest.mark.long
async def test_a_timeout_ends_a_function_stuck_in_c_and_no_other(
    opened: AbstractAsyncContextManager[Executor], tmp_path: Path
) -> None:
    """The interpreter's lock is held for ever, so nothing short of a kill ends it; a second run goes on meanwhile."""
    endings: dict[str, RunEnd] = {}
    async with opened as executor:
        stuck = call("busy_in_c", 2.0, mark=str(tmp_path / "pid"))
        other = call("wait_for", mark=str(tmp_path / "2"), until=str(tmp_path / "go"))

        async def run(name: str) -> None:
            endings[name] = await executor.run({"stuck": stuck, "other": other}[name])

        async with anyio.create_task_group() as group:
            group.start_soon(run, "stuck")
            group.start_soon(run, "other")
            await until(lambda: "stuck" in endings)
            (tmp_path / "go").touch()
    assert {name: ending.status for name, ending in endings.items()} == {"stuck": "timeout", "other": "success"}
    assert endings["stuck"].error == "The run was stopped after 2 s, the time limit for one run."
    assert not is_alive(await number_in(tmp_path / "pid"))


async def test_a_cancelled_run_leaves_nothing_running(
    opened: AbstractAsyncContextManager[Executor], tmp_path: Path
) -> None:
    """Neither the process nor the program that its task had started; and the next run finds all well."""
    async with opened as executor:
        async with anyio.create_task_group() as group:
            group.start_soon(executor.run, call("start_program", mark=str(tmp_path / "pid")))
            program = await number_in(tmp_path / "pid")
            group.cancel_scope.cancel()
        await until(lambda: not is_alive(program))
        assert (await executor.run(call("echo"))).status == "success"


async def test_closing_leaves_nothing_running(opened: AbstractAsyncContextManager[Executor], tmp_path: Path) -> None:
    """Also where a run goes on that nobody has cancelled before."""
    with anyio.CancelScope() as scope:
        async with opened as executor, anyio.create_task_group() as group:
            group.start_soon(executor.run, call("start_program", mark=str(tmp_path / "pid")))
            program = await number_in(tmp_path / "pid")
            scope.cancel()
    await until(lambda: not is_alive(program))


@pytest.mark.long
async def test_a_large_result_arrives_whole(opened: AbstractAsyncContextManager[Executor]) -> None:
    """Sixty megabytes of it."""
    async with opened as executor:
        ending = await executor.run(call("long_text", length="30000000"))
    assert len(bytes(ending.result)) == 2 * 30_000_000 + 2


@pytest.mark.long
@pytest.mark.parametrize("repeatable", [False, True])
async def test_of_many_at_once_none_is_lost(opened: AbstractAsyncContextManager[Executor], *, repeatable: bool) -> None:
    """Each has the ending of its own params, also where several go together."""
    calls = [call("echo", repeatable=repeatable, n=str(number)) for number in range(40)]
    async with opened as executor:
        endings = await all_ended(executor, calls)
    assert [bytes(ending.result) for ending in endings] == [b'{"n":"%d"}' % number for number in range(40)]


async def test_what_a_task_prints_is_no_message(
    opened: AbstractAsyncContextManager[Executor], capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither the protocol nor our standard output is disturbed."""
    async with opened as executor:
        assert (await executor.run(call("echo"))).status == "success"
    assert capfd.readouterr().out == ""


async def test_a_function_that_is_not_there_is_a_failure_with_a_sentence(
    opened: AbstractAsyncContextManager[Executor],
) -> None:
    """The file is named by the name that the person gave it, also where it was sent elsewhere."""
    async with opened as executor:
        ending = await executor.run(call("ecko"))
    assert ending.status == "failure"
    assert str(ending.error).endswith("own_tasks.py has no function 'ecko'; did you mean 'echo'?")
