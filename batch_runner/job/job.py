"""One validated, frozen Job says what to do, whoever said it.

A Job holds what the person wrote, in the forms that a TOML file can hold; its properties give the parsed values.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from batch_runner.errors import UsageError
from batch_runner.job import validation
from batch_runner.job.validation import shown
from batch_runner.outcomes import RETRY_WORDS
from batch_runner.units import (
    Deadline,
    FailureLimit,
    Rate,
    RowRanges,
    parse_day,
    parse_duration,
    parse_size,
    real_place,
    safe_name,
)

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator


ANCHOR_URL = "https://api.anchorbrowser.io"
_RESULTS = re.compile(r"\.results(-\d+)?\Z", re.ASCII)

RETRY_WAIT = 3600.0
Duration = str | int | float
Names = tuple[str, ...]
Pairs = dict[str, str]


def _says(group: str, metavar: str | None, text: str, *, flag_only: bool = False) -> Meta:
    """How an option is shown to people: its group in `--help`, the word for its value, what it does.

    With `flag_only` it is said for one batch: no job file and no variable has it.
    """
    return Meta(description=text, extra={"group": group, "metavar": metavar, "flag_only": flag_only})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One batch to run: which sheet, which task, and how. Raises `UsageError` where a value makes no sense.

    Every field is a command-line option of the same name (`--run-timeout`), an environment variable
    (`BATCH_RUNNER_RUN_TIMEOUT`) and a key of a job file (`run_timeout`). Patterns and places in its paths are for
    `plan_of`, which makes a job for each sheet of them; whoever runs a Job has its paths taken to the letter.
    """

    job_file: str | None = None
    """The file that the job was read from; no option."""
    task: Annotated[
        str,
        _says("The task", "ID", "The task to run; with the local service: invoice, or FILE.py:FUNCTION for your own."),
    ] = ""
    service: Annotated[
        str,
        _says("The task", "local|anchor|URL", "Who runs it: this program itself, Anchor's cloud, or a URL."),
    ] = "local"
    input: Annotated[str, _says("Files", "PATH", "The sheet of a job file; as a flag, another one for this batch.")]
    output: Annotated[
        str | None,
        _says("Files", "PATH", "Where the result goes; the ending chooses csv, tsv, xlsx, jsonl or parquet."),
    ] = None
    journal: Annotated[
        str | None,
        _says(
            "Files",
            "PATH",
            "What the task ran for (TASK.journal.db beside the output). With another journal, rows may run again.",
        ),
    ] = None
    expand: Annotated[
        bool, _says("Files", None, "Add one column result.NAME for each top-level key of the results.")
    ] = False
    report: Annotated[
        str | None, _says("Files", "PATH", "Write a report for people: one HTML page, on all sheets of a pattern.")
    ] = None
    overwrite: Annotated[bool, _says("Files", None, "Write over a file that isn't an output of this program.")] = False
    adopt_output: Annotated[
        bool, _says("Files", None, "Take back the runs that only the output has: none of these rows is started again.")
    ] = False
    ignore_output: Annotated[
        bool, _says("Files", None, "Leave them where they are: these rows count as new, and are started.")
    ] = False
    total: Annotated[
        Names, _says("Files", "A,B", "Columns of amounts, to be added up in the report by currency and outcome.")
    ] = ()
    locale: Annotated[
        str | None, _says("Files", "L", "How to write amounts, and the report's dates: de, fr-CH, … (the reader's).")
    ] = None
    compare: Annotated[
        Pairs, _says("Files", "COLUMN=result.KEY", "Mark the rows whose result says something else than this column.")
    ] = {}
    when_missing: Annotated[
        Literal["error", "ok"],
        _says("Files", "error|ok", "If there is no INPUT tonight: end with an error (2), or with 0."),
    ] = "error"
    date: Annotated[
        str | None,
        _says("Files", "DATE", "The day that {date} stands for in file names (today): 2026-11-24, or yesterday."),
    ] = None
    sheet: Annotated[str | None, _says("Reading", "NAME", "The sheet of the workbook (the first visible one).")] = None
    header_row: Annotated[int | None, _says("Reading", "N", "The row that holds the headers (found by itself).")] = None
    no_header: Annotated[
        bool, _says("Reading", None, "No row holds headers: all rows are data, the columns are called A, B, C.")
    ] = False
    encoding: Annotated[str | None, _says("Reading", "NAME", "The encoding of a CSV file (found by itself).")] = None
    delimiter: Annotated[
        str | None, _says("Reading", "C", "The delimiter of a CSV file, or none (found by itself).")
    ] = None
    hidden: Annotated[
        Literal["include", "skip"] | None,
        _says("Reading", "include|skip", "Whether hidden or filtered-out rows run; required where there are any."),
    ] = None
    suspect_rows: Annotated[
        Literal["run", "skip"] | None,
        _says("Reading", "run|skip", "What to do with rows that look like totals, headings or notes (refuse them)."),
    ] = None
    merged: Annotated[
        Literal["fill", "first"] | None,
        _says("Reading", "fill|first", "A cell merged down over rows counts in all of them, or in the first."),
    ] = None
    as_shown: Annotated[
        bool, _says("Reading", None, "Send numbers and dates just as the sheet shows them (1,234.50 €).")
    ] = False
    trust_formulas: Annotated[
        bool, _says("Reading", None, "Send what formulas hold although the file says that it is out of date.")
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
    retry: Annotated[
        Names,
        _says(
            "Rows",
            "STATUS,…",
            f"Start rows again by status: {', '.join(RETRY_WORDS)} (changed: edited since; all: every row).",
        ),
    ] = ()
    retry_limit: Annotated[
        int | None, _says("Rows", "N", "Retry a row on N nights at most; then it is parked and named.")
    ] = None
    retry_wait: Annotated[
        Duration | None,
        _says(
            "Rows", "TIME", "Retry a row so long after its last attempt ended (1h; 0 at a terminal), or once edited."
        ),
    ] = None
    unique: Annotated[
        Names,
        _says("Rows", "A,B", "Refuse a row whose values here ran before, however they were typed: help nights."),
    ] = ()
    unique_conflict: Annotated[
        Names, _says("Rows", "A,B", "With --unique: the message says if these columns, such as the amount, differ.")
    ] = ()
    allow_duplicates: Annotated[
        bool, _says("Rows", None, "Send the rows that --unique refuses, in this batch: they may run twice.")
    ] = False
    ignore: Annotated[
        Names, _says("Rows", "A,B", "Columns that aren't compared: an edit in these changes nothing (days overdue).")
    ] = ()
    same: Annotated[bool, _says("Rows", None, "Carry held rows over: they are what ran before. It is remembered.")] = (
        False
    )
    again: Annotated[
        bool,
        _says("Rows", None, "Start held rows in this batch, though they ran before: a second run.", flag_only=True),
    ] = False
    on_unknown: Annotated[
        Literal["report", "resend"],
        _says(
            "Rows",
            "report|resend",
            "If a start's answer was lost: report it; or resend it, which may run the row twice.",
        ),
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
    poll_rate: Annotated[
        str, _says("Limits", "N/s|auto", "Polls at most, for the whole batch; auto follows the service.")
    ] = "auto"
    files: Annotated[
        str | None, _says("The local service", "DIR", "The folder that the invoice task may read (the input's own).")
    ] = None
    workers: Annotated[int | None, _says("The local service", "N", "Worker processes (one for each CPU).")] = None
    dask: Annotated[
        str | None,
        _says("The local service", "ADDRESS", "Run the tasks on this Dask cluster instead, tcp://HOST:8786; or local."),
    ] = None
    send_files: Annotated[
        bool,
        _says("The local service", None, "Send each row's files to Dask, for workers that don't share the folder."),
    ] = False
    identity_id: Annotated[str | None, _says("The API", "ID", "The identity to run as; may be {Column}.")] = None
    session_id: Annotated[str | None, _says("The API", "ID", "The session to run in; may be {Column}.")] = None
    keep_sessions: Annotated[bool, _says("The API", None, "Leave the browser sessions open after the runs.")] = False
    task_version: Annotated[str | None, _says("The API", "V", "The version of the task (the latest).")] = None
    sync: Annotated[bool, _says("The API", None, "One long request for each run instead of polling.")] = False
    insecure_http: Annotated[
        bool, _says("The API", None, "Send the key over http:// to another machine, where others can read it.")
    ] = False
    heartbeat: Annotated[
        str | None,
        _says(
            "Notifications",
            "URL",
            "A URL to ping at start, success and failure, as healthchecks.io does; may hold ${NAME}.",
        ),
    ] = None
    notify: Annotated[
        Names, _says("Notifications", "URL,…", "Tell people through apprise (mail, Slack, Teams, …); may hold ${NAME}.")
    ] = ()
    notify_when: Annotated[
        Literal["failure", "always", "never"],
        _says("Notifications", "failure|always|never", "When to send it; failure is any exit code but 0."),
    ] = "failure"
    progress: Annotated[
        Literal["auto", "always", "never"], _says("Display", "auto|always|never", "Show progress on stderr.")
    ] = "auto"
    json: Annotated[bool, _says("Display", None, "Print the summary as one JSON object.")] = False
    quiet: Annotated[
        bool, _says("Display", None, "Print nothing if the exit code is 0; with --json, print only the JSON.")
    ] = False
    log_format: Annotated[Literal["text", "json"], _says("Display", "text|json", "The form of the log on stderr.")] = (
        "text"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        _says("Display", "LEVEL", "What the log holds: debug, info, warning or error (warning; in a log file, info)."),
    ] = None
    log_file: Annotated[str | None, _says("Display", "PATH", "Write the log to this file, too.")] = None
    log_rotate: Annotated[
        str | None, _says("Display", "SIZE", "Begin a new log file at this size (10MB); five old ones are kept.")
    ] = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "journal", "files", "report", "log_file"):
            value = getattr(self, name)
            if isinstance(value, os.PathLike):
                msgspec.structs.force_setattr(self, name, os.fspath(value))
        self._convert()
        paths = {field: getattr(self, field) for field in ("input", "output", "journal", "report", "log_file")}
        if found := validation.nameless(paths) or [problem for problem in self._problems() if problem]:
            raise UsageError("\n".join(found))

    def _convert(self) -> None:
        """Take each value in whatever form the command line does; raises `UsageError` for those that make no sense."""
        problems: list[str] = []
        for name, hint in validation.hints_of(Job).items():
            said = getattr(self, name)
            try:
                # What stands in a tuple is one name each, to the letter; a text is split as on the command line.
                value = validation.read_value(name, list(said) if isinstance(said, tuple) else said, hint)
            except ValueError as error:
                problems.append(f"{name}: {error}")
            else:
                msgspec.structs.force_setattr(self, name, value)
        if problems:
            raise UsageError("\n".join(problems))

    def _problems(self) -> Iterator[str | None]:
        """Everything that is wrong with the job by itself, a sentence each, which begins with the names of options."""
        now = datetime.now().astimezone()
        parsed: dict[str, Callable[[], object]] = {
            "rows": lambda: self.row_ranges,
            "rate": lambda: self.start_rate,
            "poll_rate": lambda: self.poll_budget,
            "run_timeout": lambda: self.run_seconds,
            "retry_wait": lambda: self.retry_wait_seconds,
            "max_failures": lambda: self.failure_limit,
            "log_rotate": lambda: self.log_bytes,
            "deadline": lambda: self.deadline_from(now),
            "date": lambda: self.day_from(now.date()),
        }
        yield from (validation.parse_problem(field, read) for field, read in parsed.items())
        texts = ("task", "param", "identity_id", "session_id", "task_version")
        yield from (validation.bytes_problem(field, getattr(self, field)) for field in texts)
        counts = ("header_row", "limit", "concurrency", "canary", "workers", "retry_limit")
        yield from (validation.low(field, getattr(self, field)) for field in counts)
        yield validation.service_problem(self.service)
        yield validation.output_problem(self.output, self.input_path)
        yield validation.delimiter_problem(self.delimiter)
        yield validation.report_problem(self.report_path)
        yield validation.dask_problem(self.dask, self.service)
        yield validation.cluster_problem(self.dask, self.workers, send_files=self.send_files)
        yield from validation.retry_problems(self.retry)
        yield from (f"rename: {old!r} needs a name to be sent under" for old, new in self.rename.items() if not new)
        yield from validation.compare_problems(self.compare)
        yield validation.locale_problem(self.locale)
        yield from self._clashes()
        yield validation.heartbeat_problem(self.heartbeat)
        if self.unique_conflict and not self.unique:
            yield "unique_conflict: it says in what a duplicate may differ; say with --unique what makes one"
        if self.again and self.same:
            yield "again, same: say one of them, that held rows are started or that they are carried over"
        if self.no_header and self.header_row is not None:
            yield "no_header, header_row: say one of them, that no row holds headers or which one does"
        if self.no_header and real_place(self.output_path) == real_place(self.input_path):
            yield "no_header: without headers its columns can't be told from ours; name another file with --output"
        if self.adopt_output and self.ignore_output:
            yield "adopt_output, ignore_output: say one of them, to take the runs of the output back or to leave them"
        if self.columns and self.exclude:
            yield "columns, exclude: say one of them, what to send or what to leave out"

    def _clashes(self) -> Iterator[str | None]:
        """Files that would be written over each other; the journal is what keeps a row from running twice."""
        files = {"input": self.input_path, "output": self.output_path}
        for field, path in files.items():
            yield validation.clash("journal", self.journal_path, {field: path}, "journal")
        files["journal"] = self.journal_path
        log = None if self.log_file is None else Path(self.log_file)
        yield validation.clash("report", self.report_path, {**files, "log_file": log}, "report")
        tasks = Path(self.task.rpartition(":")[0]) if ".py:" in self.task else None
        yield validation.clash("log_file", log, {**files, "report": self.report_path, "task": tasks}, "log")
        if self.log_rotate and log is None:
            yield "log_rotate: there is no log file to be rotated; name one with --log-file"

    def __repr__(self) -> str:
        """What was said, a secret's place without the secret."""
        fields = msgspec.structs.fields(self)
        said = {field.name: getattr(self, field.name) for field in fields if self._says_more(field)}
        return f"Job({', '.join(f'{name}={shown(name, value)!r}' for name, value in said.items())})"

    def _says_more(self, field: msgspec.structs.FieldInfo) -> bool:
        return bool(getattr(self, field.name) != field.default and (getattr(self, field.name) or field.required))

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
        """The journal: as told, or `TASK.journal.db` beside the output."""
        if self.journal is not None:
            return Path(self.journal)
        return self.output_path.with_name(f"{safe_name(self.task)}.journal.db")

    @property
    def former_journal(self) -> Path:
        """Where an earlier release had the sheet's own journal: `STEM.journal.db` beside the output."""
        return self.output_path.with_name(f"{stem_of(self.output_path)}.journal.db")

    @property
    def report_path(self) -> Path | None:
        """Where the report goes, None for no report."""
        return None if self.report is None else Path(self.report)

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
    def poll_budget(self) -> Rate | None:
        """How many polls may go out in a time, for the whole batch; None: found out from the service's answers."""
        if self.poll_rate.strip().lower() == "auto":
            return None
        try:
            return Rate.parse(self.poll_rate)
        except ValueError as error:
            raise ValueError(f"{error}; auto leaves it to the program") from None

    @property
    def run_seconds(self) -> float:
        """How long to follow one run, in seconds."""
        return parse_duration(self.run_timeout)

    @property
    def retry_wait_seconds(self) -> float:
        """How long ago a row's last attempt must have ended for a retry; who sits at a terminal has looked already."""
        if self.retry_wait is not None:
            return parse_duration(self.retry_wait, may_be_none=True)
        return 0.0 if sys.stdin is not None and sys.stdin.isatty() else RETRY_WAIT

    @property
    def failure_limit(self) -> FailureLimit | None:
        """When so many rows did not succeed that going on is pointless."""
        return None if self.max_failures is None else FailureLimit.parse(self.max_failures)

    @property
    def log_bytes(self) -> int:
        """How large a log file may become before a new one is begun; 0 for no end."""
        return 0 if self.log_rotate is None else parse_size(self.log_rotate)

    def deadline_from(self, now: dt.datetime) -> Deadline | None:
        """When to stop starting, for a batch that begins `now` (aware)."""
        return None if self.deadline is None else Deadline.of_batch(self.deadline, now)

    def day_from(self, today: dt.date) -> dt.date:
        """The day that `{date}` stands for in file names."""
        return today if self.date is None else parse_day(self.date, today)


def stem_of(path: Path) -> str:
    """The name without ending and without a trailing `.results`, so that a result file is its own output.

    The neighbour of one that couldn't be replaced (`.results-2`) is a result file, too: its rows are the same rows.
    """
    return _RESULTS.sub("", path.stem) or path.stem
