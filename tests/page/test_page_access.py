"""Who gets at the local page: the person at this machine who has its first address, and nobody else."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from paged import Paged, paged, write_sheet
from program import PATIENCE, start_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paged]:
    folder = tmp_path_factory.mktemp("payments")
    write_sheet(folder)
    (folder.parent / "secret.csv").write_text("Id\n1\n", "utf-8")
    with paged(folder) as page:
        yield page


@pytest.mark.long
def test_the_first_line_is_the_address(page: Paged) -> None:
    """The first line printed is `http://127.0.0.1:PORT/?token=…`, and nothing else."""
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32,}", page.address)


def test_without_token_or_cookie_nothing_is_shown(page: Paged) -> None:
    """Every address, known or not, is 401 for who has neither; so it is for a wrong token or cookie."""
    with page.client() as client:
        for path in ("/", "/nights", "/sheet?file=list.csv", "/events", "/static/page.css", "/nothing", "/?token=no"):
            assert client.get(path).status_code == 401, path
        assert client.post("/run", data={"file": "list.csv", "task": "tasks.py:pay"}).status_code == 401
        name = next(iter(page.http.cookies))
        assert client.get("/", headers={"Cookie": f"{name}=wrong; {name}"}).status_code == 401


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_page_has(page: Paged) -> None:
    """It is HttpOnly and SameSite=Strict, and the address that follows has no token in it."""
    with page.client() as client:
        answer = client.get(f"/?token={page.token}")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"
        assert client.get("/").status_code == 200


@pytest.mark.long
def test_what_the_browser_is_started_with_lets_in_only_once(tmp_path: Path) -> None:
    """It stands in the list of processes for everybody to read: it isn't the token, and is worth nothing afterwards."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/address\n', "utf-8")
    browser.chmod(0o700)
    process = start_program("open", tmp_path, cwd=tmp_path, BROWSER=f"{browser} %s")
    with process:
        assert process.stdout is not None
        printed = process.stdout.readline().strip()
        until = time.monotonic() + PATIENCE
        while not (tmp_path / "address").exists() and time.monotonic() < until:
            time.sleep(0.05)
        started = (tmp_path / "address").read_text("utf-8").strip()
        assert started != printed
        with httpx.Client(trust_env=False) as first:
            assert first.get(started, follow_redirects=True).status_code == 200
        assert httpx.get(started, trust_env=False).status_code == 401
        process.send_signal(signal.SIGINT)
        process.communicate()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "", "[::1]:80"])
def test_a_foreign_host_is_refused(page: Paged, host: str) -> None:
    """A name of somebody else's that leads here (DNS rebinding) is 403, even with the token and the cookie."""
    answer = page.http.get(f"/?token={page.token}", headers={"Host": host})
    assert answer.status_code in ((403,) if host else (400, 403))
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_a_foreign_origin_is_refused(page: Paged, origin: str) -> None:
    """A form or a script of another page is 403 (CSRF), whatever cookie the browser sends along."""
    assert page.http.get("/", headers={"Origin": origin}).status_code == 403
    assert page.http.post("/run", data={"file": "list.csv"}, headers={"Origin": origin}).status_code == 403


def test_a_form_of_another_site_is_refused_by_what_the_browser_says_of_it(page: Paged) -> None:
    """Where a browser leaves out the origin, it still says that the request is of another site."""
    answer = page.http.post("/run", data={"file": "list.csv"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_every_answer_allows_only_what_is_of_this_page(page: Paged) -> None:
    """The policy is `default-src 'self'` on screens, files and refusals, with no exception for scripts and styles."""
    with page.client() as stranger:
        answers = [
            page.http.get("/"),
            page.http.get("/nights"),
            page.http.get("/static/page.js"),
            page.http.get("/nothing"),
            page.http.get("/sheet?file=nothing.csv"),
            stranger.get("/"),
            page.http.get("/", headers={"Host": "evil.example"}),
        ]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in policy
        assert "style=" not in answer.text.partition("<body>")[2]


@pytest.mark.parametrize(
    "path",
    [
        "/sheet?file=../secret.csv",
        "/sheet?file=%2Fetc%2Fhostname",
        "/sheet?file=..",
        "/sheet?file=",
        "/batch?journal=../secret.csv",
        "/download?journal=%2Fetc%2Fpasswd&id=1",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/row?journal=list.csv&id=1&row=1",
    ],
)
def test_no_other_file_can_be_asked_for(page: Paged, path: str) -> None:
    """Names are those of this folder's sheets and journals; nothing leads out of it, and nothing else is sent."""
    answer = page.http.get(path)
    assert answer.status_code in (400, 404)
    assert "def make_page" not in answer.text


def test_only_this_machine_can_connect(page: Paged) -> None:
    """It listens on 127.0.0.1, and on no other address of this machine."""
    port = httpx.URL(page.base).port
    assert port
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", port), timeout=5).close()


@pytest.mark.long
def test_a_key_that_is_typed_is_never_shown_or_written(tmp_path: Path) -> None:
    """It stays in the process and its batches' environment: on no screen, in no file, and not on a command line."""
    folder = tmp_path / "payments"
    folder.mkdir()
    write_sheet(folder)
    tasks = "import os\ndef pay(params):\n    return {'has': 'ANCHORBROWSER_API_KEY' in os.environ}\n"
    (folder / "tasks.py").write_text(tasks, "utf-8")
    with paged(folder) as page:
        assert page.send("/key", key="ak-very-secret-4711").status_code == 200
        assert page.send("/key", key="two\nlines").status_code == 400
        ended = page.finish(page.send("/run", file="list.csv", task="tasks.py:pay", key=""))
        screens = [page.show(path) for path in ("/", "/nights")] + [ended]
        assert "A key is there" in screens[0]
    assert not [text for text in screens if "4711" in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"4711" in path.read_bytes()]


@pytest.mark.long
def test_ctrl_c_ends_it_quietly_though_a_screen_is_live(tmp_path: Path) -> None:
    """0, at once, with nothing said: also while a browser waits for events."""
    write_sheet(tmp_path)
    (tmp_path / "go").touch()
    with paged(tmp_path) as page:
        answer = page.send("/run", file="list.csv", task="tasks.py:wait")
        page.finish(answer)
        begun = threading.Event()

        def listen() -> None:
            try:
                with page.http.stream("GET", str(answer.url).replace("/batch", "/events")) as events:
                    for _ in events.iter_bytes():
                        begun.set()
            except httpx.HTTPError:
                begun.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert begun.wait(20)
        assert page.end() == (0, "", "")
        listener.join(20)


@pytest.mark.long
def test_what_can_not_be_opened_is_one_sentence(tmp_path: Path) -> None:
    """No such folder, and a port that is taken, are refused (2) with the next step."""
    from program import run_process

    done = run_process("open", "nowhere", "--no-browser", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "batch-runner: nowhere: no such file or folder\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run_process("open", "--no-browser", "--port", taken.getsockname()[1], cwd=tmp_path)
    assert done.returncode == 2
    assert "choose another with --port" in done.stderr
