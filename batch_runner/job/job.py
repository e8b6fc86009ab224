"""What to do: one validated, frozen Job, whoever said it (a flag, an environment variable, a job file, a program).

A Job holds what the person wrote, in the forms that a TOML file can hold; its properties give the parsed values.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from batch_runner.errors import UsageError
from batch_runner.selection import RowRanges
from batch_runner.units import Deadline, FailureLimit, Rate, parse_duration

ANCHOR_URL = "https://api.anchorbrowser.io"
OUTPUT_ENDINGS = (".csv", ".tsv", ".xlsx", ".xlsm", ".jsonl", ".parquet")
_RESULTS = re.compile(r"\.results(-\d+)?\Z", re.ASCII)
RETRY_WORDS = ("failure", "timeout", "cancelled", "error", "unknown", "changed", "all")

Duration = str | int | float
Names = tuple[str, ...]
Pairs = dict[str, str]


def _says(group: str, metavar: str | None, text: str) -> Meta:
    """How an option is shown to people: its group in `--help`, the word for its value, what it does."""
    return Meta(description=text, extra={"group": group, "metavar": metavar})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One batch to run: which sheet, which task, and how. Raises `UsageError` where a value makes no sense.

    Every field but `input` is a command-line option of the same name (`--run-timeout`), an environment variable
    (`BATCH_RUNNER_RUN_TIMEOUT`) and a key of a job file (`run_timeout`).
    """

    input: str
    task: Annotated[
        str,
        _says("The task", "ID", "The task to run; with the local service: invoice, or FILE.py:FUNCTION for your own."),
    ] = ""
    service: Annotated[
        str,
        _says("The task", "local|anchor|URL", "Who runs it: this program itself, Anchor's cloud, or a URL."),
    ] = "local"
    output: Annotated[
        str | None,
        _says("Files", "PATH", "Where the result goes; the ending chooses csv, tsv, xlsx, jsonl or parquet."),
    ] = None
    journal: Annotated[
        str | None, _says("Files", "PATH", "The record of what was sent; the same journal goes on from there.")
    ] = None
    expand: Annotated[
        bool, _says("Files", None, "Add one column result.NAME for each top-level key of the results.")
    ] = False
    files: Annotated[
        str | None, _says("Files", "DIR", "The folder that the local invoice task may read (the input's own).")
    ] = None
    sheet: Annotated[str | None, _says("Reading", "NAME", "The sheet of the workbook (the first visible one).")] = None
    header_row: Annotated[int | None, _says("Reading", "N", "The row that holds the headers (found by itself).")] = None
    encoding: Annotated[str | None, _says("Reading", "NAME", "The encoding of a CSV file (found by itself).")] = None
    delimiter: Annotated[str | None, _says("Reading", "C", "The delimiter of a CSV file (found by itself).")] = None
    hidden: Annotated[
        Literal["include", "skip"] | None,
        _says("Reading", "include|skip", "What to do with hidden or filtered-out rows; a must where there are some."),
    ] = None
    as_shown: Annotated[
        bool, _says("Reading", None, "Send numbers and dates just as the sheet shows them (1,234.50 €).")
    ] = False
    columns: Annotated[Names, _says("Params", "A,B", "Send only these columns.")] = ()
    exclude: Annotated[Names, _says("Params", "A,B", "Send all columns but these.")] = ()
    rename: Annotated[Pairs, _says("Params", "COLUMN=PARAM", "Send a column under another name.")] = {}
    param: Annotated[Pairs, _says("Params", "NAME=VALUE", "Send this too; VALUE may hold {Column}.")] = {}
    send_empty: Annotated[bool, _says("Params", None, 'Send empty cells as "" instead of leaving them out.')] = False
    rows: Annotated[str | None, _says("Rows", "2-100,205", "Only rows with these numbers.")] = None
    limit: Annotated[int | None, _says("Rows", "N", "Only the first N of the rows that take part.")] = None
    where: Annotated[
        str | None, _says("Rows", "SQL", "Only rows for which this holds: \"Amount > 100 AND Country = 'DE'\".")
    ] = None
    key: Annotated[
        Names, _says("Rows", "A,B", "The columns that identify a row from one night to the next (all params).")
    ] = ()
    retry: Annotated[Names, _says("Rows", "STATUS,…", f"Run again rows that ended so: {', '.join(RETRY_WORDS)}.")] = ()
    on_unknown: Annotated[
        Literal["report", "resend"],
        _says("Rows", "report|resend", "What to do with a start whose answer was lost; resend only if harmless."),
    ] = "report"
    concurrency: Annotated[int, _says("Limits", "N", "Runs in flight at most.")] = 5
    rate: Annotated[str | None, _says("Limits", "N/s|N/min", "Starts at most.")] = None
    run_timeout: Annotated[Duration, _says("Limits", "TIME", "How long to follow one run.")] = "30m"
    deadline: Annotated[
        Duration | None, _says("Limits", "TIME", "When to stop starting: a duration (2h) or a time (06:00).")
    ] = None
    max_failures: Annotated[
        str | int | None, _says("Limits", "N|N%", "Stop starting when so many rows did not succeed.")
    ] = None
    canary: Annotated[int | None, _says("Limits", "N", "N rows first; the rest only if they all succeed.")] = None
    poll_rate: Annotated[str, _says("Limits", "N/s", "Polls at most, for the whole batch.")] = "20/s"
    workers: Annotated[
        int | None, _says("Limits", "N", "Worker processes of the local service (one for each CPU).")
    ] = None
    identity_id: Annotated[str | None, _says("The API", "ID", "The identity to run as; may be {Column}.")] = None
    session_id: Annotated[str | None, _says("The API", "ID", "The session to run in; may be {Column}.")] = None
    keep_sessions: Annotated[bool, _says("The API", None, "Leave the browser sessions open after the runs.")] = False
    task_version: Annotated[str | None, _says("The API", "V", "The version of the task (the latest).")] = None
    sync: Annotated[bool, _says("The API", None, "One long request for each run instead of polling.")] = False
    progress: Annotated[
        Literal["auto", "always", "never"], _says("Display", "auto|always|never", "Show progress on stderr.")
    ] = "auto"
    json: Annotated[bool, _says("Display", None, "Print the summary as one JSON object.")] = False
    log_format: Annotated[Literal["text", "json"], _says("Display", "text|json", "The form of the log on stderr.")] = (
        "text"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _says("Display", "LEVEL", "What the log holds, and above.")
    ] = "warning"

    def __post_init__(self) -> None:
        for name in ("input", "output", "journal", "files"):
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                msgspec.structs.force_setattr(self, name, os.fspath(value))
        if problems := _nameless(self) or _problems(self):
            raise UsageError("\n".join(problems))

    @property
    def input_path(self) -> Path:
        """The sheet."""
        return Path(self.input)

    @property
    def output_path(self) -> Path:
        """Where the result goes: as told, or `STEM.results.SUFFIX` beside the input."""
        if self.output is not None:
            return Path(self.output)
        return self.input_path.with_name(f"{stem_of(self.input_path)}.results{self.input_path.suffix}")

    @property
    def journal_path(self) -> Path:
        """The journal: as told, or `STEM.journal.db` beside the output."""
        if self.journal is not None:
            return Path(self.journal)
        return self.output_path.with_name(f"{stem_of(self.output_path)}.journal.db")

    @property
    def files_path(self) -> Path:
        """The folder that the local service's tasks may read."""
        return Path(self.files) if self.files is not None else self.input_path.absolute().parent

    @property
    def row_ranges(self) -> RowRanges | None:
        """The rows that may take part, None for all."""
        return None if self.rows is None else RowRanges.parse(self.rows)

    @property
    def start_rate(self) -> Rate | None:
        """How many starts may go out in a time."""
        return None if self.rate is None else Rate.parse(self.rate)

    @property
    def poll_budget(self) -> Rate:
        """How many polls may go out in a time, for the whole batch."""
        return Rate.parse(self.poll_rate)

    @property
    def run_seconds(self) -> float:
        """How long to follow one run, in seconds."""
        return parse_duration(self.run_timeout)

    @property
    def failure_limit(self) -> FailureLimit | None:
        """When so many rows did not succeed that going on is pointless."""
        return None if self.max_failures is None else FailureLimit.parse(self.max_failures)

    def deadline_from(self, now: datetime) -> Deadline | None:
        """When to stop starting, for a batch that begins `now` (aware)."""
        return None if self.deadline is None else Deadline.parse(self.deadline, now)


def stem_of(path: Path) -> str:
    """The name without ending and without a trailing `.results`, so that a result file is its own output.

    The neighbour of one that couldn't be replaced (`.results-2`) is a result file, too: its rows are the same rows.
    """
    return _RESULTS.sub("", path.stem) or path.stem


def _nameless(job: Job) -> list[str]:
    """Paths without a file name, such as "" and "/": no other path can be made from these."""
    wanted = {"input": "a spreadsheet", "output": "a file to write", "journal": "a file to write"}
    paths = {field: getattr(job, field) for field in wanted}
    return [
        f"{field}: {path!r}: not a file; name {wanted[field]}"
        for field, path in paths.items()
        if path is not None and not Path(path).name
    ]


def _problems(job: Job) -> list[str]:
    """Everything that is wrong with the job by itself, a sentence each."""
    found = [_parse_problem(job, field) for field in ("rows", "rate", "poll_rate", "run_timeout", "max_failures")]
    found += [_deadline_problem(job)]
    found += [_bytes_problem(job, field) for field in ("task", "param", "identity_id", "session_id", "task_version")]
    found += [_low(job, field) for field in ("header_row", "limit", "concurrency", "canary", "workers")]
    found += [_service_problem(job.service), _output_problem(job), _delimiter_problem(job.delimiter)]
    found += [
        f"retry: {word!r} is not a status that can be run again; use {', '.join(RETRY_WORDS)}"
        for word in job.retry
        if word not in RETRY_WORDS
    ]
    found += [f"rename: {old!r} needs a name to be sent under" for old, new in job.rename.items() if not new]
    found += [
        _journal_problem(job, field, path) for field, path in (("input", job.input_path), ("output", job.output_path))
    ]
    if job.columns and job.exclude:
        found.append("columns, exclude: say one of them, what to send or what to leave out")
    return [problem for problem in found if problem]


_PARSED = {
    "rows": "row_ranges",
    "rate": "start_rate",
    "poll_rate": "poll_budget",
    "run_timeout": "run_seconds",
    "max_failures": "failure_limit",
}


def _parse_problem(job: Job, field: str) -> str | None:
    try:
        getattr(job, _PARSED[field])
    except ValueError as error:
        return f"{field}: {error}"
    return None


def _bytes_problem(job: Job, field: str) -> str | None:
    """What a command line held that is no text in its encoding comes as lone surrogates (PEP 383)."""
    try:
        msgspec.json.encode(getattr(job, field))
    except UnicodeEncodeError:
        return f"{field}: it holds bytes that are no text, which can't be sent; write it in UTF-8"
    return None


def _deadline_problem(job: Job) -> str | None:
    try:
        job.deadline_from(datetime.now().astimezone())
    except ValueError as error:
        return f"deadline: {error}"
    return None


def _low(job: Job, field: str) -> str | None:
    value: Any = getattr(job, field)
    return None if value is None or value >= 1 else f"{field}: {value} is too low; it is 1 or more"


def _service_problem(service: str) -> str | None:
    if service in ("local", "anchor"):
        return None
    parts = urlsplit(service)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"service: {service!r} is neither local nor anchor nor a URL such as https://example.com"
    if parts.username or parts.password:
        return "service: a URL with a password in it would end up in logs; the key goes into ANCHORBROWSER_API_KEY"
    return None


def _output_problem(job: Job) -> str | None:
    if job.output is None:
        return None
    ending = job.output_path.suffix.lower()
    if ending not in OUTPUT_ENDINGS:
        return f"output: {job.output!r}: unknown ending; use one of {', '.join(OUTPUT_ENDINGS)}"
    if ending == ".xlsm" and job.input_path.suffix.lower() != ".xlsm":
        return f"output: {job.output!r}: only a .xlsm can become a .xlsm; use .xlsx"
    return None


def _journal_problem(job: Job, field: str, path: Path) -> str | None:
    """The journal is what keeps a row from running twice: nothing may be written over it."""
    if os.path.realpath(path) != os.path.realpath(job.journal_path):
        return None
    return f"journal, {field}: {job.journal_path} can't be both; name another file for the journal"


def _delimiter_problem(delimiter: str | None) -> str | None:
    words = ("tab", "comma", "semicolon", "pipe", "\\t")
    if delimiter is None or len(delimiter) == 1 or delimiter in words:
        return None
    return f"delimiter: {delimiter!r} is not one character; use for example ';' or tab"
