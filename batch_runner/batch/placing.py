"""The sheet's rows find their place in the journal, chunk by chunk: in a batch, and where a batch is only rehearsed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from batch_runner.journal import Entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from batch_runner.journal import Journal, Plan
    from batch_runner.params import RowParams
    from batch_runner.sheet.row import Row
    from batch_runner.source import Source

CHUNK = 128
"""Rows that are read and placed in the journal at once: some milliseconds' work."""


async def placed(source: Source, journal: Journal) -> AsyncIterator[list[tuple[Plan, RowParams]]]:
    """What to do with each row, in the sheet's order; a chunk is placed when it is asked for."""
    for chunk in _chunks(source.places()):
        plans = await journal.register([entry for entry, _ in chunk])
        yield [(plan, row) for plan, (_, row) in zip(plans, chunk, strict=True)]


async def look_ahead(source: Source, journal: Journal) -> int:
    """Ask the whole sheet what has to be known before its first row is `placed`.

    Gives for how many rows that ran before it could not tell what makes them unique.
    """
    await _tell_twins_apart(source, journal)
    return await _learn_claims(source, journal)


async def _tell_twins_apart(source: Source, journal: Journal) -> None:
    """Of rows with equal keys one can be known only when all are: a later one may be what was sent before."""
    if not journal.may_have_twins:
        return
    for chunk in _chunks(source.every()):
        await journal.see([entry for entry, _ in chunk])
    await journal.tell_apart()


async def _learn_claims(source: Source, journal: Journal) -> int:
    """Where rows ran before anybody asked what makes them unique, ask the sheet; gives for how many it didn't know."""
    if not journal.needs_claims:
        return 0
    for chunk in _chunks(source.every()):
        await journal.adopt([entry for entry, _ in chunk])
    return journal.unclaimed()


def _chunks(places: Iterator[tuple[Row, RowParams, bool]]) -> Iterator[tuple[tuple[Entry, RowParams], ...]]:
    rows = _entries(places)
    while chunk := tuple(islice(rows, CHUNK)):
        yield chunk


def _entries(places: Iterator[tuple[Row, RowParams, bool]]) -> Iterator[tuple[Entry, RowParams]]:
    for row, filled, takes_part in places:
        entry = Entry(row.number, filled.key, filled.digest, filled.refusal, takes_part, filled.claim, filled.conflict)
        yield entry, filled
