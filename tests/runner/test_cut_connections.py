"""A whole batch over a network that cuts connections: every status is the truth, and nothing runs twice."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import anyio
import pytest
from cutting_proxy import Cut, CuttingProxy
from kept_promises import numbered, read_output, write_sheet
from remembering_service import Service
from scripted_server import serving

from batch_runner.job.job import Job
from batch_runner.journal.view import JournalView
from batch_runner.runner.run import run_batch

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.report.summary import Summary

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("impatient")]

ROWS = 300


async def batch_behind(proxy: CuttingProxy, folder: Path) -> Summary:
    """Run `list.csv` through the proxy, which refuses connections a third of the time."""
    async with anyio.create_task_group() as around:
        around.start_soon(proxy.open_and_close, 0.2, 0.1)
        while not proxy.port:
            await anyio.sleep(0.001)
        job = Job(
            input=str(folder / "list.csv"),
            task="pay",
            service=proxy.url,
            concurrency=16,
            poll_rate="1000/s",
        )
        summary = await run_batch(job)
        around.cancel_scope.cancel()
    return summary


@pytest.mark.soak
@pytest.mark.long
async def test_every_status_is_the_truth(tmp_path: Path) -> None:
    """A start cut off after its first byte is `unknown`, a refused one is sent again, a cut poll costs nothing."""
    write_sheet(tmp_path / "list.csv", numbered(ROWS))
    service = Service(looks=2)
    async with serving(service.script) as server:
        proxy = CuttingProxy(server, Random(5))
        summary = await batch_behind(proxy, tmp_path)
    records = read_output(tmp_path / "list.results.csv")
    assert [record.row for record in records] == [row for row, _ in numbered(ROWS)]
    for record in records:
        cut = proxy.cuts[record.row]
        assert record.status == ("success" if cut is Cut.NOWHERE else "unknown"), (record, cut)
        assert service.starts_of[record.row] == (0 if cut is Cut.SWALLOWED else 1)
        assert service.rows.get(record.run_id) == (record.row if cut is Cut.NOWHERE else None)
    assert set(proxy.cuts.values()) == set(Cut)
    assert proxy.polls_cut > 20
    assert summary.exit_code == 4
    assert was_refused(tmp_path / "pay.journal.db")


def was_refused(journal: Path) -> bool:
    """Whether some start had to be sent again because no connection was made."""
    with JournalView.open(journal) as view:
        return any(attempt.posts > 1 for row in range(2, ROWS + 2) for attempt in view.story(1, row))
