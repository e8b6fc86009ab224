"""Without a key, `check`, `init` and `run` name the column, or the pair, by which a row would be known again."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from program import run_program

from batch_runner.errors import quote_words
from batch_runner.job.job import Job
from batch_runner.rows.keys import SOON, KeyFinder, NearDuplicates, _Seen
from batch_runner.rows.source import Source
from batch_runner.sheet.model import Column

if TYPE_CHECKING:
    from pathlib import Path

TASK = "def pay(params):\n    return {}\n"


def found(header: str, *rows: str) -> tuple[str, ...]:
    finder = KeyFinder([Column(name, place, chr(65 + place)) for place, name in enumerate(header.split(","))])
    for row in rows:
        finder.add(row.split(","))
    return finder.found


@pytest.mark.parametrize(
    ("header", "rows", "key"),
    [
        ("Vendor,Invoice No,Amount", ("ACME,RE-1,10.00", "ACME,RE-2,10.00"), ("Invoice No",)),
        ("Vendor,Rechnungsnummer,Betrag", ("ACME,1,10", "Bolt,2,20"), ("Rechnungsnummer",)),
        ("Vendor,Beleg,Amount", ("ACME,R1,1.50", "ACME,R2,2.50"), ("Beleg",)),
        ("Vendor,Invoice No,Amount", ("ACME,1,10", "Bolt,1,10", "ACME,2,10"), ("Vendor", "Invoice No")),
        ("No,Vendor,Amount", ("1,ACME,10.00", "2,Bolt,10.00"), ()),
        ("No,Vendor,Amount", ("7,ACME,10.00", "9,Bolt,10.00"), ("No",)),
        ("Nr,Rechnungsnr.,Betrag", ("0001,RE-7,10.00", "0003,RE-5,10.00"), ("Rechnungsnr.",)),
        ("Id,File Name,Amount", ("0001,a-7.pdf,10.00", "0002,a-5.pdf,10.00"), ("Id",)),
        ("Vendor,Beleg,Amount", ("ACME,R1,10", "Bolt,R1,10", "ACME,R2,10"), ("Vendor", "Beleg")),
        ("Vendor,Amount,Date", ("ACME,10.50,2026-01-01", "Bolt,11.50,2026-01-02"), ()),
        ("Vendor,Quantity", ("ACME,1", "Bolt,2"), ()),
        ("Invoice No", ("1", "1"), ()),
        ("Invoice No", ("1", ""), ()),
        ("Invoice No", ("1",), ()),
    ],
)
def test_the_column_that_is_a_number_of_its_own(header: str, rows: tuple[str, ...], key: tuple[str, ...]) -> None:
    """All different, filled, with digits, and neither an amount nor a date; else a pair with such a column."""
    assert found(header, *rows) == key


@pytest.mark.parametrize("late", [0, SOON - 2, SOON + 1, 3 * SOON])
def test_a_number_that_comes_twice_late_needs_its_vendor(tmp_path: Path, late: int) -> None:
    """Pairs are given up where numbers are all different so far: if one comes twice later, the sheet is asked again."""
    lines = [f"ACME,RE-{row},10.00" for row in range(4 * SOON)]
    lines[late] = "Bolt,RE-0,10.00"
    path = tmp_path / "in.csv"
    path.write_text("\n".join(["Vendor,Invoice No,Amount", *lines]))
    with Source(Job(input=str(path), task="t"), tmp_path) as source:
        assert sum(1 for _row in source.every()) == 4 * SOON
        assert sum(1 for _row in source.every_again()) == (4 * SOON if late > SOON else 0)
        assert source.identifying == (("Vendor", "Invoice No") if late else ("Invoice No",))


def test_many_hashes_take_little_memory() -> None:
    """So many bytes for each as are promised, and none is lost when there are more of them."""
    seen = _Seen()
    tracemalloc.start()
    assert all(seen.add(hash(f"RE-{number}")) for number in range(20_000))
    memory, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not any(seen.add(hash(f"RE-{number}")) for number in range(20_000))
    assert memory < 24 * 20_000


def test_check_run_and_init_name_it(tmp_path: Path) -> None:
    """On the first night; with a key nothing is said, and where something ran already `rekey` is the way."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text('Vendor,"Invoice, No"\nACME,RE-1\nACME,RE-2\n')
    words = ("in.csv", "--task", "task.py:pay", "--journal", "j.db")
    quoted = quote_words(['"Invoice, No"'])
    assert f"--key {quoted}" in run_program("check", *words, cwd=tmp_path).stdout
    assert "--key" not in run_program("check", *words, "--key", '"Invoice, No"', cwd=tmp_path).stdout.split("key: ")[0]
    assert "'Invoice, No' differs in every row" in run_program("run", *words, cwd=tmp_path).stdout
    assert "batch-runner rekey j.db --key" in run_program("check", *words, cwd=tmp_path).stdout
    assert 'key = ["Invoice, No"]' in run_program("init", "in.csv", "--job", "-", cwd=tmp_path).stdout


IBAN = "DE89 3704 0044 0532 0130 00"


@pytest.mark.parametrize(
    ("one", "other", "hint"),
    [
        (("ACME GmbH", "RE-1042", "1234.50", IBAN), ("ACME Gmbh & Co", "RE-1042", "1234.50", IBAN), None),
        (("ACME GmbH", "RE-1042", "1234.50", IBAN), ("ACMEE GmbH", "RE-1042", "1234.50", IBAN), "Vendor"),
        (("ACME", "RE-20421", "1234.50", IBAN), ("ACME", "RE-20412", "1234.50", IBAN), "No"),
        (("ACME", "RE-1042", "1234.50", IBAN), ("ACME", "RE-1042", "1243.50", IBAN), "Amount"),
        (("ACME", "RE-1042", "1234.50", IBAN), ("ACME", "RE-1042", "1234.50", IBAN[:-1] + "1"), "IBAN"),
        (("ACME", "RE-1042", "1234.50", IBAN), ("ACME", "re 1042", "1234.50", IBAN), None),
        (("ACME", "RE-1042", "1234.50", IBAN), ("Bolt", "RE-9", "77.00", IBAN), None),
    ],
)
def test_rows_that_are_almost_the_same_are_hints(
    one: tuple[str, ...], other: tuple[str, ...], hint: str | None
) -> None:
    """Equal amounts, dates and IBANs beside texts that are alike, or the other way; equal rows are --unique's."""
    near = NearDuplicates(
        [Column(name, at, chr(65 + at)) for at, name in enumerate(("Vendor", "No", "Amount", "IBAN"))]
    )
    near.add(2, one)
    near.add(3, other)
    assert [each.rpartition("almost the same ")[2] for each in near.hints] == ([f"{hint!r}"] if hint else [])


def test_check_lists_them(tmp_path: Path) -> None:
    """With both row numbers; nothing is held for it, and the exit code stays 0."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Vendor,No,Amount\nACME,RE-20421,1234.50\nACME,RE-20412,1234.50\n")
    done = run_program("check", "in.csv", "--task", "task.py:pay", cwd=tmp_path)
    assert done.returncode == 0
    assert "rows 2 and 3 have the same 'Amount', and almost the same 'No'" in done.stdout
