"""The samples are what their scripts make, and the sheets name files that are there."""

from __future__ import annotations

import csv
import json
import runpy
import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest
from program import run_program

from batch_runner import Context

SAMPLES = Path(__file__).parent.parent / "samples"


def test_the_invoices_are_made_to_the_byte(tmp_path: Path) -> None:
    """Run again, the script changes nothing; a PDF that it doesn't make isn't among them."""
    runpy.run_path(str(SAMPLES / "make_invoices.py"))["make"](tmp_path)
    assert pdfs(tmp_path) == pdfs(SAMPLES / "invoices")
    assert len(list((SAMPLES / "invoices").glob("*.pdf"))) >= 12


def pdfs(folder: Path) -> dict[str, bytes]:
    """All PDFs under a folder; of the scan only its name, as its image is compressed and zlibs differ."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.pdf")}
    return {name: b"" if name.endswith("scan.pdf") else content for name, content in found.items()}


@pytest.mark.parametrize("name", ["invoices.xlsx", "problems.xlsx"])
def test_the_workbooks_are_made_to_the_cell(tmp_path: Path, name: str) -> None:
    """Run again, the script gives the same cells with the same formats."""
    runpy.run_path(str(SAMPLES / "make_sheets.py"))["make"](tmp_path)
    assert cells(tmp_path / name) == cells(SAMPLES / name)


def cells(path: Path) -> list[tuple[object, str]]:
    (sheet,) = openpyxl.load_workbook(path).worksheets
    return [(cell.value, cell.number_format) for row in sheet.iter_rows() for cell in row]


def test_the_csv_is_made_to_the_byte(tmp_path: Path) -> None:
    """Run again, the script gives the same bytes."""
    runpy.run_path(str(SAMPLES / "make_sheets.py"))["make"](tmp_path)
    assert (tmp_path / "invoices.csv").read_bytes() == (SAMPLES / "invoices.csv").read_bytes()


def test_the_decorated_task_is_an_ordinary_function() -> None:
    """As README calls it: the due day minus two."""
    plan_payment = runpy.run_path(str(SAMPLES / "my_tasks.py"))["plan_payment"]
    context = Context("run", "session", "samples")
    told = plan_payment("Harbour Paper", Decimal(5), date(2026, 2, 16), "a.pdf", context=context)
    assert told == {"pay": "5.00", "to": "Harbour Paper", "on": "2026-02-14", "by": "transfer", "for": "a.pdf"}


@pytest.mark.long
def test_the_decorated_task_plans_every_row_of_the_csv(tmp_path: Path) -> None:
    """Two amounts are above its limit, all others are planned."""
    shutil.copy(SAMPLES / "invoices.csv", tmp_path)
    done = run_program("run", "invoices.csv", "--task", f"{SAMPLES / 'my_tasks.py'}:plan_payment", cwd=tmp_path)
    assert "14 rows in" in done.stdout
    assert ": 12 success, 2 failure" in done.stdout


@pytest.mark.long
def test_the_job_checks_and_runs(tmp_path: Path) -> None:
    """`samples/nightly.toml` works as it stands, from any folder, and a second night has nothing to send."""
    shutil.copytree(SAMPLES, tmp_path / "samples")
    assert run_program("check", "samples/nightly.toml", cwd=tmp_path).returncode == 0
    for carried in (0, 14):
        done = run_program("run", "samples/nightly.toml", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["carried"] == carried
    assert (tmp_path / "samples" / "invoices.nightly.results.xlsx").is_file()
    assert (tmp_path / "samples" / "invoice.journal.db").is_file()


def test_every_file_that_the_csv_names_is_there() -> None:
    """The sheet names every invoice among the samples, and no other file."""
    with (SAMPLES / "invoices.csv").open(encoding="utf-8", newline="") as file:
        names = [row["File Name"] for row in csv.DictReader(file)]
    assert {SAMPLES / name for name in names} == set((SAMPLES / "invoices").glob("*.pdf"))
