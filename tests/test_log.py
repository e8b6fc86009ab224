"""The log: what each line says, what none of them may hold, and a file that can't harm a batch."""

from __future__ import annotations

import json
import re
import stat
import sys
from typing import TYPE_CHECKING

import pytest
from disks import fill
from hypothesis import given
from hypothesis import strategies as st
from program import run_program
from systems import needs_posix

from batch_runner import log

if TYPE_CHECKING:
    from pathlib import Path

RUN = ("run", "sheet.csv", "--task", "tasks.py:go", "--progress", "never")
TASKS = """
def go(params):
    if params["Note"] == "bad":
        raise ValueError(f"no good: {params['Secret']}")
    return params
"""
CELL = "Erika Mustermann"
SHEET = f"Note,Secret\na,{CELL}\nb,{CELL}\nbad,{CELL}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text(SHEET)
    return tmp_path


def run(folder: Path, *options: object, **variables: str) -> tuple[int, str]:
    done = run_program(*RUN, *options, cwd=folder, **variables)
    return done.returncode, done.stderr


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_json_lines(folder: Path) -> None:
    """Each is one object with time, level, batch and event; each event of a row has row, attempt, and what is known."""
    code, said = run(folder, "--log-format", "json", "--log-level", "info")
    assert code == 3
    lines = lines_of(said)
    assert len(lines) == len(said.splitlines())
    if sys.platform == "win32":
        assert "has no such limit" in str(lines.pop(0)["event"])
    assert [line["event"] for line in lines[:2]] == ["journal opened", "batch began"]
    assert all(list(line)[:4] == ["time", "level", "batch", "event"] for line in lines)
    assert {line["batch"] for line in lines[1:-1]} == {"1"}
    assert lines[0]["number"] == 1
    ended = {line["row"]: line for line in lines if line["event"] == "row ended"}
    assert {row: line["status"] for row, line in ended.items()} == {2: "success", 3: "success", 4: "failure"}
    assert all(isinstance(line["duration"], float) and line["run_id"] and line["attempt"] for line in ended.values())
    assert [line["event"] for line in lines][-3:] == ["output written", "batch ended", "ended"]


def test_text_lines(folder: Path) -> None:
    """The same for people: a moment, a level, what happened, and its facts as words."""
    _, said = run(folder, "--log-level", "info")
    line = next(line for line in said.splitlines() if "row ended" in line)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info row ended batch=1 row=\d attempt=\d"
        r" run_id=\S+ status=\w+ duration=[\d.]+",
        line,
    )


def test_a_good_night_says_nothing(folder: Path) -> None:
    """At warning, which holds unless something else is said, a batch whose rows fail has nothing to log either."""
    assert run(folder) == (3, "")


@pytest.mark.long
def test_cells_and_results_stand_in_debug_only(folder: Path) -> None:
    """What a cell or an error holds is no business of a log, unless somebody looks for a fault."""
    for form in ("text", "json"):
        _, said = run(folder, "--log-level", "debug", "--log-format", form, "--retry", "all", "--retry-wait", "0")
        named = [line for line in said.splitlines() if CELL in line]
        assert named
        assert all((" debug " in line) or ('"level":"debug"' in line) for line in named)
        assert "start intended" in said


def test_the_events_of_a_second_night(folder: Path) -> None:
    """What is carried over is debug's, since it may be a million rows; the batch has the next number."""
    run(folder)
    _, said = run(folder, "--log-level", "debug", "--log-format", "json")
    carried = [line for line in lines_of(said) if line["event"] == "row carried over"]
    assert [(line["level"], line["batch"], line["row"]) for line in carried] == [
        ("debug", "2", row) for row in (2, 3, 4)
    ]


def test_an_early_stop_is_logged(folder: Path) -> None:
    """At info with its code, at debug with its reason, which may hold what an error holds."""
    code, said = run(folder, "--max-failures", "1", "--log-level", "debug", "--log-format", "json")
    assert code == 5
    stops = [line for line in lines_of(said) if line["event"] == "no more starts"]
    assert [(line["level"], line.get("exit_code"), line.get("why")) for line in stops] == [
        ("info", 5, None),
        ("debug", None, "1 row did not succeed: the failure limit is reached"),
    ]


secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


@given(secrets, st.text(max_size=20), st.sampled_from(["text", "json"]))
def test_the_key_stands_in_no_line(key: str, around: str, form: log.Form) -> None:
    """Wherever it comes from, in the event or in a fact, in whatever form of the log."""
    said: list[str] = []
    log.write_log(form, "debug", said.append, key)
    log.warning(f"{around}{key}{around}", path=f"{key}{key}", why=f"{around} {key}\n")
    (line,) = said
    told = str(json.loads(line)) if form == "json" else line
    assert key not in line.replace(log.SECRET_MARK, "")
    assert key not in told.replace(log.SECRET_MARK, "")


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_text_is_one_line(event: str, fact: str) -> None:
    """Line breaks, quotes, and bytes that are no text neither break a line nor the log."""
    for form in ("text", "json"):
        said: list[str] = []
        log.write_log("json" if form == "json" else "text", "info", said.append)
        log.info(event, fact=fact)
        assert len(said) == 1
        assert len(said[0].encode().split(b"\n")) == 1


def test_the_key_of_a_service_that_sends_it_back(folder: Path) -> None:
    """Not even at debug, where errors are told, does the log file hold it."""
    run(folder, "--log-level", "debug", "--log-file", "night.log", ANCHORBROWSER_API_KEY=CELL)
    text = (folder / "night.log").read_text()
    assert CELL not in text
    assert log.SECRET_MARK in text


def test_a_silent_level_formats_nothing() -> None:
    """What nobody hears isn't even looked at."""

    class Untouchable(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise AssertionError

        def encode(self, *_: str) -> bytes:
            raise AssertionError

    said: list[str] = []
    log.write_log("text", "warning", said.append)
    log.info("an event", fact=Untouchable("x"))
    assert said == []
    assert not log.hears_info()


@pytest.mark.long
def test_a_log_file(folder: Path) -> None:
    """It holds the same lines, from info on unless another level was said, is private, and is added to."""
    assert run(folder, "--log-file", "night.log", "--log-format", "json") == (3, "")
    first = (folder / "night.log").read_text()
    assert "row ended" in first
    assert "start intended" not in first
    assert stat.S_IMODE((folder / "night.log").stat().st_mode) == 0o600
    run(folder, "--log-file", "night.log", "--log-format", "json")
    both = (folder / "night.log").read_text()
    assert both.startswith(first)
    assert len(both) > len(first)
    run(folder, "--log-file", "strict.log", "--log-level", "error")
    assert (folder / "strict.log").read_text() == ""


def test_a_log_file_is_rotated(tmp_path: Path) -> None:
    """A new one is begun at the size that was said; five old ones are kept, as private as the first."""
    path = tmp_path / "night.log"
    log.write_log("text", "error", lambda _: None)
    log.write_log_file(path, "json", "info", 1000)
    for row in range(200):
        log.info("row ended", row=row)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["night.log", *(f"night.log.{number}" for number in range(1, 6))]
    assert all(file.stat().st_size <= 1000 for file in files)
    assert sys.platform == "win32" or {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert lines_of(path.read_text())[-1]["row"] == 199


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--log-file", "no/such/night.log"], "no/such/night.log: the log can't be written there: no such file"),
        (["--log-file", "."], "--log-file: '.': not a file; name a file to write"),
        (["--log-file", "sheet.csv"], "--log-file, INPUT: sheet.csv can't be both"),
        (["--log-file", "sheet.results.csv"], "--log-file, output: sheet.results.csv can't be both"),
        (["--log-file", "tasks.py"], "--log-file, --task: tasks.py can't be both"),
        (["--log-file", "tasks.py-go.journal.db"], "--log-file, journal: tasks.py-go.journal.db can't be both"),
        (["--log-rotate", "10MB"], "--log-rotate: there is no log file to be rotated"),
        (["--log-file", "a.log", "--log-rotate", "ten"], "--log-rotate: 'ten' is not a size"),
    ],
)
def test_a_log_file_that_can_not_be(folder: Path, options: list[str], words: str) -> None:
    """One sentence and 2 before anything is sent; no file of the night is written over with a log."""
    code, said = run(folder, *options)
    assert code == 2
    assert words in said
    assert len(said.splitlines()) == 1
    assert (folder / "sheet.csv").read_text() == SHEET
    assert not list(folder.glob("*.journal.db*"))


def test_a_log_on_a_full_disk(folder: Path, small_disk: Path) -> None:
    """The batch goes on and ends well; one line says that the log file can't be written."""
    fill(small_disk)
    code, said = run(folder, "--log-file", small_disk / "night.log")
    assert code == 3
    (line,) = said.splitlines()
    assert "warning night.log: the log file can't be written any more; the batch goes on" in line


def test_a_disk_with_room_again(tmp_path: Path, small_disk: Path) -> None:
    """What comes later is logged, with nothing of what was lost mixed into it."""
    said: list[str] = []
    log.write_log("text", "warning", said.append)
    log.write_log_file(small_disk / "night.log", "json", "info", 0)
    log.info("before")
    filler = fill(small_disk)
    for row in range(2000):
        log.info("lost", row=row)
    filler.unlink()
    log.info("after")
    text = (small_disk / "night.log").read_text()
    assert text.splitlines()[0].endswith('"event":"before"}')
    assert text.endswith('"event":"after"}\n')
    assert len(said) == 1


@needs_posix
@pytest.mark.parametrize("most_bytes", [0, 100_000])
@pytest.mark.parametrize("how", ["moved away", "removed", "emptied"])
def test_a_log_that_somebody_else_rotates(tmp_path: Path, most_bytes: int, how: str) -> None:
    """After logrotate, with `create` or `copytruncate`, the next line stands in a new file, ours alone to read."""
    path = tmp_path / "night.log"
    log.write_log("text", "error", lambda _: None)
    log.write_log_file(path, "text", "info", most_bytes)
    try:
        log.info("before")
        if how == "moved away":
            path.rename(tmp_path / "night.log.1")
        elif how == "removed":
            path.unlink()
        else:
            path.write_text("")
        log.info("after")
        log.info("still after")
    finally:
        log.write_log("text", "error", lambda _: None)
    assert [line.split()[2:] for line in path.read_text().splitlines()] == [["after"], ["still", "after"]]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if how == "moved away":
        assert "before" in (tmp_path / "night.log.1").read_text()
