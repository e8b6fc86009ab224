"""`init`: a commented job file for a sheet, its columns filled in."""

from __future__ import annotations

import json
import os
import re
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from batch_runner.errors import SheetError, UsageError, reason_of
from batch_runner.job.job import Job
from batch_runner.job.options import Option, OptionKind, options
from batch_runner.rows.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator


SKIP: Final = "skip"
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z")
_AMOUNT_WORDS = re.compile(
    r"amount|total|sum|net|gross|price|betrag|preis|brutto|montant|prix|importe|precio|importo|bedrag|kwota|valor",
    re.IGNORECASE,
)


class Seen(msgspec.Struct, frozen=True):
    """What a sheet shows of itself: its columns, those whose values are all different, those that hold amounts.

    `hidden` says that it has hidden rows, about which a job must say something.
    """

    sheet: str | None
    header_row: int
    columns: tuple[str, ...]
    different: tuple[str, ...]
    amounts: tuple[str, ...]
    hidden: bool


class _Column:
    """What the texts of one column have in common so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_different = True
        """Every row has a text, and no two have the same."""
        self._seen: set[int] = set()
        self._numbers = self._texts = self._decimals = 0

    def add(self, text: str) -> None:
        if self.is_different:
            known = hash(text)
            self.is_different = bool(text) and known not in self._seen
            self._seen.add(known)
        if text:
            number = _PLAIN_NUMBER.match(text)
            self._texts += 1
            self._numbers += number is not None
            self._decimals += number is not None and number[1] is not None

    @property
    def is_amount(self) -> bool:
        """Numbers only, with decimals or under a header that speaks of money."""
        return 0 < self._texts == self._numbers and bool(self._decimals or _AMOUNT_WORDS.search(self.name))


def look(path: Path, sheet: str | None) -> Seen:
    """Read a sheet once. Raises `SheetError` and `UsageError` where it can't be used, and not only for hidden rows."""
    try:
        return _look(Job(input=str(path), sheet=sheet), hidden=False)
    except SheetError:
        try:
            return _look(Job(input=str(path), sheet=sheet, hidden=SKIP), hidden=True)
        except SheetError:
            pass
        raise


def write(path: Path, text: str) -> None:
    """Write a new file. Raises `UsageError` where there is one already, or none can be made."""
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path}: there is such a file already, which is kept; name another with -o") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be written: {reason_of(error)}; name another with -o") from None


def job_file(sheet: Path, folder: Path, seen: Seen, *, said_sheet: bool) -> str:
    """The text of a job file that is to lie in `folder`. Raises `UsageError` for a path that no text can hold."""
    relative = os.path.relpath(sheet, folder)
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{relative!r}: the name holds bytes that are no text; rename the file") from None
    in_force = {"hidden": seen.hidden, "sheet": said_sheet}
    lines = [*_head(sheet, seen), f"input = {toml(relative)}"]
    for group, members in groupby(options().values(), key=lambda option: option.group):
        lines += ["", "", f"# {group}"]
        for option in (member for member in members if not member.flag_only):
            mark = "" if in_force.get(option.name) else "# "
            lines += ["", f"# {option.help}", f"{mark}{option.name} = {_example(option, sheet, seen)}"]
    return "\n".join(lines) + "\n"


def toml(value: object) -> str:
    """A value as TOML writes it. Its texts are JSON's (TOML 1.0, *Basic strings*), but for DEL, which it escapes."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _look(job: Job, *, hidden: bool) -> Seen:
    with Source(job, Path(tempfile.gettempdir())) as source:
        columns = [(column.index, _Column(column.name)) for column in source.layout.own]
        for row in source.chosen():
            for index, column in columns:
                column.add(row.texts[index])
        amounts = tuple(column.name for _, column in columns if column.is_amount)
        return Seen(
            sheet=source.sheet.name,
            header_row=source.sheet.header_row,
            columns=tuple(column.name for _, column in columns),
            different=tuple(c.name for _, c in columns if source.total > 1 and c.is_different and not c.is_amount),
            amounts=amounts,
            hidden=hidden,
        )


def _head(sheet: Path, seen: Seen) -> Iterator[str]:
    where = f", sheet {toml(seen.sheet)}" if seen.sheet else ""
    headers = f"whose headers stand in row {seen.header_row}" if seen.header_row else "which has no headers"
    yield "# A job for batch-runner, which runs a task for each row of a sheet. Give this file to it:"
    yield "#   batch-runner check THIS_FILE   to see what it would do"
    yield "#   batch-runner run THIS_FILE     to do it, tonight and every night"
    yield "# A line that begins with # counts for nothing; take its # away, and it counts. Each line holds one option."
    yield '# Texts stand in "quotes", a list of texts in [ ]; within quotes, \\" is a quote and \\\\ a backslash.'
    yield "# Paths are relative to this file."
    yield "#"
    yield f"# The columns of {toml(sheet.name)}{where}, {headers}:"
    for name in seen.columns:
        notes = [*(["all different"] if name in seen.different else []), *(["amounts"] if name in seen.amounts else [])]
        yield f"#   {toml(name)}{' (' + ', '.join(notes) + ')' if notes else ''}"
    yield ""
    yield "# The sheet. A pattern, inbox/*.xlsx, stands for several, a batch each; invoices-{date}.xlsx for the day's."
    if seen.hidden:
        yield "# It has hidden or filtered-out rows: see hidden, below, which is set to leave them out."


def _example(option: Option, sheet: Path, seen: Seen) -> str:
    """A value that makes sense for this sheet; the default where there is one."""
    if option.kind is OptionKind.FLAG:
        return "true"
    if option.default:
        return toml(option.default)
    value = _of_the_sheet(sheet, seen).get(option.name, _EXAMPLES.get(option.name))
    return toml((option.metavar or "").partition("|")[0] if value is None else value)


def _of_the_sheet(sheet: Path, seen: Seen) -> dict[str, object]:
    """Values that are made of the sheet's name and columns."""
    first, last = seen.columns[:1], seen.columns[-1:]
    quoted = '"' + (first or ("Amount",))[0].replace('"', '""') + '"'
    return {
        "output": f"{{stem}}.results{sheet.suffix}",
        "journal": "TASK_ID.journal.db",
        "total": seen.amounts or last,
        "sheet": seen.sheet,
        "header_row": seen.header_row or 1,
        "columns": seen.columns,
        "exclude": last,
        "rename": dict.fromkeys(first, "name to send it under"),
        "where": f"{quoted} IS NOT NULL",
        "key": seen.different[:1] or first,
        "ignore": last,
        "unique": seen.different[:1] or first,
        "unique_conflict": seen.amounts or last,
    }


_EXAMPLES: dict[str, object] = {
    "task": "TASK_ID",
    "report": "{stem}.report.html",
    "log_level": "info",
    "date": "yesterday",
    "sheet": "Sheet1",
    "encoding": "utf-8",
    "delimiter": ";",
    "hidden": SKIP,
    "param": {"Country": "DE"},
    "rows": "2-100",
    "limit": 10,
    "retry": ["failure", "timeout"],
    "retry_limit": 3,
    "rate": "25/min",
    "deadline": "06:00",
    "max_failures": "5%",
    "canary": 3,
    "files": ".",
    "workers": 4,
    "dask": "tcp://HOST:8786",
    "identity_id": "IDENTITY_ID",
    "session_id": "SESSION_ID",
    "task_version": "1",
    "heartbeat": "https://hc-ping.com/${PING_ID}",
    "notify": ["${NOTIFY_URL}"],
    "log_file": "batch-runner-{date}.log",
    "log_rotate": "10MB",
}
"""Values of options that are no column and have no default."""
