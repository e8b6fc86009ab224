"""The service on a port: 127.0.0.1 only, and a clean end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx
import pytest
from contract import OWN, PATIENCE, until

from batch_runner.errors import UsageError
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.serve.server import HOST, _bound_socket, listen, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parent

SERVER = """
import sys, anyio
from pathlib import Path
from batch_runner.service.serve.server import serve
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.tasks import load_tasks
service = LocalService(load_tasks({own!r}, files=Path(".")), 2)
ended_by = anyio.run(serve, service, 0, lambda url: print(url, flush=True))
print("ended by", ended_by.name, flush=True)
"""


@pytest.fixture
def server() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVER.format(own=OWN)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def a_service() -> LocalService:
    return LocalService(load_tasks(OWN, files=FOLDER), 1)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_cleanly(server: subprocess.Popen[str], sent: signal.Signals, tmp_path: Path) -> None:
    """Whoever waits for a run is told that it was cancelled; nothing is written to standard error."""
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    answers: list[httpx.Response] = []

    async def wait(mark: Path) -> None:
        body = {"input_params": {"mark": str(mark), "until": str(tmp_path / "never")}, "sync": True}
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, verify=False) as http:
            answers.append(await http.post("/v2/tasks/wait_for/run", json=body))

    async with anyio.create_task_group() as group:
        group.start_soon(wait, tmp_path / "1")
        group.start_soon(wait, tmp_path / "2")
        await until(lambda: len(list(tmp_path.glob("[12]"))) == 2)
        server.send_signal(sent)
    assert [answer.json()["status"] for answer in answers] == ["cancelled", "cancelled"]
    out, err = await anyio.to_thread.run_sync(server.communicate)
    assert (out, err, server.returncode) == (f"ended by {sent.name}\n", "", 0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


async def test_a_port_in_use_is_one_sentence() -> None:
    """It names port and address, and the option that names another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"Port {port} on 127\.0\.0\.1 can't be listened on: .*--port"):
            await serve(a_service(), port, print)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
async def test_a_port_that_is_none_is_one_sentence(port: int) -> None:
    """A number that no port can have is refused in the same way."""
    with pytest.raises(UsageError, match="--port"):
        await serve(a_service(), port, print)


async def test_it_listens_on_one_address_only() -> None:
    """Not even on the other addresses of the loopback device, so not on all that there are."""
    async with a_service() as service, listen(service) as url:
        port = int(url.rpartition(":")[2])
        for address, refused in (("127.0.0.1", False), ("127.0.0.2", True)):
            with socket.socket() as sock:
                assert (sock.connect_ex((address, port)) != 0) == refused


async def test_a_request_for_another_host_is_refused() -> None:
    """A page in a browser that reaches the port under a name of its own gets nothing."""
    async with a_service() as service, listen(service) as url, httpx.AsyncClient(base_url=url, verify=False) as http:
        for host, code in (("evil.example", 400), ("127.0.0.1.evil.example:80", 400), ("localhost:1", 404)):
            answer = await http.get("/v2/tasks/runs/run_0/status", headers={"host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)


def test_a_connections_small_packets_are_not_held_back() -> None:
    """asyncio sees to that only for a socket whose protocol is named; without it each answer took 40 ms."""
    with _bound_socket(HOST, 0) as sock:
        assert sock.proto == socket.IPPROTO_TCP


async def test_it_can_listen_again_at_once_on_the_same_port() -> None:
    """A service that ended leaves its port free."""
    async with a_service() as service, listen(service) as url, httpx.AsyncClient(base_url=url, verify=False) as http:
        await http.get("/")
    async with a_service() as service, listen(service, int(url.rpartition(":")[2])) as again:
        assert again == url


async def test_in_a_thread_it_serves_too() -> None:
    """Signals are none of its business there."""
    url: list[str] = []
    stop = threading.Event()

    async def main() -> None:
        async with a_service() as service, listen(service) as bound:
            url.append(bound)
            await anyio.to_thread.run_sync(stop.wait)

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, anyio.run, main)
        await until(lambda: bool(url))
        async with httpx.AsyncClient(base_url=url[0], verify=False) as http:
            assert (await http.get("/v2/tasks/runs/run_0/status")).status_code == 404
        stop.set()
