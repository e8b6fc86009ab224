"""Journals of earlier releases are read and go on: an upgrade starts nothing a second time.

The starts are counted at the service that remembers them all; `check` is asked before each night. See `Scene`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from counted_nights import OPEN_ITEMS
from journals import FormerRow, batch_info, former_journal

from batch_runner.journal.index import Index, Purpose
from batch_runner.journal.outputs import OutputIndex
from batch_runner.rows.keys import key_of

if TYPE_CHECKING:
    from pathlib import Path

    from counted_nights import Scene

STATUSES = ("success", "failure", "running", "starting")
"""What came of the four open items; of the last one nobody knows."""


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("key", [("Row",), ()], ids=["key", "all params"])
def test_a_journal_of_an_earlier_release_goes_on(scene: Scene, version: int, key: tuple[str, ...]) -> None:
    """What ended is carried over, what goes on is followed, what is unknown stays so; another sheet's rows are held."""
    scene.key = ("--key", "Row") if key else ()
    rows = []
    for nth, (row, status) in enumerate(zip(OPEN_ITEMS, STATUSES, strict=True), 1):
        params = {"Row": row, "Amount": "10.00"}
        scene.service.begin(params, f"former-{nth}")
        sent = key_of(params)
        run_id = None if status == "starting" else f"former-{nth}"
        rows.append(FormerRow(key_of({"Row": row}) if key else sent, sent, status, run_id))
    info = batch_info(task="pay", service=scene.service.url, key=key)
    sheet, output = (str(scene.folder / name) for name in ("in.csv", "in.results.csv"))
    info = msgspec.structs.replace(info, input=sheet, output=output)
    former_journal(scene.folder / "in.journal.db", version, rows, info)
    scene.sheet("in.csv", (*OPEN_ITEMS, "A-5"), "10.00")
    scene.night("in.csv", starts=["A-5"], code=4)
    scene.shows("in.results.csv", "success", "failure", "success", "unknown", "success")
    scene.night(scene.sheet("in.csv", ("A-5", *OPEN_ITEMS), "10.00"), code=4)
    scene.sheet("next.csv", (*OPEN_ITEMS, "A-6"), "10.00")
    hears = ["from in.csv, row 2: success, former-1", "from in.csv, row 5: unknown"]
    scene.night("next.csv", starts=["A-2", "A-6"], code=3, held=3, hears=hears)


@pytest.mark.parametrize("service", ["http://localhost:8000/v1/", "HTTPS://Tasks.example:443", "local"])
def test_an_index_of_an_earlier_release_has_services_as_they_were_written(tmp_path: Path, service: str) -> None:
    """The journals and outputs that it has for one are found under the one form that they have since."""
    as_written, now = Purpose("pay", service), Purpose.of("pay", service, tmp_path)
    journal = tmp_path / "a.journal.db"
    journal.touch()
    index, environ = Index(tmp_path), {"BATCH_RUNNER_STATE": str(tmp_path)}
    index.add(journal, as_written)
    index.add(journal, now)
    index.add(tmp_path / "b.journal.db", as_written)
    assert index.journals(now) == ([journal], [tmp_path / "b.journal.db"])
    OutputIndex(environ).add(tmp_path / "out.csv", as_written, "digest", ["run-1"])
    assert OutputIndex(environ).knows(now, [], "digest", [])
