"""`init`: a short job file for a sheet, its columns filled in."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from batch_runner.errors import SheetError, UsageError, reason_of
from batch_runner.fs import have_temporary_folder
from batch_runner.job.job import Job
from batch_runner.job.options import options, toml
from batch_runner.rows.source import FILE_NAME, Profile, Source, profile_of
from batch_runner.sheet.model import row_list
from batch_runner.units import problem_of_name, way_to

if TYPE_CHECKING:
    from collections.abc import Iterator


SKIP: Final = "skip"


def look(path: Path, sheet: str | None) -> Profile:
    """Read a sheet once. Raises `SheetError` and `UsageError` where it can't be used, and not only for hidden rows."""
    try:
        return _look(Job(input=str(path), sheet=sheet))
    except SheetError:
        try:
            return _look(Job(input=str(path), sheet=sheet, hidden=SKIP), hidden=True)
        except SheetError:
            pass
        raise


def write(path: Path, text: str) -> None:
    """Write a new file. Raises `UsageError` where there is one already, or none can be made."""
    if problem := problem_of_name(path):
        raise UsageError(f"{path}: {problem}; name another with -o")
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path}: there is such a file already, which is kept; name another with -o") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be written: {reason_of(error)}; name another with -o") from None


def job_file(sheet: Path, folder: Path, seen: Profile, said: dict[str, object]) -> str:
    """The text of a job file that is to lie in `folder`; `said` are the options that a person named.

    Raises `UsageError` for a path that no text can hold.
    """
    relative = way_to(sheet, folder)
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{relative!r}: the name holds bytes that are no text; rename the file") from None
    return "\n".join([*_head(sheet, seen), f"input = {toml(relative)}", *_lines(seen, said)]) + "\n"


def _lines(seen: Profile, said: dict[str, object]) -> Iterator[str]:
    """The options that most jobs need; a proposal that nobody has agreed to yet has a `#` before it."""
    if seen.hidden:
        yield f"hidden = {toml(SKIP)}  # the sheet has hidden or filtered-out rows: skip or include them"
    doubtful = f"{row_list(seen.suspects)}: {'a total or a note' if len(seen.suspects) == 1 else 'totals or notes'}?"
    proposed: dict[str, tuple[object, str]] = {
        "sheet": (None, ""),
        "suspect_rows": (SKIP if seen.suspects else None, f"{doubtful} Refused without this line; run sends them"),
        "task": ("TASK_ID", "invoice, FILE.py:FUNCTION, or the id of a task of the service"),
        "service": ("anchor", "who runs it; without this line, this program itself"),
        "columns": (seen.columns[:5], "send only these"),
        "rename": (_renamed(seen), "send a column under the name that the task takes"),
        "key": (seen.key or seen.columns[:1], "what makes a row the same row tomorrow"),
        "report": ("{stem}.report.html", "a page for people"),
        "retry": (["failure", "timeout"], "start these again the next night"),
        "deadline": ("06:00", "start nothing later than that"),
    }
    for name, (value, why) in proposed.items():
        if name in said:
            yield f"{name} = {toml(said[name])}"
        elif value:
            yield f"# {name} = {toml(value)}  # {why}"
    if seen.amounts:
        yield f"total = {toml(seen.amounts)}  # added up by currency and outcome"


def _renamed(seen: Profile) -> dict[str, str]:
    """The column of file names under the name that the task `invoice` takes, where the sheet has one; else any."""
    is_meant = seen.files and FILE_NAME not in seen.columns
    return {seen.files[0]: FILE_NAME} if is_meant else dict.fromkeys(seen.columns[:1], "PARAM")


def read_option(name: str, value: object) -> object:
    """The value of an option as a job has it. Raises `UsageError` for one that makes no sense."""
    option = options()[name]
    try:
        return option.read(value)
    except ValueError as error:
        raise UsageError(f"{option.flag}: {error}") from None


def ask(seen: Profile, said: dict[str, object]) -> dict[str, object]:
    """What was said, and at a terminal what a person answers to the rest: an empty answer leaves it open."""
    proposals = {"task": "invoice", "key": ",".join(seen.key), "columns": ""}
    questions = {
        "task": "The task to run (invoice, FILE.py:FUNCTION, or an id of the service)",
        "key": f"The columns that make a row the same row tomorrow, of {', '.join(seen.columns)}",
        "columns": "The columns to send (none: all)",
    }
    for name in [name for name in questions if name not in said]:
        answer = click.prompt(questions[name], default=proposals[name], err=True).strip()
        if answer:
            said = {**said, name: read_option(name, answer)}
    return said


def _look(job: Job, *, hidden: bool = False) -> Profile:
    have_temporary_folder(job.input_path.absolute().parent)
    with Source(job, Path(tempfile.gettempdir())) as source:
        suspects = tuple(row.number for row in source.sheet.rows() if row.is_suspect)
        return msgspec.structs.replace(profile_of(source, hidden=hidden), suspects=suspects)


def _head(sheet: Path, seen: Profile) -> Iterator[str]:
    where = f", sheet {toml(seen.sheet)}" if seen.sheet else ""
    headers = f"whose headers stand in row {seen.header_row}" if seen.header_row else "which has no headers"
    yield "# A job for batch-runner: check THIS_FILE shows what it would do, run THIS_FILE does it."
    yield "# A line that begins with # counts for nothing. batch-runner help jobs lists all other options."
    yield f"# The columns of {toml(sheet.name)}{where}, {headers}: {', '.join(map(toml, seen.columns))}"
