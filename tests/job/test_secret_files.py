"""Secrets from files: a variable with `_FILE`, and systemd's folder of credentials."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ping_server import ping_server
from program import run_program
from systems import needs_posix

from batch_runner.errors import UsageError
from batch_runner.job.validation import fill_variables, read_secret
from batch_runner.runner.connect import api_key

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("ANCHORBROWSER_API_KEY", "ANCHOR_API_KEY")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("home", ["file", "credentials", "lower credentials"])
def test_the_api_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, home: str) -> None:
    """The file's line is the key, without what an editor puts at its end."""
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    file = tmp_path / (name.lower() if home == "lower credentials" else name)
    file.write_bytes("\ufeffsecret-key\r\n".encode())
    if home == "file":
        monkeypatch.setenv(f"{name}_FILE", str(file))
    else:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert api_key() == "secret-key"
    monkeypatch.setenv(name, "said-itself")
    assert api_key() == "said-itself"


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "can't be read"), (b"", "has nothing in it"), (b"a\nb\n", "several lines"), (b"\xff\xfe", "no text")],
)
def test_a_file_that_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, why: str
) -> None:
    """One sentence that names variable and file, and nothing of what stands in it."""
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.delenv(NAMES[0], raising=False)
    monkeypatch.setenv(f"{NAMES[0]}_FILE", str(file))
    with pytest.raises(UsageError, match=rf"{NAMES[0]}_FILE: .*key.*{why}"):
        api_key()


@needs_posix
def test_a_file_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is no secret, and takes neither all memory nor all night."""
    monkeypatch.delenv(NAMES[0], raising=False)
    monkeypatch.setenv(f"{NAMES[0]}_FILE", "/dev/zero")
    with pytest.raises(UsageError, match="/dev/zero holds no text"):
        api_key()


def test_other_secrets(tmp_path: Path) -> None:
    """What `${NAME}` stands for in a URL may come from a file, too; where nothing says it, that is said."""
    (tmp_path / "PING_ID").write_text("uuid\n")
    url = "https://hc-ping.com/${PING_ID}"
    for environ in ({"PING_ID_FILE": str(tmp_path / "PING_ID")}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        assert fill_variables(url, environ) == "https://hc-ping.com/uuid"
    with pytest.raises(ValueError, match="PING_ID is not in the environment"):
        fill_variables(url, {})
    assert read_secret("PING_ID", {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) is None


@pytest.mark.parametrize("home", ["BATCH_RUNNER_HEARTBEAT_FILE", "PING_URL_FILE"])
def test_a_whole_url(tmp_path: Path, home: str) -> None:
    """The heartbeat's URL is a secret; the program pings it, and neither shows it nor wonders at the variable."""
    (tmp_path / "task.py").write_text("async def pay(params):\n    return {}\n")
    (tmp_path / "in.csv").write_text("Row\n1\n")
    with ping_server() as server:
        text = f"{server.url}/secret-uuid" if home.startswith("BATCH") else "secret-uuid"
        (tmp_path / "url").write_text(f"{text}\n")
        words = [] if home.startswith("BATCH") else ["--heartbeat", f"{server.url}/${{PING_URL}}"]
        variables = {home: str(tmp_path / "url")}
        done = run_program("run", "in.csv", "--task", "task.py:pay", *words, "--json", cwd=tmp_path, **variables)
        seen = run_program("check", "in.csv", "--task", "task.py:pay", *words, cwd=tmp_path, **variables)
    assert (done.returncode, json.loads(done.stdout)["counts"]) == (0, {"success": 1})
    assert server.paths == ["/secret-uuid/start", "/secret-uuid"]
    for text in (done.stdout, done.stderr, seen.stdout, seen.stderr):
        assert "secret-uuid" not in text
        assert "no such option" not in text


def test_a_key_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    """2, one sentence, and whoever watches the night hears of it."""
    (tmp_path / "in.csv").write_text("Row\n1\n")
    with ping_server() as server:
        words = ("--service", "anchor", "--task", "t", "--heartbeat", f"{server.url}/u")
        done = run_program("run", "in.csv", *words, cwd=tmp_path, ANCHORBROWSER_API_KEY_FILE=str(tmp_path / "none"))
    assert done.returncode == 2
    assert done.stderr.startswith("batch-runner: ANCHORBROWSER_API_KEY_FILE: ")
    assert len(done.stderr.splitlines()) == 1
    assert server.paths == ["/u/start", "/u/fail"]
