"""`check --probe` asks the service whether key and task are right; and a key that others could read stays at home."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from program import run_program
from scripted_server import Connection, answer, serving

from batch_runner.errors import UsageError
from batch_runner.job.job import Job
from batch_runner.runner.connect import choose_service, probe_service
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.serve.server import listen

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-0123456789"


def job_of(folder: Path, service: str, task: str = "invoice", **options: object) -> Job:
    (folder / "sheet.csv").write_text("File Name\na.pdf\n")
    return Job(input=str(folder / "sheet.csv"), task=task, service=service, **options)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_our_own_service_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right key and task are told so; a wrong one is refused (2) with what to do; no run is started."""
    async with (
        LocalService(load_tasks(files=tmp_path), 1) as service,
        listen(service, api_key=KEY) as url,
    ):
        monkeypatch.setenv("ANCHORBROWSER_API_KEY", KEY)
        assert str(await probe_service(job_of(tmp_path, url))) == "key right, task right (no run was started)"
        with pytest.raises(UsageError, match=r"no task 'other'.*check --task"):
            await probe_service(job_of(tmp_path, url, "other"))
        monkeypatch.setenv("ANCHORBROWSER_API_KEY", "sk-of-somebody-else")
        with pytest.raises(UsageError, match="is wrong; check the key"):
            await probe_service(job_of(tmp_path, url))
        assert service.runs.going == ()


@pytest.mark.anyio
async def test_a_service_that_knows_no_versions(tmp_path: Path) -> None:
    """Where the service can't be asked for a task it is not told as wrong, and only looks are sent."""

    async def script(connection: Connection) -> None:
        while await connection.request():
            await connection.send(answer(b'{"error": {"code": 404, "message": "Not Found"}}', 404))

    async with serving(script) as server:
        told = await probe_service(job_of(tmp_path, server.url))
        assert (told.key, told.task) == ("right", "not told by the service")
        assert all(request.startswith(b"GET ") for request in server.requests)


@pytest.mark.anyio
async def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    """It says so, instead of showing a plan that nothing can come of."""
    with pytest.raises(UsageError, match=r"--probe: no answer .*; check --service, and whether the service runs; then"):
        await probe_service(job_of(tmp_path, "http://127.0.0.1:1"))


def test_as_a_person_does_it(tmp_path: Path) -> None:
    """The page has a line of it, and the JSON an entry; the embedded service has no key."""
    job_of(tmp_path, "local")
    told = run_program("check", "sheet.csv", "--task", "invoice", "--probe", cwd=tmp_path)
    assert "probe: key not needed, task right (no run was started)" in told.stdout
    told = run_program("check", "sheet.csv", "--task", "invoice", "--probe", "--json", cwd=tmp_path)
    assert json.loads(told.stdout)["probe"] == {"key": "not needed", "task": "right"}


@pytest.mark.parametrize(
    ("service", "options", "is_refused"),
    [
        ("http://api.example.com", {}, True),
        ("http://10.0.0.7:8080", {}, True),
        ("http://10.0.0.7:8080", {"insecure_http": True}, False),
        ("http://127.0.0.1:8080", {}, False),
        ("http://localhost:8080", {}, False),
        ("https://api.example.com", {}, False),
    ],
)
def test_the_key_goes_over_plain_http_to_this_machine_only(
    tmp_path: Path, service: str, options: dict[str, object], is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To any other it is refused before anything is sent, unless a person says that it may."""
    job = job_of(tmp_path, service, "invoice", **options)
    choose_service(job)  # without a key there is nothing to be read
    monkeypatch.setenv("ANCHORBROWSER_API_KEY", KEY)
    if not is_refused:
        choose_service(job)
        return
    with pytest.raises(UsageError, match="--insecure-http") as refused:
        choose_service(job)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("command", ["check", "run"])
def test_authorities_are_read_before_a_row_is_sent(tmp_path: Path, command: str) -> None:
    """Connections that can't be secured: 2 and one sentence, and no journal has been made."""
    (tmp_path / "in.csv").write_text("Row\n1\n")
    where = ("--service", "https://localhost:9", "--journal", "a.journal.db")
    done = run_program(command, "in.csv", "--task", "t", *where, cwd=tmp_path, SSL_CERT_FILE=str(tmp_path / "no.pem"))
    assert done.returncode == 2, done.stderr
    assert "SSL_CERT_FILE names" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.journal.db").exists()
