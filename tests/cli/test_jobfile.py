"""`init`: a job file for a sheet that a person can edit who has never seen one, and that passes `check` as it is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from datetime import date
from pathlib import Path, PureWindowsPath

import openpyxl
import pytest
from csvfiles import csv_text
from hypothesis import given
from hypothesis import strategies as st
from program import PATIENCE, run_program
from systems import needs_posix, slashes

from batch_runner.cli.init import job_file, look
from batch_runner.errors import UsageError, quote_words
from batch_runner.job.config import load_job
from batch_runner.job.inputs import night_job_of
from batch_runner.job.options import options, toml, windows_lines
from batch_runner.rows.source import Profile, Source

HEADERS = ("Invoice No", "Vendor", "Amount", "Due", "Days")
ROWS = (("R-1", "ann", "10.50", "2026-01-01", "3"), ("R-2", "ann", "7.00", "2026-01-02", "3"), ("R-3", "", "", "", "4"))
HOSTILE = ('Net "in €"\n# key = ["x"]', "back\\slash\t", "]\n[param]", "\x7f\x85\u2028", "{Vendor}", "ünï ☃", "'''")


@pytest.fixture
def invoices(tmp_path: Path) -> Path:
    path = tmp_path / "invoices.csv"
    path.write_text(csv_text(HEADERS, *ROWS), "utf-8", newline="")
    return path


def workbook(folder: Path, name: str, *, hide: bool = False, headers: tuple[str, ...] = HEADERS) -> Path:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = name
    book.active.append(headers)
    for row in ROWS:
        book.active.append(row[: len(headers)] + ("x",) * (len(headers) - len(row)))
    book.active.row_dimensions[3].hidden = hide
    book.create_sheet("Second").append(["A"])
    book.save(folder / "invoices.xlsx")
    return folder / "invoices.xlsx"


def without_hash(text: str) -> dict[str, str]:
    """Each option's line with its `#` taken away."""
    lines = [line.removeprefix("# ") for line in text.split("\n")]
    return {name: line for name in options() for line in lines if line.startswith(f"{name} = ")}


def test_what_a_sheet_shows(invoices: Path) -> None:
    """Which columns could be a key, which hold amounts, and whether there are hidden rows."""
    seen = look(invoices, None)
    assert seen.columns == HEADERS
    assert (seen.different, seen.amounts, seen.hidden) == (("Invoice No",), ("Amount",), False)
    book = workbook(invoices.parent, "May", hide=True)
    assert look(book, None).hidden
    assert look(book, None).sheet == "May"


def test_it_is_short(invoices: Path) -> None:
    """About 15 lines; `help jobs` lists the rest, each option with its sentence."""
    text = job_file(invoices, invoices.parent, look(invoices, None), {})
    assert len(text.splitlines()) <= 15
    assert tomllib.loads(text) == {"input": "invoices.csv", "total": ["Amount"]}
    told = " ".join(run_program("help", "jobs", cwd=invoices.parent).stdout.split())
    assert all(f"- {option.name}: {option.help.split()[0]}" in told for option in options().values())


@pytest.mark.parametrize("name", ["task", "service", "columns", "key", "report", "retry", "deadline"])
def test_every_line_makes_sense_when_its_hash_is_taken_away(invoices: Path, name: str) -> None:
    """Whichever option a person switches on, the job and its columns pass."""
    lines = without_hash(job_file(invoices, invoices.parent, look(invoices, None), {}))
    job = invoices.with_name("nightly.toml")
    job.write_text(f'input = "invoices.csv"\n{lines[name]}\n', "utf-8")
    (planned,) = night_job_of(load_job(str(job), {}, {}).job, date(2026, 11, 4)).batches
    with Source(planned.job, invoices.parent) as source:
        assert len(list(source.rows())) == source.total


def test_the_columns_are_filled_in(invoices: Path) -> None:
    """Keys are suggested from columns whose values are all different, totals from amounts."""
    lines = without_hash(job_file(invoices, invoices.parent, look(invoices, None), {}))
    assert lines["key"].startswith('key = ["Invoice No"]')
    assert lines["columns"].startswith('columns = ["Invoice No", "Vendor", "Amount", "Due", "Days"]')


@pytest.mark.parametrize(
    ("texts", "is_amount"),
    [
        (("1.234,50", "7,00", ""), True),
        (("1.234,50 €", "-7,00 €"), True),
        (("1.234", "12,50"), True),
        (("1'234.50", "7.00 CHF"), True),
        (("1.234", "2.345"), False),
        (("00123", "00124"), False),
        (("01.02.2026", "02.02.2026"), False),
        (("3", "4"), False),
        (("12,5 %", "7,5 %"), False),
        (("10,00", "offen"), False),
    ],
)
def test_amounts_are_proposed_as_totals_in_any_locale(tmp_path: Path, texts: tuple[str, ...], is_amount: bool) -> None:
    """Decimal commas, currencies and grouped thousands; no numbers of another kind."""
    path = tmp_path / "rechnungen.csv"
    path.write_text("Nr;Wert\n" + "".join(f"R-{n};{text}\n" for n, text in enumerate(texts)), "utf-8")
    assert look(path, None).amounts == (("Wert",) if is_amount else ())


def test_a_header_that_speaks_of_money_needs_no_decimals(tmp_path: Path) -> None:
    """Whole amounts are amounts under `Betrag`."""
    (tmp_path / "r.csv").write_text("Nr;Betrag;Tage\nR-1;100;3\nR-2;250;4\n")
    assert look(tmp_path / "r.csv", None).amounts == ("Betrag",)


def test_a_cell_that_is_refused_hides_no_column_of_amounts(tmp_path: Path) -> None:
    """An error among the amounts, or among the keys, is one row's; the column is proposed all the same."""
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in (["Nr", "Betrag"], ["R-1", "1.234,50 €"], ["R-2", "#N/A"], ["#N/A", "7,00 €"], ["R-4", "8,00 €"]):
        book.active.append(row)
    book.save(tmp_path / "r.xlsx")
    seen = look(tmp_path / "r.xlsx", None)
    assert (seen.amounts, seen.different) == (("Betrag",), ("Nr",))


def test_flags_say_what_a_terminal_would_ask(invoices: Path) -> None:
    """Task, key and columns stand in the job as said, and it passes `check`."""
    words = ("--task", "invoice", "--key", "Invoice No", "--columns", "Invoice No,Amount", "--service", "local")
    done = run_program("init", "invoices.csv", *words, cwd=invoices.parent)
    assert (done.returncode, done.stderr) == (0, "")
    job = tomllib.loads((invoices.parent / "nightly.toml").read_text("utf-8"))
    assert job == {
        "input": "invoices.csv",
        "task": "invoice",
        "service": "local",
        "columns": ["Invoice No", "Amount"],
        "key": ["Invoice No"],
        "total": ["Amount"],
    }


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        pytest.param("--cron", ("15 2 * * *", " run ", "nightly.toml --quiet"), marks=needs_posix),
        ("--systemd", ("[Service]", "ExecStart=", "[Timer]", "NoNewPrivileges=yes", "OnCalendar=")),
        ("--container", ("FROM ", 'CMD ["run", "/data/nightly.toml"]', "podman run", ":/data")),
        ("--windows", ("Register-ScheduledTask", "-Daily -At 02:15")),
    ],
)
def test_what_runs_a_job_is_printed(invoices: Path, flag: str, words: tuple[str, ...]) -> None:
    """For a job that is there, and for a sheet, whose job is written first; nothing is installed."""
    folder = invoices.parent
    first = run_program("init", "invoices.csv", flag, cwd=folder)
    again = run_program("init", "nightly.toml", flag, cwd=folder)
    assert (first.returncode, again.returncode) == (0, 0)
    assert first.stdout == again.stdout
    assert all(word in again.stdout for word in words)


def words_of_windows(line: str) -> list[str]:
    """The words that a program of Windows takes a line for, by the rules of its C library (CommandLineToArgvW)."""
    words, quoted = list[str](), False
    for piece in re.findall(r'\\+"|\\+|"|[ \t]+|[^\\" \t]+', f" {line}"):
        slashes, quote = piece.rstrip('"'), piece.endswith('"')
        if piece.isspace() and not quoted:
            words.append("")
        elif quote:
            words[-1] += "\\" * (len(slashes) // 2) + ('"' if len(slashes) % 2 else "")
            quoted ^= not len(slashes) % 2
        else:
            words[-1] += piece
    return words


@pytest.mark.parametrize("folder", [r"C:\Users\Ann O'Neil\it’s mine", "\\\\server\\share", r"D:\a"])
@pytest.mark.parametrize("program", [(), (r"C:\Program Files\py\python.exe", "-m", "batch_runner")])
def test_the_task_of_windows_runs_the_job(folder: str, program: tuple[str, ...]) -> None:
    """Whatever is in its path: PowerShell gives the words on to the letter, and the program takes them apart again."""
    job = PureWindowsPath(folder) / "my job.toml"
    text = windows_lines(job, "batch-runner-my-job", program)
    given = {
        name: re.sub("(['‘’‚‛])\\1", r"\1", quoted)
        for name, quoted in re.findall(r"-(\w+) '((?:[^'‘’]|''|’’)*)'", text)
    }
    words = [*program[1:], "run", str(job), "--log-file", str(job.with_suffix(".log"))]
    assert words_of_windows(given["Argument"]) == words
    assert given["WorkingDirectory"] == str(job.parent)
    assert given.get("Execute", "") == (program[0] if program else "")
    assert "ANCHORBROWSER_API_KEY_FILE" in text
    assert not re.search("ANCHORBROWSER_API_KEY['=]", text)


def test_a_path_that_the_scheduler_would_change() -> None:
    """`%NAME%` is a variable there, and nothing says that it isn't one."""
    with pytest.raises(UsageError, match="takes what stands between two %"):
        windows_lines(PureWindowsPath(r"C:\%USERNAME%\job.toml"), "name")
    assert "100% mine" in windows_lines(PureWindowsPath(r"C:\100% mine\job.toml"), "name")


def test_the_containerfile_can_be_executed(invoices: Path) -> None:
    """What it copies has the program's pyproject.toml, and its entry runs the job of the folder that is mounted."""
    folder = invoices.parent
    (folder / "tasks.py").write_text("async def pay(params): return params\n")
    (folder / "nightly.toml").write_text('input = "invoices.csv"\ntask = "tasks.py:pay"\nkey = ["Invoice No"]\n')
    told = run_program("init", "nightly.toml", "--container", cwd=folder).stdout
    lines = dict(line.split(" ", 1) for line in told.splitlines() if line and not line.startswith("#"))
    assert (lines["COPY"], lines["WORKDIR"]) == (". /src", "/data")
    assert lines["RUN"].startswith("pip install --no-cache-dir /src && useradd --create-home ")
    assert json.loads(lines["ENTRYPOINT"]) == ["batch-runner"]
    words = [word.replace("/data", str(folder)) for word in json.loads(lines["CMD"])]
    done = run_program(*words, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze isn't installed")
def test_the_unit_is_hardened(invoices: Path) -> None:
    """`systemd-analyze security` gives it at most 4 of 10 points of exposure."""
    text = run_program("init", "invoices.csv", "--systemd", cwd=invoices.parent).stdout
    unit = invoices.parent / "nightly.service"
    unit.write_text(text.partition("# /etc/systemd/system/batch-runner-nightly.timer")[0])
    words = ("systemd-analyze", "security", "--offline=true", "--threshold=40", str(unit))
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_text_in_toml(text: str) -> None:
    """Whatever stands in a header comes back to the letter."""
    assert tomllib.loads(f"x = {toml(text)}\ny = {toml({text: [text]})}") == {"x": text, "y": {text: [text]}}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True), st.text())
def test_no_header_breaks_out_of_its_comment(columns: list[str], name: str) -> None:
    """A header with a line break, a quote or a hash in it says nothing but its name."""
    name = (
        "".join(letter for letter in name if letter not in {"/", "\0", os.sep} and not 0xD800 <= ord(letter) < 0xE000)
        or "a"
    )
    names = tuple(columns)
    seen = Profile(sheet=name, header_row=1, columns=names, different=names, amounts=names, hidden=False)
    text = job_file(Path(f"/in/{name}.csv"), Path("/in"), seen, {"sheet": name})
    assert tomllib.loads(text) == {"input": f"{name}.csv", "sheet": name, "total": columns}
    for option, line in without_hash(text).items():
        assert list(tomllib.loads(line)) == [option]


@pytest.mark.parametrize("name", ["May 'quoted' ☃", 'Net "in €"'])
def test_a_hostile_sheet_passes_check(tmp_path: Path, name: str) -> None:
    """What `init` writes for it is a job as it stands."""
    workbook(tmp_path, name, hide=True, headers=HOSTILE)
    done = run_program("init", "invoices.xlsx", "--sheet", name, "-o", "a.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "it leaves hidden rows out (see its line hidden)" in done.stdout
    assert tomllib.loads((tmp_path / "a.toml").read_text("utf-8")) == {
        "input": "invoices.xlsx",
        "sheet": name,
        "hidden": "skip",
        "total": [HOSTILE[2]],
    }
    checked = run_program("check", "a.toml", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert len(json.loads(checked.stdout)["columns"]) == len(HOSTILE)


def test_paths_are_relative_to_the_job(tmp_path: Path, invoices: Path) -> None:
    """A job in another folder finds its sheet from wherever it is called."""
    (tmp_path / "jobs").mkdir()
    assert run_program("init", invoices, "-o", "jobs/n.toml", cwd=tmp_path).returncode == 0
    assert slashes(tomllib.loads((tmp_path / "jobs" / "n.toml").read_text("utf-8"))["input"]) == "../invoices.csv"
    assert run_program("check", tmp_path / "jobs" / "n.toml", cwd=Path("/")).returncode == 0


def test_a_file_that_is_there_is_kept(invoices: Path) -> None:
    """A job that somebody has edited isn't written over; `-` prints instead."""
    job = invoices.with_name("nightly.toml")
    job.write_text("mine")
    done = run_program("init", "invoices.csv", cwd=invoices.parent)
    assert done.returncode == 2
    assert "nightly.toml: there is such a file already, which is kept; name another with -o" in done.stderr
    assert job.read_text() == "mine"
    printed = run_program("init", "invoices.csv", "-o", "-", cwd=invoices.parent)
    assert tomllib.loads(printed.stdout) == {"input": "invoices.csv", "total": ["Amount"]}
    assert run_program("init", "invoices.csv", "-o", "no/n.toml", cwd=invoices.parent).returncode == 2


def test_the_column_of_files_is_proposed_for_the_task_that_reads_them(tmp_path: Path) -> None:
    """Under the name that it takes: who takes the hash away has a job that can run."""
    path = tmp_path / "a.csv"
    path.write_text("Nr,PDF\nR-1,a.pdf\nR-2,b.pdf\n")
    (line,) = [line for line in job_file(path, tmp_path, look(path, None), {}).splitlines() if "rename" in line]
    assert line.startswith('# rename = { "PDF" = "File Name" }')


def test_rows_that_look_like_totals_are_spoken_of(tmp_path: Path) -> None:
    """They would be refused night for night: the job names them, and carries what a person says of them."""
    path = tmp_path / "a.csv"
    path.write_text(csv_text(("Id", "Amount", "Note"), *((str(n), "1.50", "x") for n in range(6)), ("Total", "", "9")))
    (line,) = [line for line in job_file(path, tmp_path, look(path, None), {}).splitlines() if "suspect" in line]
    assert line.startswith('# suspect_rows = "skip"  # row 8: a total or a note?')
    assert run_program("init", "a.csv", "--suspect-rows", "skip", cwd=tmp_path).returncode == 0
    checked = run_program("check", "nightly.toml", "--json", cwd=tmp_path)
    assert (checked.returncode, json.loads(checked.stdout)["rows"]) == (0, 6)


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--suspect-rows", "no"), "'no' is none of run, skip"), (("--key", '"a'), "'\"a' is not a list of names")],
)
def test_an_option_that_makes_no_sense_is_refused(invoices: Path, words: tuple[str, str], said: str) -> None:
    """As `run` refuses it (2), and no job is written."""
    done = run_program("init", "invoices.csv", *words, cwd=invoices.parent)
    assert (done.returncode, f"{words[0]}: {said}" in done.stderr) == (2, True), done.stderr
    assert not (invoices.parent / "nightly.toml").exists()


def test_a_sheet_that_can_not_be_used(tmp_path: Path) -> None:
    """No job for it: the sentence is that of `check`."""
    (tmp_path / "twins.csv").write_text("A,A\n1,2\n")
    done = run_program("init", "twins.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "two headers are 'A'" in done.stderr
    assert "no such file" in run_program("init", "none.csv", cwd=tmp_path).stderr
    assert not (tmp_path / "nightly.toml").exists()


def test_a_name_that_is_no_text_is_refused(invoices: Path) -> None:
    """TOML holds text only."""
    strange = invoices.with_name("caf\udce9.csv")
    with pytest.raises(UsageError, match="holds bytes that are no text; rename the file"):
        job_file(strange, invoices.parent, look(invoices, None), {})


TYPED = st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.text('ab \\"')
HARD_WORDS = st.sampled_from([r"C:\in\a b.csv", "C:\\a b\\", "A,B", "Invoice No", '7" pipe', ""])


@given(st.lists(TYPED | HARD_WORDS, min_size=1))
def test_words_are_quoted_for_the_system(words: list[str]) -> None:
    """What we propose can be typed as it stands: to a shell of POSIX, and on Windows, where ' is a letter."""
    assert shlex.split(quote_words(words, windows=False)) == words
    assert words_of_windows(quote_words(words, windows=True)) == words
    assert "'" not in quote_words(["batch-runner", "--key", "Invoice No,Amount"], windows=True)
