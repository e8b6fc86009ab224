"""The last moments before the output takes its place: her save meanwhile, a kill between two steps, long results."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest
from journals import batch_info
from kept_promises import HEADERS, numbered
from killing import Moment, run
from remembering_service import Service, on_a_socket
from systems import KILLED

from batch_runner.fs import AtomicFile
from batch_runner.job.job import Job
from batch_runner.journal.journal import Journal
from batch_runner.journal.view import Placed
from batch_runner.output.edits import put_output
from batch_runner.output.output import Output
from batch_runner.rows.columns import find_our_columns
from batch_runner.rows.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_runner.journal.outputs import WrittenOutput


@pytest.fixture
def service() -> Iterator[Service]:
    with on_a_socket(Service(looks=1)) as service:
        yield service


@pytest.mark.anyio
@pytest.mark.parametrize("output", ["in.csv", "out.csv"])
async def test_whether_she_saved_meanwhile_is_asked_last(tmp_path: Path, output: str) -> None:
    """She saves the sheet, or the output, when ours is written and checked: hers stays, ours is its neighbour."""
    sheet, saved = tmp_path / "in.csv", tmp_path / output
    sheet.write_text("Row,Amount\nr0,1\n")
    job = Job(input=str(sheet), output=str(saved), task="t")
    target = AtomicFile.prepare(saved, sheet)
    async with Journal.in_memory(batch_info()) as journal:
        with Source(job, tmp_path) as source:

            def placed() -> Iterator[Placed]:
                return iter([Placed(2, "success", "run-1", "{}", "", changed=False)])

            def save(_written: WrittenOutput) -> None:
                saved.write_text("her save")

            written = put_output(job, source, journal, placed, target, note=save)
    assert written.path.name == output.replace(".csv", "-2.csv")
    assert saved.read_text() == "her save"


def moments() -> Iterator[Moment]:
    """Both sides of each step of a write over an output that a person has edited."""
    for side in ("before", "after"):
        for boundary in ("copy kept aside", "output", "note of the output", "index of outputs", "last commit"):
            yield Moment(side, boundary)
        for nth in (1, 2, 3):
            yield Moment(side, "rename", nth)


@pytest.mark.long
@pytest.mark.parametrize("moment", list(moments()), ids=lambda moment: f"{moment.side} {moment.boundary} {moment.nth}")
def test_killed_while_an_edited_output_is_replaced(tmp_path: Path, service: Service, moment: Moment) -> None:
    """Wherever it dies: her note is carried over, her edit is kept aside once, and nothing is started again."""
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADERS, *numbered(3)])
    command = ["run", "in.csv", "--task", "pay", "--service", service.url, "--key", "Row", "--poll-rate", "1000/s"]
    assert run(tmp_path, command) == 0
    output = tmp_path / "in.results.csv"
    lines = output.read_text("utf-8-sig").splitlines()
    edited = [lines[0] + ",Note", lines[1].replace("0.50", "7.77") + ",seen", *lines[2:]]
    output.write_text("\n".join([*edited, ""]))
    assert run(tmp_path, command, moment) in (KILLED, 0)
    assert run(tmp_path, command) == 0
    with output.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["Note"] for row in rows] == ["seen", "", ""]
    assert [row["Amount"] for row in rows] == ["0.50", "1.50", "2.50"]
    kept = sorted(path.name for path in tmp_path.glob("*edited*"))
    assert kept == ["in.edited.results.csv"]
    assert "7.77" in (tmp_path / kept[0]).read_text()
    assert len(service.starts) == 3


@pytest.mark.long
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_one_result_over_16_mebibytes_spoils_no_other_row(tmp_path: Path, ending: str) -> None:
    """Our own reader takes no longer record: the cell is cut as in a workbook, the whole stands beside the output."""
    sheet = tmp_path / "in.csv"
    sheet.write_text("N\n1\n2\n")
    long = json.dumps({"a": "x" * (17 << 20), "b": "small"})
    outcomes = [
        Placed(2, "success", "r2", long, "", changed=False),
        Placed(3, "success", "r3", "{}", "", changed=False),
    ]
    with Source(Job(input=str(sheet), task="t"), tmp_path) as source:
        target = AtomicFile.prepare(tmp_path / f"out{ending}", sheet)
        output = Output(source.sheet, find_our_columns(source.sheet.columns), target, expand=True)
        written = output.write(lambda: iter(outcomes))
    with written.path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="," if ending == ".csv" else "\t"))
    assert [row["run_id"] for row in rows] == ["r2", "r3"]
    assert rows[0]["result"].endswith("[cut: the whole text is in out.long.jsonl]")
    assert rows[0]["result.b"] == "small"
    assert "out.long.jsonl has the whole" in written.notes[-1]
    lines = [json.loads(line) for line in (tmp_path / "out.long.jsonl").read_text("utf-8").splitlines()]
    assert {line["column"]: line["text"] for line in lines}["result"] == long
