"""One key is one run: however often its start is sent, at once or later, and also after the service was killed."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from contract import OWN, WAYS, Speaker, speaking, until
from hypothesis import given
from hypothesis import strategies as st

from batch_runner import __version__
from batch_runner.service.local.process_pool import InLoop
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.store_file import CUT_OFF, NEVER_BEGUN, open_runs
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.serve.app import make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(way: str) -> str:
    return "trio" if way.endswith("trio") else "asyncio"


@pytest.fixture
async def service(way: str) -> AsyncIterator[Speaker]:
    async with speaking(way) as speaker:
        yield speaker


async def test_a_start_that_is_sent_again_is_the_same_run_as_it_is_now(service: Speaker) -> None:
    """Also when the run has ended; another key, or none, is another run."""
    code, first = await service.start("echo_in_loop", {"a": "1"}, key="k-1")
    assert (code, first["status"] in ("queued", "success")) == (200, True)
    ended = await service.end_of(first["run_id"])
    assert await service.start("echo_in_loop", {"a": "1"}, key="k-1") == (200, ended)
    others = [(await service.start("echo_in_loop", {"a": "1"}, key=key))[1]["run_id"] for key in ("k-2", None, None)]
    assert len({first["run_id"], *others}) == 4


async def test_a_start_that_is_sent_again_with_sync_waits_for_its_run(service: Speaker, tmp_path: Path) -> None:
    """Two clients wait for one run, and both hear its end."""
    params = {"mark": str(tmp_path / "mark"), "until": str(tmp_path / "go")}
    answers = []

    async def wait() -> None:
        answers.append(await service.start("wait_for", params, key="k", sync=True))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)
        await until((tmp_path / "mark").exists)
        (tmp_path / "go").touch()
    assert answers[0] == answers[1]
    assert answers[0][1]["status"] == "success"


async def test_fifty_starts_at_once_with_one_key_are_one_run(service: Speaker, tmp_path: Path) -> None:
    """All are answered with the same run, and its task runs once."""
    answers = []

    async def start() -> None:
        answers.append(await service.start("count_me", {"file": str(tmp_path / "runs")}, key="once"))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(start)
    assert Counter(code for code, _ in answers) == {200: 50}
    (run_id,) = {run["run_id"] for _, run in answers}
    await service.end_of(run_id)
    assert (tmp_path / "runs").read_text() == "."


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("echo_in_loop", {"params": {"a": "2"}}),
        ("echo_in_loop", {"params": {"a": "1"}, "identity_id": "i"}),
        ("fail_in_loop", {"params": {"a": "1"}}),
    ],
)
async def test_the_same_key_for_something_else_is_422(service: Speaker, task: str, fields: dict[str, Any]) -> None:
    """Another task or body with a key that was used starts nothing; the first run is still its run."""
    _, first = await service.start("echo_in_loop", {"a": "1"}, key="k")
    code, refused = await service.start(task, key="k", **fields)
    assert (code, "Idempotency-Key" in refused["error"]["message"]) == (422, True)
    assert (await service.start("echo_in_loop", {"a": "1"}, key="k"))[1]["run_id"] == first["run_id"]


async def test_spaces_the_order_of_keys_and_the_row_make_no_other_start(service: Speaker) -> None:
    """What is asked for is the same JSON, however it is written; a sheet may have been sorted since."""
    post = partial(service.http.post, "/v2/tasks/tell_context/run")
    headers = {"content-type": "application/json", "idempotency-key": '"k"'}
    one = await post(content='{"input_params":{"a":"ä","b":"2"}}', headers=headers | {"batch-runner-row": "17"})
    same = await post(
        content='{ "input_params": {"b": "2", "a": "\\u00e4"} }', headers=headers | {"batch-runner-row": "4"}
    )
    assert one.json()["run_id"] == same.json()["run_id"]
    assert (await service.end_of(one.json()["run_id"]))["result"]["row"] == 17


async def test_whether_it_is_waited_for_makes_no_other_start(service: Speaker) -> None:
    """`sync` only says how to answer: who has started a run may wait for it with the same key."""
    _, first = await service.start("sleep_in_loop", {"seconds": "0.1"}, key="k")
    code, ended = await service.start("sleep_in_loop", {"seconds": "0.1"}, key="k", sync=True)
    assert (code, ended["run_id"], ended["status"]) == (200, first["run_id"], "success")
    assert await service.start("sleep_in_loop", {"seconds": "0.1"}, key="k", sync=False) == (200, ended)


@pytest.mark.parametrize("key", ["bare", '""', '"', '"ä"', '"a" "b"', '"a", "b"', '"a";p=1', f'"{"x" * 256}"'])
async def test_a_key_that_is_none_is_400(service: Speaker, key: str) -> None:
    """The header holds one quoted string, as its specification says; the sentence says how to write it."""
    answer = await service.http.post(
        "/v2/tasks/echo_in_loop/run", json={"input_params": {}}, headers={b"idempotency-key": key.encode()}
    )
    assert (answer.status_code, "double quotes" in answer.json()["error"]["message"]) == (400, True)


@pytest.mark.parametrize("row", ["0", "-1", "x", "1.0", "", "٣"])
async def test_a_row_that_is_none_is_400(service: Speaker, row: str) -> None:
    """A row's number is 1 or more."""
    answer = await service.http.post(
        "/v2/tasks/echo_in_loop/run", json={"input_params": {}}, headers={b"batch-runner-row": row.encode()}
    )
    assert (answer.status_code, "batch-runner-row" in answer.json()["error"]["message"]) == (400, True)


async def test_a_start_without_a_row_has_none(service: Speaker) -> None:
    """A task learns its row's number only where it was told."""
    assert (await service.run("tell_context"))["result"]["row"] is None


async def test_health_says_what_the_service_can_do(service: Speaker, way: str, tmp_path: Path) -> None:
    """Only runs that outlive the process are promised to be known by their keys; runs are counted."""
    params = {"mark": str(tmp_path / "mark"), "until": str(tmp_path / "go")}
    await service.start("wait_for", params)
    await until((tmp_path / "mark").exists)
    health = (await service.http.get("/healthz")).json()
    assert (health["status"], health["version"]) == ("ok", __version__)
    assert (health["queued"], health["running"]) == (0, 1)
    assert "row-number" in health["features"]
    assert ("idempotency-key" in health["features"]) == way.endswith("file")
    assert (health["idempotency_seconds"] is not None) == (health["memory"] is not None) == way.endswith("file")
    (tmp_path / "go").touch()


async def test_health_needs_no_key_and_a_stopping_service_says_so(way: str) -> None:
    """Whoever watches over it need not be one who may use it."""
    async with speaking(way, api_key="sk-right") as service:
        assert (await service.http.get("/healthz")).status_code == 200
        service.service.stop_all()
        answer = await service.http.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (503, "stopping")


async def test_health_is_trouble_while_every_start_is_refused(way: str) -> None:
    """It used to say that all is well while the cluster was away; the sentence is the one that a start gets."""
    executor = Away()
    async with speaking(way, executor=executor) as service:
        answer, (code, refused) = await service.http.get("/healthz"), await service.start("echo")
        assert (answer.status_code, answer.json()["status"], code) == (503, "trouble", 503)
        assert answer.json()["trouble"] == refused["error"]["message"] == "The cluster is away."
        executor.trouble = None
        answer = await service.http.get("/healthz")
        assert (answer.status_code, answer.json()["status"], answer.json()["trouble"]) == (200, "ok", None)


class Away(InLoop):
    """An executor that can be away, as a cluster is."""

    trouble: str | None = "The cluster is away."


@pytest.mark.parametrize("task", ["wait_for", "sleep_in_loop"])
async def test_a_start_beyond_the_queue_is_429_and_no_run(way: str, task: str, tmp_path: Path) -> None:
    """As many as fit and as many as may wait are taken; a known key is answered all the same."""
    params = {"mark": str(tmp_path / "mark"), "until": str(tmp_path / "never"), "seconds": "600"}
    async with speaking(way, executor=1, async_runs=1, queue=2) as service:
        taken = [await service.start(task, params, key=f"k{number}") for number in range(3)]
        assert [code for code, _ in taken] == [200] * 3
        refused = await service.http.post(f"/v2/tasks/{task}/run", json={"input_params": params})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert (await service.start(task, params, key="late"))[0] == 429
        assert len(service.service.runs.going) == 3
        assert (await service.start(task, params, key="k2"))[1]["run_id"] == taken[2][1]["run_id"]


Body = tuple[str, dict[str, str]]
ECHO: Body = ("echo_in_loop", {})
SLEEP: Body = ("sleep_in_loop", {"seconds": "600"})
STEP = st.one_of(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([ECHO, SLEEP])),
    st.sampled_from(["kill", "stop"]),
)


@asynccontextmanager
async def one_life(folder: Path) -> AsyncIterator[Speaker]:
    """The service over the runs in a folder, until it stops; room for one run at a time."""
    with open_runs(folder / "runs.db", keep=86400) as store:
        tasks = load_tasks(OWN, files=folder)
        async with (
            LocalService(tasks, 1, async_runs=1, store=store) as service,
            httpx.AsyncClient(
                transport=httpx.ASGITransport(make_app(service)), base_url="http://service.invalid"
            ) as http,
        ):
            yield Speaker(http, service)


class Model:
    """What must be so: the runs that were answered for, and which key is whose."""

    def __init__(self) -> None:
        self.by_key: dict[str, tuple[str, Any]] = {}
        self.ended: dict[str, Any] = {}
        self.known: set[str] = set()
        self.begun: set[str] = set()

    async def start(self, service: Speaker, key: str | None, body: Body) -> None:
        """A key that is known gives its run, or 422 for another body; anything else a new run."""
        code, run = await service.start(*body, key=key)
        if key is not None and key in self.by_key:
            run_id, first = self.by_key[key]
            assert code == (200 if first == body else 422)
            assert code == 422 or run["run_id"] == run_id
            return
        assert (code, run["run_id"] in self.known) == (200, False)
        self.known.add(run["run_id"])
        if key is not None:
            self.by_key[key] = (run["run_id"], body)

    async def look(self, service: Speaker) -> None:
        """Every run is known, and one that has ended is told as it was."""
        for run_id in self.known:
            code, run = await service.status(run_id)
            assert code == 200
            assert run == self.ended.get(run_id, run)
            if run["status"] == "running":
                self.begun.add(run_id)
            elif run["status"] != "queued":
                self.ended[run_id] = run

    async def look_after(self, end: str, service: Speaker) -> None:
        """All have ended. Of those that were killed one at most had begun, because there was room for one."""
        before = set(self.ended)
        await self.look(service)
        assert set(self.ended) == self.known
        errors = {run_id: run.get("error") for run_id, run in self.ended.items() if run_id not in before}
        cut = {run_id for run_id, error in errors.items() if error == CUT_OFF}
        never = {run_id for run_id, error in errors.items() if error == NEVER_BEGUN}
        assert end == "kill" or not cut | never
        assert len(cut) <= 1
        assert not never & self.begun


@pytest.mark.long
@pytest.mark.parametrize("way", ["in process"])
@given(st.lists(STEP, max_size=12))
async def test_one_key_is_one_run_through_kills_and_stops(steps: list[Any]) -> None:
    """Whatever is started, and whenever the service is killed (its files are taken as they are then) or stopped."""
    model = Model()
    with TemporaryDirectory() as base:
        folder, after = Path(base, "0"), "stop"
        folder.mkdir()
        for life, part in enumerate(_lives(steps)):
            async with one_life(folder) as service:
                await model.look_after(after, service)
                for key, body in part[:-1]:
                    await model.start(service, key, body)
                    await model.look(service)
                after = part[-1]
                if after == "kill":
                    folder = _as_killed(folder, Path(base, str(life + 1)))


def _lives(steps: list[Any]) -> list[list[Any]]:
    """The steps of each life of the service, the last of which is its end."""
    lives: list[list[Any]] = [[]]
    for step in [*steps, "kill", "stop"]:
        lives[-1].append(step)
        if isinstance(step, str):
            lives.append([])
    return lives[:-1]


def _as_killed(folder: Path, copy: Path) -> Path:
    """The files as a kill -9 leaves them now: without the lock, which dies with the process."""
    copy.mkdir()
    for name in ("runs.db", "runs.db-wal"):
        shutil.copy(folder / name, copy / name)
    return copy
