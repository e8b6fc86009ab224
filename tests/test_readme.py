"""What README and the help topics say is what the program does: their commands, jobs, code and tables are tried."""

from __future__ import annotations

import csv
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from contextlib import ExitStack
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import openpyxl
import pytest
from dask_cluster import wait
from distributed import Client
from ports import kept_port
from program import environment, run_program

import batch_runner
from batch_runner import Context
from batch_runner.cli.commands import program
from batch_runner.cli.options import FOLDER, keep_said, topics
from batch_runner.job.config import load_job
from batch_runner.job.options import OF_SERVE, options, variable_of
from batch_runner.journal.index import STATE_VARIABLE

ROOT = Path(__file__).parent.parent
PACKAGE = Path(batch_runner.__file__).parent
SAMPLES = ROOT / "samples"
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = {"README": README} | {path.stem: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.md"))}
JOBS = [(name, job) for name, text in DOCUMENTS.items() for job in re.findall(r"```toml\n(.+?)```", text, re.DOTALL)]
FOREIGN = {"--dist", "--host", "--hypothesis-profile", "--now", "--nthreads", "--nworkers"}
"""Options of other programs."""
SECRETS = {"PING_ID": "ping", "MAIL_PASSWORD": "word", "SLACK": "slack://TA/TB/TC", "ANCHORBROWSER_API_KEY": "a key"}
COMMAND = re.compile(rf"\bbatch-runner ((?:{'|'.join(program.commands)})\b.*)")
every_document = pytest.mark.parametrize("name", DOCUMENTS)


def code_lines(text: str) -> list[str]:
    """The lines of all blocks of code, and each piece of code within a line."""
    blocks = re.findall(r"^```\w*\n(.+?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.+?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^    (\S.*)", prose, re.MULTILINE)
    return [*indented, *(line for block in blocks for line in block.splitlines()), *re.findall(r"`([^`\n]+)`", prose)]


def commands(text: str) -> list[list[str]]:
    """The words of each command line of ours, without the program's name."""
    found = filter(None, map(COMMAND.search, code_lines(text)))
    return [shlex.split(line[1], comments=True) for line in found]


@every_document
def test_every_command_is_understood(name: str) -> None:
    """Each command line that stands there parses, with values that make sense; a job file's own are tried below."""
    for word, *arguments in commands(DOCUMENTS[name]):
        if arguments == ["--help"] or not arguments:
            continue
        given = program.commands[word].make_context(word, list(arguments)).params
        if word in ("run", "check"):
            source = given.pop("source")
            if source.endswith(".toml"):  # it isn't there: its sheet, or the one that is said for it, stands for it
                source = given.pop("input") or "invoices.xlsx"
            load_job(source, keep_said(given), {})
        if word == "help":
            assert given["topic"] in topics()


@every_document
def test_every_option_and_variable_exists(name: str) -> None:
    """Whatever looks like an option of ours, or a variable for one, is one."""
    flags = {flag for command in program.commands.values() for param in command.params for flag in param.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", DOCUMENTS[name])) <= flags | FOREIGN | {"--help"}
    variables = {STATE_VARIABLE, *(variable_of(option) for option in (*options(), *OF_SERVE))}
    assert set(re.findall(r"(?<!_)BATCH_RUNNER_[A-Z_]+", DOCUMENTS[name])) <= variables


def write_sheet(path: Path, *rows: tuple[object, ...], formats: tuple[str, ...] = ()) -> None:
    """A workbook with these rows; `formats` are those of the cells of its second row."""
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append([*row])
    for cell, code in zip(book.active[2], formats, strict=False):
        cell.number_format = code
    path.parent.mkdir(exist_ok=True)
    book.save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the samples, and the sheets that the job files name."""
    shutil.copytree(SAMPLES, tmp_path / "samples")
    (tmp_path / "done").mkdir()
    for name in ("invoices.xlsx", "inbox/a.xlsx", f"inbox/invoices-{date.today().isoformat()}.xlsx"):
        write_sheet(tmp_path / name, ("Vendor", "Invoice No", "File Name", "Amount"), ("ACME", "1", "a.pdf", 5))
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize(("name", "job"), JOBS, ids=[f"{name}{number}" for number, (name, _) in enumerate(JOBS)])
def test_every_job_passes_check(folder: Path, name: str, job: str) -> None:
    """Each job file that is shown is a whole one: `check` finds nothing wrong with it."""
    (folder / "nightly.toml").write_text(job, "utf-8")
    done = run_program("check", "nightly.toml", cwd=folder, **SECRETS)
    assert done.returncode == 0, done.stderr


def sessions(text: str) -> list[tuple[str, str]]:
    """Each command that stands behind a `$`, with what is shown below it."""
    blocks = re.findall(r"```text\n(\$ .+?)```", text, re.DOTALL)
    return [
        (command, shown)
        for block in blocks
        for command, shown in re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", block, re.MULTILINE)
    ]


def pattern_of(shown: str) -> str:
    """What is shown as a pattern: `…` is any text, on a line of its own any lines, and times are any times."""
    lines = (r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in shown.splitlines())
    return re.sub(r"\d+\\\.\d\\ s\b", r"\\d+\\.\\d s", "".join(lines))


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="its workers are ended by a signal")
def test_the_cluster_to_try_comes_up(folder: Path) -> None:
    """Its three lines, each typed when the one before has started (on a port that is free here).

    Then a task of one's own runs there, and a worker is retired: one in three leaves.
    """
    found = re.findall(r"```sh\n(.+?)```", DOCUMENTS["dask"], re.DOTALL)
    with kept_port() as port, ExitStack() as stack:
        lines, own, retire = (text.replace("8786", str(port)) for text in found)
        scheduler, workers, run = lines.splitlines()
        for line, started in ((scheduler, "Scheduler at:"), (workers, "Registered to:")):
            command, log = shlex.split(line), folder / f"{started[:-1]}.log"
            with log.open("w") as file:
                program = [str(Path(sys.executable).with_name(command[0])), *command[1:]]
                process = stack.enter_context(subprocess.Popen(program, cwd=folder, env=environment(), stderr=file))
            stack.callback(process.terminate)
            wait(partial(lambda log, started: started in log.read_text(), log, started))
        done = run_program(*shlex.split(run)[1:], cwd=folder)
        checked = run_program(*shlex.split(own)[1:], cwd=folder)
        subprocess.run([sys.executable, *shlex.split(retire)[1:]], check=True, cwd=folder)
        with Client(f"tcp://127.0.0.1:{port}", set_as_default=False) as client:
            wait(lambda: len(client.nthreads()) == 2)
    assert done.returncode == 0, done.stderr
    assert "14 success" in done.stdout
    assert "14 success" in checked.stdout, checked.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, text in DOCUMENTS.items() if sessions(text)])
def test_every_session_goes_as_it_is_shown(folder: Path, name: str) -> None:
    """Typed one after another, the commands behind a `$` print what stands below them."""
    job = next(job for document, job in JOBS if document == name)
    (folder / "nightly.toml").write_text(job, "utf-8")
    code = None
    for command, shown in sessions(DOCUMENTS[name]):
        if command == "echo $?":
            assert shown == f"{code}\n"
            continue
        done = run_program(*shlex.split(command)[1:], cwd=folder, **SECRETS)
        code = done.returncode
        assert re.fullmatch(pattern_of(shown), done.stdout), done.stdout + done.stderr


def tables(text: str) -> list[list[list[str]]]:
    """The rows of each table, headers first."""
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    rows = ([[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()] for table in found)
    return [[row for row in table if set("".join(row)) != {"-"}] for table in rows]


@pytest.mark.long
def test_three_rows_before_and_after(tmp_path: Path) -> None:
    """The first table of README, run, is the second one; `…` stands for any text."""
    before, after = tables(README)[:2]
    with (tmp_path / "before.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(before)
    files = ("--files", SAMPLES / "invoices", "--param", "Operation=extract_fields")
    assert run_program("run", "before.csv", "--task", "invoice", *files, cwd=tmp_path).returncode == 3
    with (tmp_path / "before.results.csv").open(newline="", encoding="utf-8-sig") as file:
        found = list(csv.reader(file))
    for shown, row in zip(after, found, strict=True):
        for cell, text in zip(shown, row, strict=True):
            assert re.fullmatch(re.escape(cell).replace("…", ".*"), text), (cell, text)


CELLS: dict[str, tuple[object, str]] = {
    "`1,234.50 €`": (1234.5, '#,##0.00 "€"'),
    "`-1,234.50` or `(1,234.50)`": (-1234.5, "#,##0.00;(#,##0.00)"),
    "an accounting dash for zero": (0, '_-* #,##0.00_-;-* #,##0.00_-;_-* "-"??_-;_-@_-'),
    "the same, where amounts have no decimals": (0, '_-* #,##0\\ "€"_-;\\-* #,##0\\ "€"_-;_-* "-"\\ "€"_-'),
    "`1,235`, in thousands by its format `#,##0,`": (1234567, "#,##0,"),
    "`19.5%`": (0.195, "0.0%"),
    "`00123`, as text or by its format": (123, "00000"),
    "`28/02/2026`, a date": (date(2026, 2, 28), "dd/mm/yyyy"),
    "`28.2.26 14:05`, a date with a time": (46081.586805555556, "d.m.yy hh:mm"),
    "`14:05`, a time": (0.5868055555555556, "hh:mm"),
    "`30:15`, hours counted with `[h]:mm`": (timedelta(hours=30, minutes=15), "[h]:mm"),
    "`TRUE`": (True, "General"),
    "`1,234.50 kg`": (1234.5, '#,##0.00" kg"'),
    "`(555) 123-4567`": (5551234567, "[<=9999999]###\\-####;\\(###\\)\\ ###\\-####"),
    "`INV-5`": (5, '"INV-"0'),
    "`KW 12`": (12, '"KW "0'),
    "`17/2026`": (17, '0"/2026"'),
    "`EUR 5`": (5, '"EUR "0'),
    "`5 kg`": (5, '0" kg"'),
}
"""How the cells of the first two tables in `help cells` are made: their value and their number format."""


def test_cells_are_sent_as_the_table_says(tmp_path: Path) -> None:
    """Each row of the first two tables in `help cells` is what `check` says of such a cell."""
    rows = [(shown, sent) for table in tables(DOCUMENTS["cells"])[:2] for shown, sent, *_ in table[1:]]
    values, formats = zip(*(CELLS[shown] for shown, _ in rows), strict=True)
    write_sheet(tmp_path / "cells.xlsx", tuple(f"c{number}" for number in range(len(rows))), values, formats=formats)
    done = run_program("check", "cells.xlsx", "--json", cwd=tmp_path)
    assert list(json.loads(done.stdout)["first"][0]["params"].values()) == [sent.strip("`") for _, sent in rows]


def python_blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.+?)```", DOCUMENTS[name], re.DOTALL)


def test_the_first_task_works_as_it_stands(folder: Path) -> None:
    """Copied into a file, with the command that stands below it: every row of the sample succeeds."""
    (folder / "my_task.py").write_text(python_blocks("tasks")[0])
    command = next(words for words in commands(DOCUMENTS["tasks"]) if "my_task.py:gross" in words)
    done = run_program(*command, cwd=folder)
    assert (done.returncode, "14 success" in done.stdout) == (0, True), done.stderr


def test_the_tasks_are_those_of_the_samples() -> None:
    """The functions that `help tasks` shows stand in samples/my_tasks.py, but for their docstrings."""
    sample = re.sub(r'\n    """.+"""', "", (SAMPLES / "my_tasks.py").read_text("utf-8"))
    shown = [block for block in python_blocks("tasks") if "LIMIT" in block]
    assert len(shown) == 2
    assert all(block in sample for block in shown)


def test_a_task_is_called_as_it_is_shown() -> None:
    """The call of `plan_payment` gives a plan."""
    names = {**runpy.run_path(str(SAMPLES / "my_tasks.py")), "Decimal": Decimal, "date": date, "Context": Context}
    call = next(block for block in python_blocks("tasks") if block.startswith("plan_payment("))
    assert eval(call, names)["on"] == "2026-02-14"


@pytest.mark.long
def test_the_library_example_runs(folder: Path) -> None:
    """The program in `help library` runs all rows of the sample."""
    (folder / "example.py").write_text(python_blocks("library")[0])
    command = [sys.executable, "example.py"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 14 ")


def test_a_log_line_is_as_it_is_shown(folder: Path) -> None:
    """A line about a row's end has just the facts of the one in `help logs`."""
    shown = json.loads(re.findall(r"```json\n(.+?)```", DOCUMENTS["logs"], re.DOTALL)[0])
    log = ("--log-level", "info", "--log-format", "json", "--limit", "1")
    done = run_program("run", "samples/invoices.csv", "--task", "invoice", *log, cwd=folder)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [list(line) for line in lines if line["event"] == shown["event"]] == [list(shown)]


def test_the_units_of_systemd_are_whole() -> None:
    """What `help nights` shows of systemd can be read, and is started by the command that the rest of it names."""
    units = [ConfigParser(strict=True) for _ in range(2)]
    for unit, text in zip(units, re.findall(r"```ini\n(.+?)```", DOCUMENTS["nights"], re.DOTALL), strict=True):
        unit.read_string(text)
    assert units[0]["Service"]["ExecStart"].endswith("batch-runner run /srv/invoices/nightly.toml")
    assert units[1]["Timer"]["OnCalendar"] == "*-*-* 02:15"


def test_the_request_of_serve_is_one_of_the_api() -> None:
    """The `curl` of `help serve` sends params as JSON to a task's address."""
    command = re.findall(r"^curl .+?[^\\]\n", DOCUMENTS["serve"], re.DOTALL | re.MULTILINE)[0]
    words = shlex.split(command.replace("\\\n", " "))
    assert any(word.endswith("/v2/tasks/invoice/run") for word in words)
    assert "input_params" in json.loads(words[words.index("-d") + 1])


def test_the_commands_of_readme_are_those_of_the_gate_and_the_samples() -> None:
    """`.ci/run` holds README's test command to the letter; the first command names what is there."""
    first, tests = re.findall(r"```sh\n(.+)\n```", README)
    assert tests in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    words = shlex.split(first.rpartition("&&")[2])
    assert (words[:2], words[3:]) == ([".venv/bin/batch-runner", "run"], ["--task", "invoice"])
    assert (ROOT / words[2]).is_file()


def test_readme_leads_to_what_is_there() -> None:
    """Its links lead to headings and files that exist; its doors, all topics; it has 300 lines at most."""
    anchors = {
        "#" + re.sub(r"[^\w -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.+)", README, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link in anchors or link.startswith("https://") or (ROOT / link).exists(), link
    doors = README.partition("## Where to start")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(?:batch-runner help )?(\w+)`", doors)) == set(topics())
    assert len(README.splitlines()) <= 300


def test_readme_lists_the_rooms() -> None:
    """The listing in README has every room at the top of the package and no other; changes go where something is."""
    listing = re.findall(r"^batch_runner/\n((?:  .+\n)+)", README, re.MULTILINE)[0]
    names = {line.split()[0].rstrip("/") for line in listing.splitlines()}
    assert names == {path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and path.name[0] != "_"}
    table = README.partition("Where a change goes:")[2]
    for place in re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", table):
        assert (PACKAGE / place).exists() or (ROOT / place).exists(), place


def test_what_the_code_quotes_of_readme_is_there() -> None:
    """A docstring that names a part of README, or a topic, names one that exists."""
    headings = re.findall(r"^#+ (.+)", README, re.MULTILINE)
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        assert set(re.findall(r"README, \*([^*]+)\*", text)) <= set(headings), path.name
        assert set(re.findall(r"`batch-runner help (\w+)`", text)) <= set(topics()), path.name
