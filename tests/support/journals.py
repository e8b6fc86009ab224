"""Journals for tests: a batch's description, rows for it, and what stands in the file in the end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from batch_runner.job.job import Job
from batch_runner.journal.batches import BatchInfo
from batch_runner.journal.database import APPLICATION_ID
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.plan.plan import Entry, Policy, Send
from batch_runner.rows.source import Source, look_ahead, plan_rows
from batch_runner.runner.memory import rehearse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.plan.plan import Step


def batch_info(
    *retry: str, resend: bool = False, task: str = "invoice", service: str = "local", key: tuple[str, ...] = ()
) -> BatchInfo:
    """A batch with the given policy."""
    return BatchInfo(
        input="invoices.csv",
        input_sha256="0" * 64,
        output="invoices.results.csv",
        task=task,
        service=service,
        key_columns=key,
        policy=Policy(frozenset(retry), "resend" if resend else "report"),
        version="0.1.0",
    )


def entries(keys: Iterable[str], first: int = 2) -> list[Entry]:
    """Rows whose key is all their params, numbered from `first`."""
    return [Entry(number, key.encode(), key.encode()) for number, key in enumerate(keys, first)]


async def run_row(journal: Journal, plan: Step, run_id: str, status: str = "success") -> int:
    """All events of a row that is sent and ends."""
    assert isinstance(plan, Send), plan
    attempt = await journal.intend(plan)
    await journal.started(attempt, run_id, "queued")
    await journal.ended(attempt, Outcome(status, run_id, f'"{run_id}"', "" if status == "success" else "no"))
    return attempt


def attempts_in(path: Path) -> list[tuple[int, str, str | None, bool]]:
    """The attempts in the file: number, status, run id, whether it has ended."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute("SELECT id, status, run_id, ended_at IS NOT NULL FROM attempt ORDER BY id").fetchall()


def files_beside(path: Path) -> list[str]:
    """The names of the journal's file and of those that belong to it."""
    return sorted(found.name for found in path.parent.iterdir() if found.name.startswith(path.name))


def made_night(folder: Path, *rows: tuple[bytes, bytes], name: str = "a.journal.db", key: tuple[str, ...] = ()) -> Path:
    """A journal in which rows with these keys and hashes of params succeeded, as an earlier release wrote them."""
    path = folder / name

    async def night() -> None:
        async with Journal.open(path, batch_info(key=key)) as journal:
            for number, (of_row, params) in enumerate(rows, 2):
                (step,) = await journal.register([Entry(number, of_row, params)])
                await run_row(journal, step, f"run-{number}")
            await journal.finish(0)

    anyio.run(night)
    return path


def steps_of(path: Path, sheet: Path, info: BatchInfo, **options: Any) -> list[Step]:
    """What a batch over the sheet would do with each row, by what the journal at `path` knows."""

    async def steps() -> list[Step]:
        job = Job(input=str(sheet), **options)
        with Source(job, sheet.parent) as source:
            async with rehearse(path) as file:
                journal = await file.begin(info)
                await look_ahead(source, journal)
                return [step async for chunk in plan_rows(source, journal) for step, _row in chunk]

    return anyio.run(steps)


_BATCH = (
    "INSERT INTO batch (id, continues, started, ended, exit_code, input, input_sha256, output, task, service,"
    " key_columns, retry, on_unknown, version, pid)"
    " VALUES (1, 1, '2026-01-01T02:00:00.000Z', '2026-01-01T02:10:00.000Z', 3, ?, 'x', ?, ?, ?, ?, '', 'report',"
    " '0.1.0', 77)"
)
_ATTEMPT = (
    "INSERT INTO attempt (id, row, batch, params, posts, intended_at, status, run_id, started_at, ended_at)"
    " VALUES (?, ?, 1, ?, 1, '2026-01-01T02:00:01.000Z', ?, ?, ?, ?)"
)
_PLACE = "INSERT INTO place (batch, number, row, params, takes_part) VALUES (1, ?, ?, ?, 1)"
_MOMENT = "2026-01-01T02:05:00.000Z"


class FormerRow(msgspec.Struct, frozen=True):
    """A row of a former journal: the hash of its key, that of what was sent, and what came of it."""

    key: bytes
    params: bytes
    status: str
    run_id: str | None


def former_journal(path: Path, version: int, rows: Iterable[FormerRow], info: BatchInfo) -> None:
    """A journal as a release of that version left it, after one night over these rows, which stand from row 2 on."""
    schema = (Path(__file__).parent / f"journal_v{version}.sql").read_text("utf-8")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"BEGIN; {schema} COMMIT")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        if version > 1:
            connection.execute("INSERT INTO about (uuid) VALUES ('abc')")
        key = msgspec.json.encode(info.key_columns).decode()
        connection.execute(_BATCH, (info.input, info.output, info.task, info.service, key))
        for number, row in enumerate(rows, 1):
            is_open = row.status in ("starting", "running")
            connection.execute("INSERT INTO row VALUES (?, ?, 1)", (number, row.key))
            connection.execute(_PLACE, (number + 1, number, row.params))
            seen = (row.status, row.run_id, row.run_id and _MOMENT, None if is_open else _MOMENT)
            connection.execute(_ATTEMPT, (number, number, row.params, *seen))
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")
