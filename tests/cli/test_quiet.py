"""A night under cron: an empty environment, no terminal, another folder; `--quiet` says nothing while all is well."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ping_server import ping_server
from program import COMMAND, PATIENCE, run_program

from batch_runner.progress import MOST_HELD, HeldBack

TASKS = """
import anyio

async def go(params):
    await anyio.sleep(float(params["Seconds"]))
    if params["Note"] == "bad":
        raise ValueError("no good")
    return params
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sheet whose runs take long enough for a line of progress; its last row fails."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text("Note,Seconds\na,1.2\nb,0\nbad,0\n")
    return tmp_path


def words(folder: Path, *options: object, command: str = "run") -> list[str]:
    """The command line, whose paths are found from any folder."""
    return [command, str(folder / "sheet.csv"), "--task", f"{folder / 'tasks.py'}:go", *map(str, options)]


def from_elsewhere(
    folder: Path, *options: object, command: str = "run", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run it from the folder `/`, where only its words and code are looked at."""
    return run_program(*words(folder, *options, command=command), cwd=Path("/"), **variables)


def cron(folder: Path, *options: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """As cron runs it: `env -i`, no HOME, the folder `/`."""
    variables["BATCH_RUNNER_STATE"] = str(folder / "state")
    empty = ("env", "-i", "PATH=/usr/bin:/bin", "LANG=C", *(f"{name}={text}" for name, text in variables.items()))
    return subprocess.run(
        [*empty, *COMMAND, *words(folder, *options)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.long
def test_no_byte_on_success(folder: Path) -> None:
    """Neither progress, nor notes, nor a warning, nor the summary: cron sends no mail. A second night is as quiet."""
    options = ("--rows", "2-3", "--key", "Note", "--quiet", "--log-level", "info")
    for _ in range(2):
        done = cron(folder, *options, BATCH_RUNNER_LIMT="5")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "sheet.results.csv").exists()


@pytest.mark.long
def test_without_it_the_same_night_speaks(folder: Path) -> None:
    """So the silence is the option's."""
    done = cron(folder, "--rows", "2-3", BATCH_RUNNER_LIMT="5")
    assert "2 success" in done.stdout
    assert "2/2 done" in done.stderr
    assert "BATCH_RUNNER_LIMT: no such option" in done.stderr


@pytest.mark.long
def test_all_that_matters_where_a_row_fails(folder: Path) -> None:
    """The summary as usual, and the warnings that were kept back; no line of progress."""
    done = from_elsewhere(folder, "--quiet", BATCH_RUNNER_LIMT="5")
    assert done.returncode == 3
    assert "2 success, 1 failure" in done.stdout
    assert "BATCH_RUNNER_LIMT: no such option" in done.stderr
    assert "done," not in done.stderr


def test_what_is_wrong_is_always_said(folder: Path) -> None:
    """A sheet that isn't there is one sentence on stderr, whatever was asked for; so is a value that makes no sense."""
    done = from_elsewhere(folder, "--quiet", "--limit", "many")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    (folder / "sheet.csv").unlink()
    done = from_elsewhere(folder, "--quiet")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file" in done.stderr


def test_a_program_that_asks_for_json_gets_it(folder: Path) -> None:
    """`--quiet` is about people."""
    done = from_elsewhere(folder, "--rows", "3", "--quiet", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["counts"] == {"success": 1}


def test_a_heartbeat_that_fails_makes_no_noise(folder: Path) -> None:
    """The night went well; that its heartbeat did not stands in the log file."""
    with ping_server(lambda _: 404) as server:
        variables = {"BATCH_RUNNER_HEARTBEAT": f"{server.url}/u", "BATCH_RUNNER_LOG_FILE": str(folder / "night.log")}
        done = from_elsewhere(folder, "--rows", "3", "--quiet", **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / "night.log").read_text().count("the heartbeat could not be sent: the answer was 404") == 2


def test_check_shows_what_it_shows(folder: Path) -> None:
    """`check` is there to be read: only the job in force tells the two apart."""
    quiet, plain = (from_elsewhere(folder, *options, command="check").stdout for options in (("--quiet",), ()))
    assert quiet.partition("the job in force")[0] == plain.partition("the job in force")[0] != ""


def test_what_is_kept_back_has_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines are kept, and it is said that there were others; what comes afterwards is said at once."""
    held = HeldBack()
    for number in range(MOST_HELD + 5):
        held.say(f"line {number}")
    assert capsys.readouterr().err == ""
    held.release()
    held.say("afterwards")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "… 5 lines before these were not kept"
    assert lines[1:] == [*(f"line {number}" for number in range(5, MOST_HELD + 5)), "afterwards"]
