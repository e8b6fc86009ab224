"""What a service says is shown, and never obeyed: controls, escapes and marks of direction are escaped everywhere."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from program import COMMAND, PATIENCE, environment, run_program
from remembering_service import Service, on_a_socket

from batch_runner.errors import printable

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe \x9b31m \u2066x\u2069 \r"


@pytest.mark.parametrize("json_log", [False, True])
def test_no_text_of_a_service_reaches_a_terminal_a_log_or_a_mail_raw(tmp_path: Path, *, json_log: bool) -> None:
    """Its error stands in the summary, on stderr, in the log, in `status`: with escapes that can be read."""
    (tmp_path / "task.py").write_text(f"async def fail(params):\n    raise ValueError({HOSTILE!r})\n")
    (tmp_path / "in.csv").write_text("Row\n1\n")
    words = ("--task", "task.py:fail", "--log-file", "log.txt", "--log-level", "debug")
    form = ("--log-format", "json", "--json") if json_log else ()
    done = run_program("run", "in.csv", *words, *form, cwd=tmp_path)
    assert done.returncode == 3
    told = run_program("status", *tmp_path.glob("*.journal.db"), "--row", "2", cwd=tmp_path)
    for text in (done.stdout, done.stderr, told.stdout, (tmp_path / "log.txt").read_text()):
        assert printable(text) == text
    assert "\\u001b[2J" in done.stdout
    assert "\\u202e" in done.stdout
    if json_log:
        assert HOSTILE.rstrip() in json.loads(done.stdout)["failures"][0]["error"]


def test_a_run_id_is_shown_so_too(tmp_path: Path) -> None:
    """As it stands in a message, line ends and tabs alone are left."""
    assert printable("a\tb\nc\x00\x7f\u200f") == "a\tb\nc\\u0000\\u007f\\u200f"
    with on_a_socket(Service(looks=1)) as service:
        (tmp_path / "in.csv").write_text("Row\nr\u202e1\n", "utf-8")
        done = run_program("run", "in.csv", "--task", "pay", "--service", service.url, cwd=tmp_path)
    assert printable(done.stdout) == done.stdout


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["cp437", "cp1252"])
def test_a_console_without_the_letters(tmp_path: Path, encoding: str) -> None:
    """What a console of Windows can't show is shown as an escape, in JSON as JSON's own; nothing is lost by it."""
    (tmp_path / "Ωμέγα.csv").write_text("Ψ €,ø 𝄞\n1,—\n", "utf-8")
    (tmp_path / "task.py").write_text("async def pay(params):\n    return {}\n")
    words = ("Ωμέγα.csv", "--task", "task.py:pay")
    for command in (("check", *words, "--json"), ("check", *words), ("run", *words)):
        done = subprocess.run(
            [*COMMAND, *command],
            cwd=tmp_path,
            env=environment(PYTHONIOENCODING=encoding, PYTHONUTF8="0"),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        text = done.stdout.decode(encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        if "--json" in command:
            assert "Ψ €" in json.dumps(json.loads(text), ensure_ascii=False)
        assert "Ωμέγα.csv" in re.sub(r"\\u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)), text)
