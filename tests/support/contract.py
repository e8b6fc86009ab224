"""A client that holds every request and every answer to the schemas of the Tasks API. Not a test module."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import httpx
import jsonschema

from batch_runner.service.local.service import LocalService
from batch_runner.service.local.store_file import open_runs
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.serve.app import make_app
from batch_runner.service.serve.server import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from batch_runner.service.local.store import Store

HERE = Path(__file__).parent
SCHEMAS = {
    name: jsonschema.Draft202012Validator(schema)
    for name, schema in json.loads((HERE / "tasks_api_schema.json").read_text("utf-8")).items()
    if isinstance(schema, dict)
}
"""Made once: `jsonschema.validate` would check the schema itself each time."""
OWN = str(HERE / "own_tasks.py")
WAYS = ("in process", "in process on trio", "over a socket", "over a socket and kept in a file")
FINAL = ("success", "failure", "timeout", "cancelled")
PATIENCE = 300.0
"""Seconds until what is about to be so and isn't is a failure."""


class Speaker:
    """Speaks the Tasks API to a service. Each method gives the status code and the JSON of the answer."""

    def __init__(self, http: httpx.AsyncClient, service: LocalService) -> None:
        self.http = http
        self.service = service

    async def start(
        self, task_id: str, params: dict[str, str] | None = None, *, key: str | None = None, **fields: Any
    ) -> tuple[int, Any]:
        body = {"input_params": params or {}, **fields}
        headers = {} if key is None else {"Idempotency-Key": f'"{key}"'}
        SCHEMAS["RunTaskV2Request"].validate(body)
        return _checked(await self.http.post(f"/v2/tasks/{quote(task_id, safe='')}/run", json=body, headers=headers))

    async def status(self, run_id: str) -> tuple[int, Any]:
        return _checked(await self.http.get(f"/v2/tasks/runs/{run_id}/status"))

    async def end_of(self, run_id: str) -> Any:
        """Poll until the run has ended."""
        with anyio.fail_after(PATIENCE):
            while True:
                code, run = await self.status(run_id)
                assert code == 200
                if run["status"] in FINAL:
                    return run
                await anyio.sleep(0.005)

    async def run(self, task_id: str, params: dict[str, str] | None = None, **fields: Any) -> Any:
        """Start a run and follow it to its end."""
        code, run = await self.start(task_id, params, **fields)
        assert code == 200, run
        return await self.end_of(run["run_id"])


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that is about to be so."""
    with anyio.fail_after(PATIENCE):
        while not holds():
            await anyio.sleep(0.005)


def _checked(response: httpx.Response) -> tuple[int, Any]:
    """The answer, which has to be what the schema says. A result of another type than object is known to occur."""
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    if response.status_code == 200:
        SCHEMAS["TaskRunStatusV2Response"].validate({"result": {}, **answer, **_no_plain_result(answer)})
    else:
        SCHEMAS["ErrorResponse"].validate(answer)
        assert answer["error"]["code"] == response.status_code
        assert answer["error"]["message"].endswith((".", "?", "Not Found", "Not Allowed"))
    return response.status_code, answer


def _no_plain_result(answer: dict[str, Any]) -> dict[str, Any]:
    return {} if isinstance(answer.get("result"), dict) else {"result": {}}


@contextlib.asynccontextmanager
async def speaking(
    way: str, *, key: str | None = None, api_key: str | None = None, **options: Any
) -> AsyncIterator[Speaker]:
    """A service with the tests' own tasks, reached in one of WAYS. `key` is sent, `api_key` asked for."""
    options = {"executor": 2, "run_timeout": 20.0, **options}
    tasks = load_tasks("invoice", OWN, files=HERE.parents[1] / "samples")
    headers = {"anchor-api-key": key} if key else {}
    with tempfile.TemporaryDirectory() as folder, _store(way, Path(folder)) as store:
        async with (
            LocalService(tasks, store=store, **options) as service,
            _transport(way, service, api_key) as (transport, url),
            httpx.AsyncClient(transport=transport, base_url=url, headers=headers, timeout=PATIENCE) as http,
        ):
            yield Speaker(http, service)


@contextlib.contextmanager
def _store(way: str, folder: Path) -> Iterator[Store | None]:
    if way.endswith("kept in a file"):
        with open_runs(folder / "runs.db", keep=86400) as store:
            yield store
    else:
        yield None


@contextlib.asynccontextmanager
async def _transport(
    way: str, service: LocalService, api_key: str | None
) -> AsyncIterator[tuple[httpx.AsyncBaseTransport, str]]:
    if way.startswith("over a socket"):
        async with listen(service, api_key=api_key) as url:
            yield httpx.AsyncHTTPTransport(verify=False), url
    else:
        yield httpx.ASGITransport(make_app(service, api_key)), "http://service.invalid"
