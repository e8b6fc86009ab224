"""`init`: a job file for a sheet that a person can edit who has never seen one, and that passes `check` as it is."""

from __future__ import annotations

import json
import tomllib
from datetime import date
from pathlib import Path

import openpyxl
import pytest
from csvfiles import csv_text
from hypothesis import given
from hypothesis import strategies as st
from program import run_program

from batch_runner.cli.init import Seen, job_file, look, toml
from batch_runner.errors import UsageError
from batch_runner.job.config import load_job
from batch_runner.job.inputs import night_job_of
from batch_runner.job.options import options
from batch_runner.rows.source import Source

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


def test_every_option_stands_in_it_with_its_help(invoices: Path) -> None:
    """Nothing has to be looked up: each option has its line and its sentence."""
    text = job_file(invoices, invoices.parent, look(invoices, None), said_sheet=False)
    wanted = [option for option in options().values() if not option.flag_only]
    assert list(without_hash(text)) == [option.name for option in wanted]
    assert all(f"# {option.help}\n" in text for option in wanted)
    assert tomllib.loads(text) == {"input": "invoices.csv"}


NEEDS = {"unique_conflict": "unique", "log_rotate": "log_file", "send_files": "dask"}
"""Options that make sense only with another one."""


@pytest.mark.parametrize("name", [name for name, option in options().items() if not option.flag_only])
def test_every_line_makes_sense_when_its_hash_is_taken_away(invoices: Path, name: str) -> None:
    """Whichever option a person switches on, the job and its columns pass."""
    path = workbook(invoices.parent, "May") if name == "sheet" else invoices
    lines = without_hash(job_file(path, path.parent, look(path, None), said_sheet=False))
    job = invoices.with_name("nightly.toml")
    more = lines[NEEDS[name]] if name in NEEDS else ""
    job.write_text(f'input = "{path.name}"\n{more}\n{lines[name]}\n', "utf-8")
    (planned,) = night_job_of(load_job(str(job), {}, {}).job, date(2026, 11, 4)).batches
    with Source(planned.job, invoices.parent) as source:
        assert len(list(source.rows())) == source.total


def test_the_columns_are_filled_in(invoices: Path) -> None:
    """Keys are suggested from columns whose values are all different, totals from amounts."""
    lines = without_hash(job_file(invoices, invoices.parent, look(invoices, None), said_sheet=False))
    assert lines["key"] == 'key = ["Invoice No"]'
    assert lines["total"] == 'total = ["Amount"]'
    assert lines["columns"] == 'columns = ["Invoice No", "Vendor", "Amount", "Due", "Days"]'
    assert lines["journal"] == 'journal = "TASK_ID.journal.db"'


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_text_in_toml(text: str) -> None:
    """Whatever stands in a header comes back to the letter."""
    assert tomllib.loads(f"x = {toml(text)}\ny = {toml({text: [text]})}") == {"x": text, "y": {text: [text]}}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, unique=True), st.text())
def test_no_header_breaks_out_of_its_comment(columns: list[str], name: str) -> None:
    """A header with a line break, a quote or a hash in it says nothing but its name."""
    name = "".join(letter for letter in name if letter not in "/\0" and not 0xD800 <= ord(letter) < 0xE000) or "a"
    names = tuple(columns)
    seen = Seen(sheet=name, header_row=1, columns=names, different=names, amounts=names, hidden=False)
    text = job_file(Path(f"/in/{name}.csv"), Path("/in"), seen, said_sheet=True)
    assert tomllib.loads(text) == {"input": f"{name}.csv", "sheet": name}
    for option, line in without_hash(text).items():
        assert list(tomllib.loads(line)) == [option]


@pytest.mark.parametrize("name", ["May 'quoted' ☃", 'Net "in €"'])
def test_a_hostile_sheet_passes_check(tmp_path: Path, name: str) -> None:
    """What `init` writes for it is a job as it stands."""
    workbook(tmp_path, name, hide=True, headers=HOSTILE)
    done = run_program("init", "invoices.xlsx", "--sheet", name, "-o", "a.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert tomllib.loads((tmp_path / "a.toml").read_text("utf-8")) == {
        "input": "invoices.xlsx",
        "sheet": name,
        "hidden": "skip",
    }
    checked = run_program("check", "a.toml", "--json", cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert len(json.loads(checked.stdout)["columns"]) == len(HOSTILE)


def test_paths_are_relative_to_the_job(tmp_path: Path, invoices: Path) -> None:
    """A job in another folder finds its sheet from wherever it is called."""
    (tmp_path / "jobs").mkdir()
    assert run_program("init", invoices, "-o", "jobs/n.toml", cwd=tmp_path).returncode == 0
    assert tomllib.loads((tmp_path / "jobs" / "n.toml").read_text("utf-8"))["input"] == "../invoices.csv"
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
    assert tomllib.loads(printed.stdout) == {"input": "invoices.csv"}
    assert run_program("init", "invoices.csv", "-o", "no/n.toml", cwd=invoices.parent).returncode == 2


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
        job_file(strange, invoices.parent, look(invoices, None), said_sheet=False)
