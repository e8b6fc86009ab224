"""`/openapi.json` of our own service, and what programs of others do with the service that it describes."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest

from batch_runner.service.local.service import LocalService
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.serve.app import describe_api, make_app
from batch_runner.service.serve.server import listen

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

TASK = "async def echo(params):\n    return params\n"


def validate(value: object, name: str) -> None:
    page = describe_api()
    jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": page["components"]})


async def test_the_page_describes_what_is_answered(tmp_path: Path) -> None:
    """Each route stands in it, and each answer is of the type that it says, refusals too."""
    (tmp_path / "t.py").write_text(TASK)
    tasks = load_tasks(str(tmp_path / "t.py"), files=tmp_path)
    async with LocalService(tasks, 1) as service:
        transport = httpx.ASGITransport(make_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            page: dict[str, Any] = (await http.get("/openapi.json")).json()
            assert set(page["paths"]) == {
                "/v2/tasks/{taskId}/run",
                "/v2/tasks/{taskId}/versions",
                "/v2/tasks/runs/{runId}/status",
                "/v2/tasks/runs/{runId}",
                "/healthz",
            }
            body = {"input_params": {"a": "b", "n": 1.5, "t": True, "z": None}, "sync": True}
            validate(body, "RunRequest")
            run = (await http.post("/v2/tasks/echo/run", json=body)).json()
            validate(run, "Run")
            assert run["result"] == {"a": "b", "n": "1.5", "t": "true", "z": "null"}
            validate((await http.get(f"/v2/tasks/runs/{run['run_id']}/status")).json(), "Run")
            validate((await http.get("/v2/tasks/echo/versions")).json(), "TaskVersions")
            validate((await http.get("/healthz")).json(), "Health")
            for refused in (http.get("/v2/tasks/none/versions"), http.get("/v2/tasks/runs/none/status")):
                answer = await refused
                assert answer.status_code == 404
                validate(answer.json(), "ErrorResponse")


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("anchorbrowser") is None, reason="the official client isn't installed")
async def test_the_official_client_gets_on_with_it(tmp_path: Path) -> None:
    """It starts a run with values of every type that it allows, and learns how the run ended."""
    from anchorbrowser import AsyncAnchorbrowser

    (tmp_path / "t.py").write_text(TASK)
    tasks = load_tasks(str(tmp_path / "t.py"), files=tmp_path)
    async with (
        LocalService(tasks, 1) as service,
        listen(service, api_key="sk-right") as url,
        AsyncAnchorbrowser(api_key="sk-right", base_url=url, max_retries=0) as client,
    ):
        params = {"text": "a", "number": 1.5, "yes": True, "nothing": None}
        run = await client.tasks.run_task(task_id="echo", input_params=params)
        for _ in range(100):
            seen = await client.tasks.get_task_run_status(run_id=run.run_id)
            if seen.status == "success":
                break
            await asyncio.sleep(0.05)
        assert seen.result == {"text": "a", "number": "1.5", "yes": "true", "nothing": "null"}


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis isn't installed")
async def test_whatever_the_page_allows_is_answered_as_it_says(tmp_path: Path) -> None:
    """Requests made up from the page, right ones and wrong ones: no answer that it doesn't describe, no failure."""
    async with LocalService(load_tasks(files=tmp_path), 1) as service, listen(service) as url:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--max-examples", "10"]
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
        told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()[-3000:]
