"""Nights whose rows make claims to be unique, for tests of duplicates. Not a test module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from journals import batch_info, run_row

from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import Entry, Policy, Send

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.journal.batches import BatchInfo
    from batch_runner.plan.plan import Step


def unique(*retry: str, conflict: bool = False, allow: bool = False) -> BatchInfo:
    """A batch in which two rows with one claim are duplicates."""
    policy = Policy(
        frozenset(retry),
        unique=("Vendor", "No"),
        conflict=("Amount",) if conflict else (),
        allow_duplicates=allow,
    )
    return msgspec.structs.replace(batch_info(key=("Id",)), policy=policy)


def row(number: int, key: str, claim: str, conflict: str | None = None) -> Entry:
    return Entry(
        number, key.encode(), key.encode(), claim=claim.encode(), conflict=conflict.encode() if conflict else None
    )


async def night(path: Path, sheet: list[Entry], info: BatchInfo, status: str = "success") -> list[Step]:
    """Run the sheet; a run is named for its row's key."""
    async with Journal.open(path, info) as journal:
        if journal.needs_claims:
            await journal.adopt(sheet)
        plans = await journal.register(sheet)
        for plan in plans:
            if isinstance(plan, Send):
                await run_row(journal, plan, f"run-{plan.params.decode()}", status)
        await journal.finish(0)
    return plans


def kinds(plans: list[Step]) -> list[type[Step]]:
    return [type(plan) for plan in plans]
