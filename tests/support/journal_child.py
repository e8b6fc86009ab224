"""A batch to be killed: sends rows as fast as it can, and says on stdout what the journal has told it is on disk.

python journal_child.py JOURNAL ROWS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
from journals import batch_info, entries

from batch_runner.journal.journal import Journal, Outcome
from batch_runner.plan.plan import Poll, Send, Step

IN_FLIGHT = 8


def say(event: str, number: int) -> None:
    """One line, whole or not at all."""
    os.write(1, f"{event} {number}\n".encode())


async def run(journal: Journal, plan: Step) -> None:
    """What a batch does with a row, without a service."""
    number = plan.row_number
    if isinstance(plan, Send):
        attempt = await journal.intend(plan)
        say("intended", number)
        await journal.started(attempt, f"run-{number}", "queued")
        say("started", number)
    elif isinstance(plan, Poll):
        attempt = plan.attempt
    else:
        return
    await journal.ended(attempt, Outcome("success", result=str(number)))
    say("ended", number)


async def main(path: Path, rows: int) -> None:
    """All rows, some at a time."""
    async with Journal.open(path, batch_info()) as journal:
        plans = iter(await journal.register(entries(map(str, range(rows)), first=1)))
        say("opened", 0)

        async def work() -> None:
            for plan in plans:
                await run(journal, plan)

        async with anyio.create_task_group() as group:
            for _ in range(IN_FLIGHT):
                group.start_soon(work)
        await journal.finish(0)
    say("finished", 0)
    sys.stdin.read()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
