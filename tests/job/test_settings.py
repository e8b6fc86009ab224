"""Flags, environment and a job file become one job, and every mistake is told with the place where it stands."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from batch_runner.errors import UsageError
from batch_runner.job.config import load_job, unknown_variables
from batch_runner.job.job import Job
from batch_runner.job.options import describe_job, options

if TYPE_CHECKING:
    from pathlib import Path


def job_file(folder: Path, text: str) -> Path:
    path = folder / "night.toml"
    path.write_text(text, "utf-8")
    return path


def job_of(source: str, flags: dict[str, object], environ: dict[str, str]) -> Job:
    return load_job(source, flags, environ).job


def problems(source: str, flags: dict[str, object], environ: dict[str, str]) -> list[str]:
    """The lines of what is said against it."""
    with pytest.raises(UsageError) as caught:
        load_job(source, flags, environ)
    return str(caught.value).splitlines()


def test_flag_beats_environment_beats_job_file_beats_default(tmp_path: Path) -> None:
    """The nearest to the person wins, each option for itself."""
    path = job_file(tmp_path, 'input = "a.csv"\nlimit = 1\ncanary = 1\nworkers = 1')
    environ = {"BATCH_RUNNER_LIMIT": "2", "BATCH_RUNNER_CANARY": "2"}
    job = job_of(str(path), {"limit": "3"}, environ)
    assert (job.limit, job.canary, job.workers, job.concurrency) == (3, 2, 1, 5)


def test_a_log_file_is_not_the_job_file(tmp_path: Path) -> None:
    """Nor is a journal: it would be the end of the job, by whatever path."""
    path = job_file(tmp_path, 'input = "a.csv"\nlog_file = "x/../night.toml"')
    assert problems(str(path), {}, {}) == [
        f"{path}: log_file: {tmp_path / 'x' / '..' / 'night.toml'} is the job file itself; name another file"
    ]
    assert problems(str(path), {"log_file": "a.log", "journal": str(path)}, {}) == [
        f"--journal: {path} is the job file itself; name another file"
    ]


def test_a_list_that_is_said_again_replaces_the_other(tmp_path: Path) -> None:
    """Lists and tables aren't mixed from several sources: who says columns, says all of them."""
    path = job_file(tmp_path, 'input = "a.csv"\ncolumns = ["A", "B"]\n[param]\nx = "1"\ny = "2"')
    job = job_of(str(path), {"param": ("z=3",)}, {"BATCH_RUNNER_COLUMNS": "C"})
    assert (job.columns, job.param) == (("C",), {"z": "3"})


@pytest.mark.parametrize(
    ("toml", "environ", "flags", "label"),
    [
        ("limit = 0", {}, {}, "night.toml: limit: 0 is too low"),
        ("limit = 1", {"BATCH_RUNNER_LIMIT": "0"}, {}, "BATCH_RUNNER_LIMIT: 0 is too low"),
        ("limit = 1", {"BATCH_RUNNER_LIMIT": "2"}, {"limit": "0"}, "--limit: 0 is too low"),
        ('limit = "x"', {}, {}, "night.toml: limit: 'x' is not a whole number"),
        ("", {"BATCH_RUNNER_RUN_TIMEOUT": "soon"}, {}, "BATCH_RUNNER_RUN_TIMEOUT: 'soon' is not a duration"),
        ("", {}, {"run_timeout": "soon"}, "--run-timeout: 'soon' is not a duration"),
        ("", {}, {"param": ("x",)}, "--param: 'x' is not of the form NAME=VALUE"),
        ("", {"BATCH_RUNNER_COLUMNS": "A"}, {"exclude": ("B",)}, "BATCH_RUNNER_COLUMNS, --exclude: say one of them"),
    ],
)
def test_a_mistake_is_told_where_it_stands(
    tmp_path: Path, toml: str, environ: dict[str, str], flags: dict[str, object], label: str
) -> None:
    """A message begins with the flag, variable or key of the file that is to be mended, not with our field."""
    (line,) = problems(str(job_file(tmp_path, f'input = "a.csv"\n{toml}')), flags, environ)
    assert line.removeprefix(f"{tmp_path}{os.sep}").startswith(label)


def test_all_problems_of_all_sources_at_once(tmp_path: Path) -> None:
    """A person mends everything in one go: unknown keys, unreadable values and senseless ones, whoever said them."""
    path = job_file(tmp_path, 'input = "a.csv"\nlimt = 5\nheader_row = "x"\nrate = "1"')
    lines = problems(str(path), {"rows": "9-1", "canary": "y"}, {"BATCH_RUNNER_JSON": "z"})
    assert [re.split(r"[ :]", line.removeprefix(f"{path}: "))[0] for line in lines] == [
        "limt",
        "header_row",
        "--canary",
        "BATCH_RUNNER_JSON",
        "--rows",
        "rate",
    ]


def test_a_file_that_can_not_be_parsed_hides_no_other_problem(tmp_path: Path) -> None:
    """The line and column of what is no TOML, and what is wrong with flags and variables, in one go."""
    path = job_file(tmp_path, 'input = "a.csv"\nrate = 25/min')
    lines = problems(str(path), {"limit": "0"}, {"BATCH_RUNNER_CANARY": "x"})
    assert "at line 2, column 10" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:]] == ["BATCH_RUNNER_CANARY", "--limit"]


def test_a_table_of_options_is_told_how_to_write_them(tmp_path: Path) -> None:
    """Options stand at the top of the file, in no table of their own."""
    (line,) = problems(str(job_file(tmp_path, 'input = "a.csv"\n[limits]\nrate = "1/s"\ncanary = 3')), {}, {})
    assert line.endswith("limits: no such key. Write rate, canary without [limits] above, at the top of the file.")


def test_places_and_patterns_are_looked_at_with_all_else(tmp_path: Path) -> None:
    """A slip in a file's name is told with its key; one output for every sheet of a pattern is refused."""
    text = 'input = "in/*.csv"\noutput = "out.csv"\njournal = "{dat}.db"\nreport = "r.html"\nlog_file = "{stem}.log"'
    lines = problems(str(job_file(tmp_path, text)), {"limit": "0"}, {})
    assert [line.removeprefix(f"{tmp_path / 'night.toml'}: ").partition(":")[0] for line in lines] == [
        "journal",
        "output",
        "log_file",
        "--limit",
    ]
    assert "Did you mean date?" in lines[0]
    assert "put {stem} into it" in lines[1]


@pytest.mark.parametrize("day", ["tomorrow", "2026-13-01", "24.11.2026", "2026-11-4"])
def test_a_day_that_is_none(day: str) -> None:
    """`--date` is a day of the calendar, or a word for one."""
    (line,) = problems("a.csv", {"date": day}, {})
    assert line.startswith(f"--date: '{day}' is no")


def test_a_day_in_toml_needs_no_quotes(tmp_path: Path) -> None:
    """TOML has days of its own."""
    assert job_of(str(job_file(tmp_path, 'input = "a.csv"\ndate = 2026-11-24')), {}, {}).date == "2026-11-24"


@pytest.mark.parametrize(
    ("toml", "flags"), [("heartbeat = 5", {}), ('notify = ["hush", 5]', {}), ("", {"notify": ('"hush',)})]
)
def test_an_address_that_may_be_secret_is_not_repeated(tmp_path: Path, toml: str, flags: dict[str, object]) -> None:
    """Whoever knows a heartbeat's address can write to it: no message holds it."""
    (line,) = problems(str(job_file(tmp_path, f'input = "a.csv"\n{toml}')), flags, {})
    assert "hush" not in line


def test_where_each_value_came_from(tmp_path: Path) -> None:
    """Every option has its value and its source, None for the default; what may be secret is only said to be set."""
    path = job_file(tmp_path, 'input = "a.csv"\nrate = "1/s"\nheartbeat = "https://hush"')
    loaded = load_job(str(path), {"limit": "3"}, {"BATCH_RUNNER_CANARY": "2"})
    told = {origin.option: (origin.value, origin.where) for origin in loaded.origins}
    assert list(told) == sorted(options(), key=lambda name: name != "input")
    assert told["rate"] == ("1/s", f"{path}: rate")
    assert told["limit"] == (3, "--limit")
    assert told["canary"] == (2, "BATCH_RUNNER_CANARY")
    assert told["concurrency"] == (5, None)
    assert told["heartbeat"] == ("(set)", f"{path}: heartbeat")


@pytest.mark.parametrize(
    ("key", "hint"),
    [("colums", "Did you mean columns?"), ("header-row", "Did you mean header_row?"), ("zzz", "no such key.")],
)
def test_an_unknown_key_is_refused(tmp_path: Path, key: str, hint: str) -> None:
    """A slip in a job file is no silent default."""
    (line,) = problems(str(job_file(tmp_path, f'input = "a.csv"\n{key} = 5')), {}, {})
    assert f"{key}: no such key." in line
    assert line.endswith(hint)


@pytest.mark.parametrize("key", ["api_key", "API_KEY", "anchor-api-key", "ANCHORBROWSER_API_KEY", "apikey"])
def test_a_secret_in_a_job_file_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    """A key that would be committed with the job is refused; its value is in no message."""
    (line,) = problems(str(job_file(tmp_path, f'input = "a.csv"\n{key} = "sk-hunter2"')), {}, {})
    assert "put it into ANCHORBROWSER_API_KEY" in line
    assert "hunter2" not in line


def test_paths_of_a_job_file_are_relative_to_it(tmp_path: Path) -> None:
    """A job can be run from any folder: its files stand where it stands. Absolute paths stay, and so do flags'."""
    text = 'input = "a.csv"\noutput = "../b.csv"\njournal = "/var/j.db"\nfiles = "pdf"\ntask = "tasks.py:pay"'
    path = job_file(tmp_path, text)
    job = job_of(str(path), {}, {})
    assert job.input_path == tmp_path / "a.csv"
    assert job.output_path == tmp_path / ".." / "b.csv"
    assert job.journal_path == (tmp_path / "/var/j.db")
    assert job.files_path == tmp_path / "pdf"
    assert job.task == f"{tmp_path / 'tasks.py'}:pay"
    assert job_of(str(path), {"output": "c.csv"}, {}).output == "c.csv"
    assert job_of(str(path), {"task": "invoice"}, {}).task == "invoice"


def test_a_task_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """Only `FILE.py:FUNCTION` is a path; a task's id is not."""
    assert job_of(str(job_file(tmp_path, 'input = "a.csv"\ntask = "invoice"')), {}, {}).task == "invoice"


def test_a_job_file_holds_lists_tables_and_texts(tmp_path: Path) -> None:
    """In TOML a list is taken to the letter, a text as on the command line, a table as pairs, a time as a time."""
    path = job_file(
        tmp_path,
        'input = "a.csv"\ncolumns = ["Net, in €", "B"]\nkey = "\\"Net, in €\\",B"\nsend_empty = true\n'
        'deadline = 06:00:00\nmax_failures = 5\n[rename]\n"Net, in €" = "net"\n[param]\nNote = "{B}"',
    )
    job = job_of(str(path), {}, {})
    assert job.columns == ("Net, in €", "B")
    assert job.key == ("Net, in €", "B")
    assert (job.send_empty, job.deadline, job.max_failures) == (True, "06:00:00", 5)
    assert (job.rename, job.param) == ({"Net, in €": "net"}, {"Note": "{B}"})


def test_pairs_in_the_environment_stand_on_lines() -> None:
    """A variable holds several pairs, one a line, since a value may hold a comma."""
    job = job_of("a.csv", {}, {"BATCH_RUNNER_PARAM": "A=1, 2\nB={C}\n"})
    assert job.param == {"A": "1, 2", "B": "{C}"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limit = 5", "the job names no spreadsheet"),
        ("input = 5", "the job names no spreadsheet"),
        ("input = ", "can't be read as a job file"),
        ('input = "a.csv"\ninput = "b.csv"', "can't be read as a job file"),
        (r'input = "C:\inbox\a.csv"', "write a path of Windows in single quotes"),
        (r'input = "C:\new\table.csv"', "write a path of Windows in single quotes"),
        (r'input = "C:\to.csv"', "input: 'C:\\to.csv': a backslash in double quotes begins something else"),
    ],
)
def test_a_file_that_is_no_job(tmp_path: Path, text: str, sentence: str) -> None:
    """A broken job file is one sentence that names it."""
    path = job_file(tmp_path, text)
    (line,) = problems(str(path), {}, {})
    assert line.startswith(f"{path}: ")
    assert sentence in line


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    """No such file, a folder, or bytes that are no text: a sentence, not a traceback."""
    assert problems(str(tmp_path / "no.toml"), {}, {}) == [
        f"{tmp_path / 'no.toml'}: no such file; batch-runner init SHEET writes a job for a sheet"
    ]
    (tmp_path / "folder.toml").mkdir()
    assert "can't be read" in problems(str(tmp_path / "folder.toml"), {}, {})[0]
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\0")
    assert "can't be read" in problems(str(tmp_path / "binary.toml"), {}, {})[0]


def test_without_a_job_file_the_input_is_the_sheet() -> None:
    """Nothing said but the sheet is a job with every default."""
    assert job_of("a.csv", {}, {"HOME": "/root"}) == Job(input="a.csv")


def test_unknown_variables_are_named() -> None:
    """A slip in the environment is heard of; other programs' variables are not."""
    environ = {"BATCH_RUNNER_LIMT": "5", "BATCH_RUNNER_LIMIT": "5", "PATH": "/bin"}
    assert list(unknown_variables(environ)) == [
        "BATCH_RUNNER_LIMT: no such option; it is ignored. Did you mean BATCH_RUNNER_LIMIT?"
    ]


def test_what_check_shows_can_stand_in_a_job_file(tmp_path: Path) -> None:
    """A person tries a flag and then writes what `check` shows of it into the file: lists and pairs, whatever is in."""
    given = {"key": ("Net,C",), "rename": ("Datei=File Name", 'x "y"=ß'), "param": ("z={C}",)}
    found = load_job("a.csv", given, {})
    lines = describe_job(found.origins).splitlines()
    pattern = re.compile(r"  (key|rename|param) +(.+?) +--[a-z]+")
    shown = [f"{line[1]} = {line[2]}" for line in map(pattern.fullmatch, lines) if line]
    again = job_of(str(job_file(tmp_path, "\n".join(['input = "a.csv"', *shown]))), {}, {})
    assert len(shown) == len(given)
    assert (again.key, again.rename, again.param) == (found.job.key, found.job.rename, found.job.param)


def test_the_sheet_of_a_job_is_said_like_any_other_option(tmp_path: Path) -> None:
    """Flag before environment before job, which need name none then; a flag's path is as a person sees it."""
    environ = {"BATCH_RUNNER_INPUT": "c.csv"}
    for text in ('input = "a.csv"', ""):
        path = str(job_file(tmp_path, text))
        assert job_of(path, {"input": "b.csv"}, environ).input == "b.csv"
        assert job_of(path, {}, environ).input == "c.csv"
    assert job_of("d.csv", {}, environ).input == "d.csv"
    (line,) = problems("d.csv", {"input": "b.csv"}, {})
    assert line == "--input: it is for a job file, and d.csv is a sheet; say one of them"
