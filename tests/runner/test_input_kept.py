"""The input is kept as it was; one batch holds a journal; the output comes from input and journal alone."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from kept_promises import assert_kept, numbered, read_output, write_sheet
from killing import exit_code, run, start
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = numbered(6)
ENDINGS = pytest.mark.parametrize("ending", ["csv", "xlsx"])


@pytest.fixture
def service() -> Iterator[Service]:
    with on_a_socket(Service(looks=2)) as service:
        yield service


def command(service: Service, sheet: str, *more: str) -> list[str]:
    return ["run", sheet, "--task", "pay", "--service", service.url, "--poll-rate", "1000/s", *more]


def edit(path: Path) -> None:
    """Save other rows into the same file, as a spreadsheet that rewrites it does."""
    other = path.with_stem("other")
    write_sheet(other, [("x", "1.00"), *reversed(ROWS)])
    path.write_bytes(other.read_bytes())
    other.unlink()


def replace(path: Path) -> None:
    """Put another file in its place, as most programs save."""
    write_sheet(path.with_stem("other"), [("x", "1.00"), *reversed(ROWS)])
    path.with_stem("other").replace(path)


def delete(path: Path) -> None:
    path.unlink()


@ENDINGS
@pytest.mark.parametrize("change", [edit, replace, delete])
def test_a_change_while_it_runs(ending: str, change: object, tmp_path: Path, service: Service) -> None:
    """Editing, replacing or deleting the input in mid-batch changes neither what is sent nor what stands beside it."""
    sheet = tmp_path / f"list.{ending}"
    write_sheet(sheet, ROWS)
    service.read = lambda number: change(sheet) if number == 2 else None  # type: ignore[operator]
    assert run(tmp_path, command(service, sheet.name, "--concurrency", "1")) == 0
    assert [(params["Row"], params["Amount"]) for params in service.sent] == ROWS
    assert_kept(tmp_path / f"list.results.{ending}", ROWS, service, set())


def saved_in_mid_batch(service: Service, sheet: Path) -> list[bytes]:
    """Let a person edit the sheet while the batch runs; what was saved then is in the list."""
    saved: list[bytes] = []

    def save(number: int) -> None:
        if number == 2:
            edit(sheet)
            saved.append(sheet.read_bytes())

    service.read = save
    return saved


@ENDINGS
def test_an_edit_of_a_file_that_would_be_replaced(ending: str, tmp_path: Path, service: Service) -> None:
    """What a person saved into a result file while it was run again is not overwritten: the output goes beside it."""
    sheet = tmp_path / f"list.results.{ending}"
    write_sheet(sheet, ROWS)
    saved = saved_in_mid_batch(service, sheet)
    assert run(tmp_path, command(service, sheet.name)) == 0
    assert_kept(tmp_path / f"list.results-2.{ending}", ROWS, service, set())
    assert saved == [sheet.read_bytes()]


def test_two_batches_want_one_journal(tmp_path: Path, service: Service) -> None:
    """The second one ends with 6 and names the first one's process and start; it sends nothing, and ends nobody."""
    write_sheet(tmp_path / "list.csv", ROWS)
    second: list[tuple[int, int]] = []

    def try_another(number: int) -> None:
        if number == 3:
            code = run(tmp_path, command(service, "list.csv", "--limit", "2"))
            second.append((code, first.pid or 0))

    service.read = try_another
    first = start(tmp_path, command(service, "list.csv", "--concurrency", "1"))
    assert exit_code(first) == 0
    [(code, pid)] = second  # while the first one waits for this very answer: nobody waits for the other's end
    assert code == 6
    said = (tmp_path / "said.txt").read_text()
    assert re.search(rf"pay.journal.db: another batch holds this journal: process {pid}, started 20\d\d-", said), said
    assert " 2 to start" not in said, "who is turned away tells no plan"
    assert_kept(tmp_path / "list.results.csv", ROWS, service, set())


@ENDINGS
def test_a_deleted_output(ending: str, tmp_path: Path, service: Service) -> None:
    """It comes back byte for byte by the same command, without a single request."""
    write_sheet(tmp_path / f"list.{ending}", ROWS)
    output = tmp_path / f"list.results.{ending}"
    assert run(tmp_path, command(service, f"list.{ending}")) == 0
    before, requests = output.read_bytes(), service.requests
    output.unlink()
    assert run(tmp_path, command(service, f"list.{ending}")) == 0
    assert output.read_bytes() == before
    assert service.requests == requests


@pytest.mark.parametrize(
    ("words", "name"),
    [(("--task", "send"), "task"), (("--service", "http://127.0.0.1:9"), "service"), (("--key", "Row"), "key")],
)
def test_the_journal_of_another_job(words: tuple[str, str], name: str, tmp_path: Path, service: Service) -> None:
    """A journal of another task, service or key is refused with 2 and its name; nothing is sent or touched."""
    write_sheet(tmp_path / "list.csv", ROWS)
    assert run(tmp_path, command(service, "list.csv")) == 0
    (tmp_path / "said.txt").unlink()
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    requests = service.requests
    assert run(tmp_path, command(service, "list.csv", "--journal", "pay.journal.db", *words)) == 2
    said = (tmp_path / "said.txt").read_text()
    assert f"this journal has the {name} " in said
    assert len(said.splitlines()) == 1
    assert service.requests == requests
    (tmp_path / "said.txt").unlink()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_a_moved_folder_goes_on(tmp_path: Path, service: Service) -> None:
    """Sheet, journal and output may be moved together: the same command there carries all over."""
    write_sheet(tmp_path / "list.csv", ROWS)
    assert run(tmp_path, command(service, "list.csv")) == 0
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("list.csv", "pay.journal.db"):
        shutil.move(tmp_path / name, moved / name)
    assert run(moved, command(service, "list.csv")) == 0
    assert len(service.sent) == len(ROWS)
    assert read_output(moved / "list.results.csv") == read_output(tmp_path / "list.results.csv")


@ENDINGS
def test_an_output_that_is_a_link(ending: str, tmp_path: Path, service: Service) -> None:
    """The file that it leads to is written, every night; link and journal stay, and the link is named."""
    write_sheet(tmp_path / f"list.{ending}", ROWS)
    (tmp_path / "share").mkdir()
    output = tmp_path / f"list.results.{ending}"
    output.symlink_to(f"share/all.{ending}")
    for _ in range(2):
        assert run(tmp_path, command(service, f"list.{ending}")) == 0
        assert output.is_symlink()
        assert_kept(tmp_path / "share" / f"all.{ending}", ROWS, service, set())
    assert f"output: list.results.{ending}" in (tmp_path / "said.txt").read_text()
    assert [path.name for path in (tmp_path / "share").iterdir()] == [f"all.{ending}"]
    assert (tmp_path / "pay.journal.db").is_file()


@ENDINGS
def test_an_input_that_is_a_link(ending: str, tmp_path: Path, service: Service) -> None:
    """Its output and journal stand beside the link, as they ever did; where it leads to nothing is written."""
    (tmp_path / "share").mkdir()
    write_sheet(tmp_path / "share" / f"all.{ending}", ROWS)
    (tmp_path / f"list.{ending}").symlink_to(f"share/all.{ending}")
    assert run(tmp_path, command(service, f"list.{ending}")) == 0
    assert_kept(tmp_path / f"list.results.{ending}", ROWS, service, set())
    assert not (tmp_path / f"list.results.{ending}").is_symlink()
    assert (tmp_path / "pay.journal.db").is_file()
    assert [path.name for path in (tmp_path / "share").iterdir()] == [f"all.{ending}"]


def test_an_edit_of_a_file_that_would_be_replaced_by_a_link(tmp_path: Path, service: Service) -> None:
    """An output that leads to the input is the input: what was saved into it meanwhile is not overwritten."""
    sheet = tmp_path / "list.csv"
    write_sheet(sheet, ROWS)
    (tmp_path / "out.csv").symlink_to("list.csv")
    saved = saved_in_mid_batch(service, sheet)
    assert run(tmp_path, command(service, sheet.name, "--output", "out.csv")) == 0
    assert_kept(tmp_path / "list-2.csv", ROWS, service, set())
    assert saved == [sheet.read_bytes()]
