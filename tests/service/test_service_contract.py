"""The embedded service keeps the contract of the Tasks API, in process and over a real socket."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from contract import OWN, WAYS, Speaker, speaking, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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


async def test_a_run_that_returns_ends_as_success(service: Speaker) -> None:
    """The result is what the function returned, and the params reach it to the letter."""
    params = {"File Name": "Ä ß 日本.pdf", " spaced ": "line 1\nline 2", "Operation": ""}
    run = await service.run("echo", params)
    assert (run["status"], run["result"]) == ("success", params)
    assert "error" not in run


@pytest.mark.parametrize("task", ["fail", "fail_in_loop"])
async def test_an_exception_is_a_failure_with_its_type_and_text_on_one_line(service: Speaker, task: str) -> None:
    """What a task raises is its run's error, and there is no result."""
    run = await service.run(task)
    assert run["status"] == "failure"
    assert run["error"] in ("ValueError: the amount is odd", "LookupError: no such customer")
    assert "result" not in run


async def test_a_task_may_fail_with_a_sentence_of_its_own(service: Speaker) -> None:
    """TaskFailed shows its text alone, TaskCancelled ends the run as cancelled."""
    failed, cancelled = await service.run("fail_plainly"), await service.run("cancel")
    assert (failed["status"], failed["error"]) == ("failure", "This supplier is not known.")
    assert (cancelled["status"], cancelled["error"]) == ("cancelled", "the invoice was withdrawn")


@pytest.mark.long
@pytest.mark.parametrize("task", ["raise_unusual", "raise_unusual_in_loop"])
@pytest.mark.parametrize("name", ["CancelledError", "KeyboardInterrupt", "GivesUp"])
async def test_what_is_no_exception_is_a_failure_of_its_run_alone(service: Speaker, task: str, name: str) -> None:
    """A cancellation that nobody asked for, and whatever else is a BaseException: others go on."""
    _, other = await service.start("sleep_in_loop", {"seconds": "0.5"})
    run = await service.run(task, {"name": name})
    assert (run["status"], run["error"]) == ("failure", f"{name}: so it is")
    assert (await service.end_of(other["run_id"]))["status"] == "success"


@pytest.mark.long
async def test_a_task_that_cancels_itself_is_a_failure_of_its_run_alone(service: Speaker, anyio_backend: str) -> None:
    """By asyncio's own means, which leave it to be asked whether anybody wanted it."""
    if anyio_backend == "trio":
        pytest.skip("only asyncio has that")
    _, other = await service.start("sleep_in_loop", {"seconds": "0.5"})
    run = await service.run("cancel_itself_in_loop")
    assert (run["status"], run["error"]) == ("failure", "CancelledError")
    assert (await service.end_of(other["run_id"]))["status"] == "success"


@pytest.mark.long
async def test_what_a_task_raises_when_it_is_cancelled_harms_nobody(way: str) -> None:
    """Its time is up, and in the place of its cancellation comes something else, or both in a group."""
    async with speaking(way, run_timeout=0.3) as service:
        run = await service.run("stubborn_in_loop")
        assert run["status"] in ("failure", "timeout")
        assert (await service.run("echo_in_loop"))["status"] == "success"


@pytest.mark.long
@pytest.mark.parametrize("task", ["sleep", "sleep_in_loop"])
async def test_a_run_that_takes_too_long_ends_as_timeout(way: str, task: str) -> None:
    """Sync or async, a task is stopped at the limit, which the error names."""
    async with speaking(way, run_timeout=0.1) as service:
        run = await service.run(task, {"seconds": "600"})
    assert run["status"] == "timeout"
    assert run["error"] == "The run was stopped after 0.1 s, the time limit for one run."


@pytest.mark.long
async def test_runs_beyond_the_bound_are_queued_and_then_run(way: str, tmp_path: Path) -> None:
    """With one worker one of two runs is `running` while the other is `queued`, and its turn comes."""
    go = tmp_path / "go"
    async with speaking(way, executor=1) as service:
        runs = []
        for mark in "12":
            code, run = await service.start("wait_for", {"mark": str(tmp_path / mark), "until": str(go)})
            assert (code, run["status"]) == (200, "queued")
            runs.append(run["run_id"])
        await until(lambda: any(tmp_path.iterdir()))
        assert sorted([(await service.status(run))[1]["status"] for run in runs]) == ["queued", "running"]
        assert len(list(tmp_path.iterdir())) == 1
        go.touch()
        assert [(await service.end_of(run))["result"] for run in runs] == ["done", "done"]


async def test_never_more_async_runs_at_once_than_the_bound(way: str) -> None:
    """Of five runs that wait, three are `running` and two are `queued`."""
    async with speaking(way, async_runs=3) as service:
        runs = [(await service.start("sleep_in_loop", {"seconds": "600"}))[1]["run_id"] for _ in range(5)]
        await until(lambda: service.service.runs.running == 3)
        statuses = [(await service.status(run))[1]["status"] for run in runs]
    assert sorted(statuses) == ["queued", "queued", "running", "running", "running"]


@pytest.mark.long
async def test_sync_answers_when_the_run_has_ended(service: Speaker) -> None:
    """The answer to a sync start tells the end, be it a success or a failure."""
    assert (await service.start("echo", {"a": "b"}, sync=True))[1]["result"] == {"a": "b"}
    assert (await service.start("fail", sync=True))[1]["status"] == "failure"


async def test_a_client_that_goes_away_does_not_stop_its_run(service: Speaker, tmp_path: Path) -> None:
    """The sync request is dropped while the run goes on; the run ends all the same."""
    mark, go = tmp_path / "began", tmp_path / "go"
    async with anyio.create_task_group() as group:
        group.start_soon(partial(service.start, "wait_for", {"mark": str(mark), "until": str(go)}, sync=True))
        await until(mark.exists)
        group.cancel_scope.cancel()
    (run_id,) = service.service.runs.going
    go.touch()
    assert (await service.end_of(run_id))["status"] == "success"


async def test_runs_in_one_session_go_one_after_another(service: Speaker) -> None:
    """The session that was named is the one that is told, and known to the task."""
    await service.run("reset_gauge")
    runs = [(await service.start("gauge", session_id="s-1"))[1] for _ in range(4)]
    assert {run["session_id"] for run in runs} == {"s-1"}
    assert max([(await service.end_of(run["run_id"]))["result"] for run in runs]) == 1


async def test_runs_without_a_session_get_one_of_their_own(service: Speaker) -> None:
    """No two share one; a task is told its session and identity, and a later run may name that session."""
    first, second = await service.run("tell_context"), await service.run("tell_context", cleanup_sessions=False)
    assert first["session_id"] != second["session_id"]
    assert first["result"]["session"] == first["session_id"]
    again = await service.run("tell_context", session_id=second["session_id"], identity_id="id-7")
    assert (again["session_id"], again["result"]["identity"]) == (second["session_id"], "id-7")


@pytest.mark.long
async def test_a_key_is_asked_for_where_one_is_set(way: str) -> None:
    """Without it, and with another, nothing can be started or seen; no answer shows the key."""
    for key, code in ((None, 401), ("sk-wrong", 401), ("schlüssel", 401), ("sk-right", 200)):
        async with speaking(way, api_key="sk-right") as service:
            headers = {b"anchor-api-key": key.encode()} if key else {}
            answer = await service.http.post("/v2/tasks/echo_in_loop/run", json={"input_params": {}}, headers=headers)
            assert answer.status_code == code
            assert "sk-right" not in answer.text


@pytest.mark.parametrize("version", ["latest", "1"])
async def test_the_one_version_of_a_task_may_be_named(service: Speaker, version: str) -> None:
    """`latest` and `1` are the version that there is."""
    assert (await service.run("echo_in_loop", version=version))["status"] == "success"


async def test_what_is_not_there_is_404(service: Speaker) -> None:
    """An unknown task, version or run, with a sentence that names it."""
    for code, answer in (
        await service.start("Invoice"),
        await service.start("echo", version="2"),
        await service.status("run_0"),
        await service.status("%2e%2e"),
    ):
        assert code == 404
        assert any(word in answer["error"]["message"] for word in ("'Invoice'", "'2'", "'run_0'", "'..'"))


async def test_a_task_id_may_be_a_path(service: Speaker) -> None:
    """FILE.py:FUNCTION with its slashes quoted is one task, and the short name is the same one."""
    assert OWN.count("/") > 1
    assert (await service.run(f"{OWN}:echo_in_loop", {"a": "1"}))["result"] == {"a": "1"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ('{"input_params": {"Amount": [12.5]}}', "'Amount'"),
        ('{"input_params": ["a"]}', "input_params"),
        ('{"input_params": null}', "input_params"),
        ("{}", "input_params"),
        ('{"input_params": {}, "session_id": 3}', "session_id"),
        ('{"input_params": {}, "cleanup_sessions": "yes"}', "cleanup_sessions"),
        ('{"input_params": {}, "sync": 1}', "sync"),
        ('"text"', "object"),
        ('{"input_params": {}', "JSON"),
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ('{"input_params": {"a": "\ud800"}}', "JSON"),
    ],
)
async def test_a_bad_body_is_400_with_a_sentence_that_names_the_field(service: Speaker, body: str, named: str) -> None:
    """What is no request to run a task is refused, and the message says what of it is wrong."""
    answer = await service.http.post(
        "/v2/tasks/echo/run",
        content=body.encode("utf-8", "surrogatepass"),
        headers={"content-type": "application/json; charset=utf-8"},
    )
    assert answer.status_code == 400, answer.text
    assert named in answer.json()["error"]["message"]


async def test_other_methods_types_and_sizes_are_refused_as_http_has_it(service: Speaker) -> None:
    """405 with Allow, 400 for a body that does not say that it is JSON, 404 for any other path."""
    url = "/v2/tasks/echo/run"
    wrong_method = await service.http.get(url)
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "POST")
    assert (await service.http.post(url, content='{"input_params": {}}')).status_code == 400
    assert (await service.http.post(url, content="no JSON")).status_code == 400
    assert (await service.http.post("/v1/anything", json={})).json()["error"]["code"] == 404


async def test_a_body_that_is_too_long_is_413(service: Speaker, way: str) -> None:
    """A body beyond the limit is refused, whatever it holds."""
    if way.endswith("trio"):
        pytest.skip("httpx leaves a generator of its own open there, which trio warns of")
    json_type = {"content-type": "application/json"}
    answer = await service.http.post("/v2/tasks/echo/run", content=b" " * 9_000_000, headers=json_type)
    assert answer.status_code == 413


async def test_fields_that_are_not_known_are_let_pass(service: Speaker) -> None:
    """A field of a newer API doesn't stop a run."""
    run = await service.run("echo_in_loop", {"a": "1"}, priority="high", identity_skip_validation=True)
    assert run["status"] == "success"


async def test_any_json_may_be_a_result(service: Speaker) -> None:
    """A result may be a list or a text, not only an object."""
    assert (await service.run("some_list"))["result"] == [1, "zwei", None]
    assert (await service.run("some_text"))["result"] == "1.10 €"


@pytest.mark.long
@pytest.mark.parametrize("task", ["no_json", "not_a_number", "half_a_character", "too_deep", "too_much"])
async def test_a_result_that_is_no_json_or_has_no_end_is_a_success_with_a_note(service: Speaker, task: str) -> None:
    """The work is done: a failure would be done again. What can't be told as JSON, or is too large, stands as text."""
    run = await service.run(task)
    assert (run["status"], type(run["result"])) == ("success", str)
    assert run["error"].startswith("The task's result ")


async def test_what_msgspec_and_pydantic_can_encode_is_encoded(service: Speaker) -> None:
    """Dataclasses, structs, models, decimals and dates are results like any other."""
    run = await service.run("paid")
    assert (run["status"], run.get("error")) == ("success", None)
    told = {"amount": "1.10", "on": "2026-11-24"}
    assert run["result"] == {"paid": told, "struct": told, "model": told, "set": [1]}


async def test_what_still_runs_when_the_service_stops_is_cancelled(way: str, tmp_path: Path) -> None:
    """Running or queued, whoever waits for the end hears it, and nothing new is started."""
    answers = []

    async def wait(speaker: Speaker, number: int) -> None:
        mark = str(tmp_path / f"{number}")
        answers.append(await speaker.start("wait_for", {"mark": mark, "until": str(tmp_path / "never")}, sync=True))

    async with speaking(way, executor=1) as speaker, anyio.create_task_group() as group:
        group.start_soon(wait, speaker, 1)
        group.start_soon(wait, speaker, 2)
        await until(lambda: any(tmp_path.iterdir()) and len(speaker.service.runs.going) == 2)
        speaker.service.stop_all()
        refused = await speaker.http.post("/v2/tasks/echo/run", json={"input_params": {}})
    assert [(code, run["status"]) for code, run in answers] == [(200, "cancelled")] * 2
    assert sorted(run["error"] for _, run in answers) == [
        "The service was stopped before the run had begun.",
        "The service was stopped before the run had ended.",
    ]
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
