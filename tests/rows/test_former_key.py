"""A row whose key an earlier release made otherwise is the same row: an upgrade starts nothing again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from journals import batch_info, run_row

from batch_runner.job.job import Job
from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import Entry, Keep
from batch_runner.rows.params import key_of
from batch_runner.rows.source import Source

if TYPE_CHECKING:
    from pathlib import Path


def test_a_text_formula_that_was_sent_to_the_letter(tmp_path: Path) -> None:
    """`="007"` ran as it stood in the file; now that 007 is sent for it, it is carried over, and counted as changed."""
    (tmp_path / "in.csv").write_text('Id,Name\n"=""007""",x\n')
    former = key_of({"Id": '="007"', "Name": "x"})

    async def nights() -> list[object]:
        async with Journal.open(tmp_path / "a.journal.db", batch_info()) as journal:
            (step,) = await journal.register([Entry(2, former, former)])
            await run_row(journal, step, "run-1")
            await journal.finish(0)
        with Source(Job(input=str(tmp_path / "in.csv")), tmp_path) as source:
            (row,) = source.rows()
            assert row.params == {"Id": "007", "Name": "x"}
            async with Journal.open(tmp_path / "a.journal.db", batch_info()) as journal:
                return list(await journal.register([row]))

    assert anyio.run(nights) == [Keep(2, 1, "success", changed=True)]
