"""Four tasks of one's own: `batch-runner run samples/invoices.csv --task samples/my_tasks.py:plan_payment`.

A task with `@task` over it takes columns as arguments, each as a value of its type; any other takes the whole row as a
dict of texts. What it returns stands in the column `result`. An exception makes the row a `failure`, with the
exception's message beside it.
"""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from batch_runner import Context, param, task

LIMIT = Decimal(20_000)


@task(timeout="1m", repeatable=True)
def plan_payment(
    supplier: str,
    amount: Decimal,
    due: date,
    pdf: Annotated[str, param("File Name")],
    days_early: int = 2,
    by: Literal["transfer", "direct debit"] = "transfer",
    *,
    context: Context,
) -> dict[str, str]:
    """Takes four columns, and two more if the sheet has them; `check` says so before anything runs."""
    day = due - timedelta(days=days_early)
    context.log.info("planned for %s", day)
    if amount > LIMIT:
        raise ValueError(f"{amount} is above {LIMIT}: two people have to sign")
    return {"pay": f"{amount:.2f}", "to": supplier, "on": day.isoformat(), "by": by, "for": pdf}


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
