"""The real `batch-runner serve`: killed, stopped, too full, and asked for what it won't do."""

from __future__ import annotations

import signal
import socket
import sqlite3
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
from executing import is_alive
from one_start import client_of
from program import PATIENCE, run_program
from served import Served, served, wait_until

from batch_runner.service.local.store_file import CUT_OFF, NEVER_BEGUN
from batch_runner.service.serve.app import BODY_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)


@pytest.mark.long
def test_after_a_kill_finished_runs_are_answered_for_and_interrupted_ones_have_failed(tmp_path: Path) -> None:
    """One that had begun and one that had not are told apart; keys still name their runs; no task goes on."""
    waits = {"mark": str(tmp_path / "mark"), "until": str(tmp_path / "never")}
    with served(tmp_path, "--workers", "1") as service:
        _, done = service.start("echo_in_loop", {"a": "1"}, key="done")
        wait_until(lambda: service.status(done["run_id"])["status"] == "success")
        done = service.status(done["run_id"])
        _, begun = service.start("wait_for", waits, key="begun")
        wait_until((tmp_path / "mark").exists)
        _, queued = service.start("wait_for", waits, key="queued")
        service.process.kill()
        service.process.wait()
    with served(tmp_path) as service:
        assert service.start("echo_in_loop", {"a": "1"}, key="done") == (200, done)
        for run, key, error in ((begun, "begun", CUT_OFF), (queued, "queued", NEVER_BEGUN)):
            told = service.status(run["run_id"])
            assert (told["status"], told["error"]) == ("failure", error)
            assert service.start("wait_for", waits, key=key) == (200, told)
        assert service.start("echo_in_loop", {"a": "2"}, key="done")[0] == 422
        worker = int((tmp_path / "mark").read_text())
        wait_until(lambda: not is_alive(worker))


@pytest.mark.long
def test_what_was_answered_for_is_known_after_a_kill_under_load(tmp_path: Path) -> None:
    """Eight clients start as fast as they can when the service is killed: no run that they were told is unknown."""
    told: list[str] = []

    def start_many(service_url: str) -> None:
        with httpx.Client(base_url=service_url, trust_env=False, verify=False) as http:
            while True:
                try:
                    answer = http.post("/v2/tasks/echo_in_loop/run", json={"input_params": {}})
                    told.append(answer.json()["run_id"])
                except httpx.HTTPError:
                    return

    with served(tmp_path) as service, ThreadPoolExecutor(8) as clients:
        for _ in range(8):
            clients.submit(start_many, service.url)
        wait_until(lambda: len(told) > 100)
        service.process.kill()
    with served(tmp_path) as service:
        assert {service.status(run_id)["status"] for run_id in told} <= {"success", "failure"}


@pytest.mark.long
def test_fifty_starts_with_one_key_run_the_task_once(tmp_path: Path) -> None:
    """Over fifty connections at once, and again after a kill."""
    together = threading.Barrier(50)

    def start(url: str) -> str:
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False, verify=False) as http:
            together.wait()
            body = {"input_params": {"file": str(tmp_path / "count")}}
            answer = http.post("/v2/tasks/count_me/run", json=body, headers={"Idempotency-Key": '"one"'})
            return str(answer.json()["run_id"])

    def start_together(service: Served) -> str:
        with ThreadPoolExecutor(50) as clients:
            (run_id,) = set(clients.map(start, [service.url] * 50))
        wait_until(lambda: service.status(run_id)["status"] == "success")
        return run_id

    with served(tmp_path) as service:
        run_id = start_together(service)
        service.process.kill()
    with served(tmp_path) as service:
        assert start_together(service) == run_id
    assert (tmp_path / "count").read_text() == "."


@pytest.mark.long
def test_stopping_lets_runs_end_within_the_grace(tmp_path: Path) -> None:
    """A run that ends in time succeeds; one that has not begun is cancelled; new starts are told to come later."""
    waits = {"mark": str(tmp_path / "mark"), "until": str(tmp_path / "go")}
    with served(tmp_path, "--workers", "1", "--grace", "60s") as service:
        _, begun = service.start("wait_for", waits)
        wait_until((tmp_path / "mark").exists)
        _, queued = service.start("wait_for", waits)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: service.http.get("/healthz").status_code == 503)
        answer = service.http.post("/v2/tasks/echo/run", json={"input_params": {}})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert service.status(begun["run_id"])["status"] == "running"
        (tmp_path / "go").touch()
        _, rest = service.process.communicate(timeout=PATIENCE)
        assert (service.process.returncode, rest) == (
            0,
            "batch-runner: stopping: 1 run has 60 s to end (again: none)\n",
        )
    with served(tmp_path) as service:
        assert service.status(begun["run_id"])["result"] == "done"
        told = service.status(queued["run_id"])
        assert (told["status"], told["error"]) == ("cancelled", "The service was stopped before the run had begun.")


@pytest.mark.long
@pytest.mark.parametrize("how", ["the grace is over", "a second signal"])
def test_what_is_cut_is_cancelled_and_known_after_a_restart(tmp_path: Path, how: str) -> None:
    """After the grace, or at once with a second signal."""
    waits = {"mark": str(tmp_path / "mark"), "until": str(tmp_path / "never")}
    with served(tmp_path, "--grace", "1h" if how == "a second signal" else "0") as service:
        _, run = service.start("wait_for", waits)
        wait_until((tmp_path / "mark").exists)
        if how == "a second signal":
            service.process.send_signal(signal.SIGINT)
            wait_until(lambda: service.http.get("/healthz").status_code == 503)
        assert service.end()[0] == 0
    with served(tmp_path) as service:
        told = service.status(run["run_id"])
        assert (told["status"], told["error"]) == ("cancelled", "The service was stopped before the run had ended.")


@pytest.mark.long
def test_a_queue_that_is_full_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    """429 with Retry-After and no run; nothing of it stands in the file."""
    waits = {"mark": str(tmp_path / "mark"), "until": str(tmp_path / "go")}
    with served(tmp_path, "--workers", "1", "--queue", "2") as service:
        taken = [service.start("wait_for", waits, key=str(number)) for number in range(3)]
        assert [code for code, _ in taken] == [200] * 3
        assert service.start("wait_for", waits, key="3")[0] == 429
        (tmp_path / "go").touch()
        wait_until(lambda: service.status(taken[2][1]["run_id"])["status"] == "success")
        assert service.start("wait_for", waits, key="3")[0] == 200
    with closing(sqlite3.connect(tmp_path / "batch-runner-runs.db")) as connection:
        assert connection.execute("SELECT group_concat(key, '') FROM run").fetchone() == ("0123",)


@pytest.mark.long
def test_one_service_at_a_time_holds_its_runs(tmp_path: Path) -> None:
    """The second ends with 6 and a sentence that names the first; the lock dies with its process."""
    with served(tmp_path) as service:
        second = run_program("serve", "--port", "0", cwd=tmp_path)
        assert second.returncode == 6
        assert f"another service holds these runs: process {service.process.pid}, since 20" in second.stderr
        assert second.stderr.count("\n") == 1
        service.process.kill()
        service.process.wait()
    with served(tmp_path) as service:
        assert service.end() == (0, "")


@pytest.mark.long
def test_its_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """What holds results can be read by nobody else, while it runs and after; it is named where it begins."""
    with served(tmp_path, "--runs", "mine.db") as service:
        _, run = service.start("echo_in_loop")
        wait_until(lambda: service.status(run["run_id"])["status"] == "success")
        assert "mine.db" in service.said
        files = sorted(tmp_path.glob("mine.db*"))
        assert {file.name for file in files} >= {"mine.db", "mine.db-wal", "mine.db-shm"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files if file.suffix != ".db-lock"} == {0o600}
        assert service.end() == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.db"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_other_machines_are_let_in_only_with_a_key(tmp_path: Path, host: str) -> None:
    """Without one it does not begin, says why in one sentence, and leaves no file."""
    refused = run_program("serve", "--port", "0", "--host", host, cwd=tmp_path)
    assert refused.returncode == 2
    assert "ANCHORBROWSER_API_KEY" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("key", [{}, {"ANCHORBROWSER_API_KEY": "k-secret"}])
@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", ""])
def test_a_host_that_does_not_exist_is_not_said_to_let_others_in(
    tmp_path: Path, host: str, key: dict[str, str]
) -> None:
    """With a key or without, it is named as what it is: a mistyped one."""
    refused = run_program("serve", "--port", "0", "--host", host, cwd=tmp_path, **key)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"batch-runner: --host {host or repr(host)}: there is no such host")
    assert refused.stderr.count("\n") == 1


def test_with_a_key_it_listens_for_others_under_any_name(tmp_path: Path) -> None:
    """It can't know all its names; who has no key is let in under none."""
    with served(tmp_path, "--host", "0.0.0.0", ANCHOR_API_KEY="k-secret") as service:
        port = service.url.rpartition(":")[2]
        url = f"http://127.0.0.2:{port}/v2/tasks/runs/run_0/status"
        for host in ("invoices.example", "127.0.0.1"):
            for key, code in (("k-secret", 404), ("k-wrong", 401)):
                headers = {"host": host, "anchor-api-key": key}
                assert httpx.get(url, headers=headers, trust_env=False).status_code == code


@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0.1"])
def test_this_machines_own_addresses_need_no_key(tmp_path: Path, host: str) -> None:
    """It answers under all names of the loopback, and no other."""
    if host == "::1" and not _has_ipv6():
        pytest.skip("there is no IPv6 here")
    with served(tmp_path, "--host", host) as service:
        names = {
            "localhost": 200,
            "[::1]:80": 200,
            "127.0.0.1:1": 200,
            "evil.example": 400,
            "127.0.0.1.evil.example": 400,
        }
        for name, code in names.items():
            assert service.http.get("/healthz", headers={"host": name}).status_code == code


def test_bodies_are_limited_whether_their_length_is_told_or_not(tmp_path: Path) -> None:
    """413 before the body has come, if its length was told; else as soon as it is too much. The service goes on."""
    with served(tmp_path) as service:
        url = httpx.URL(service.url)
        head = "POST /v2/tasks/echo_in_loop/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection((url.host, url.port or 80)) as sock:
            sock.sendall(f"{head}Content-Length: {BODY_LIMIT + 1}\r\n\r\n".encode())
            assert sock.recv(12) == b"HTTP/1.1 413"
        chunks = (b" " * 65536 for _ in range(200))
        answer = service.http.post(
            "/v2/tasks/echo_in_loop/run", content=chunks, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 413
        assert service.start("echo_in_loop")[0] == 200


def test_the_client_learns_what_it_can_do(tmp_path: Path) -> None:
    """Our own client sees the features, sends key and row, and is given the same run twice."""

    async def main(url: str) -> None:
        from batch_runner.service.protocol import RunRequest, Started, StartRequest

        async with client_of(url) as client:
            features = await client.capabilities()
            assert features.row_number
            assert features.is_one_run(features.memory, 0.0)
            request = RunRequest(input_params={}, sync=True)
            first, second = [
                await client.start(StartRequest("tell_context", request, 'a "key"', row, 30)) for row in (17, 18)
            ]
            assert isinstance(first, Started)
            assert isinstance(second, Started)
            assert first.run == second.run
            assert b'"row":17' in bytes(first.run.result)

    with served(tmp_path) as service:
        anyio.run(main, service.url)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--keep", "soon"), ("--keep", "0"), ("--grace", "-1s"), ("--queue", "0"), ("--runs", "no/such/folder.db")],
)
def test_an_option_that_makes_no_sense_is_one_sentence(tmp_path: Path, option: str, value: str) -> None:
    """It names the option, and nothing is left behind."""
    refused = run_program("serve", "--port", "0", option, value, cwd=tmp_path)
    assert refused.returncode == 2
    assert option in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not any(tmp_path.iterdir())


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_it_says_which_tasks_it_has(tmp_path: Path) -> None:
    """A client that asks for one finds its name here: once for each, under its short id."""
    with served(tmp_path) as service:
        said = service.tasks.removeprefix("batch-runner: tasks: ").strip().split(", ")
    assert {"invoice", "echo_in_loop", "wait_for"} <= set(said)
    assert len(said) == len(set(said))
    assert not [name for name in said if ".py" in name]
