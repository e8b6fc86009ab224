"""Three tasks of one's own: `batch-runner run samples/invoices.csv --task samples/my_tasks.py:check_amount`.

A task gets the row as a dict of texts and returns what shall stand in the column `result`. An exception makes the row
a `failure`, with the exception's message beside it.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal

LIMIT = Decimal(20_000)


def check_amount(params: dict[str, str]) -> dict[str, str]:
    """A sync task: it runs in a worker process. It fails on rows whose Amount is above the limit."""
    amount = Decimal(params["Amount"])
    if amount > LIMIT:
        raise ValueError(f"{amount} is above {LIMIT}: two people have to sign")
    return {"amount": str(amount), "approved by": "the director" if amount > LIMIT / 10 else "the office"}


async def look_up(params: dict[str, str]) -> dict[str, str]:
    """An async task, such as one that asks another service: many of them wait at once in one process."""
    await asyncio.sleep(0.05)
    return {"supplier": params.get("Supplier", ""), "known": "yes"}


def initials(params: dict[str, str]) -> str:
    """A result need not be a dict: any JSON value does."""
    return "".join(word[0] for word in params.get("Supplier", "").split())
