"""What is wrong with a job by itself: a sentence for each problem, which begins with the names of its options."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from batch_runner.job.secrets import heartbeat_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.job.job import Job

Now = TypeVar("Now")

OUTPUT_ENDINGS = (".csv", ".tsv", ".xlsx", ".xlsm", ".jsonl", ".parquet")
_DASK_ADDRESS = re.compile(r"(tcp|tls)://\S+:[0-9]{1,5}")
RETRY_WORDS = ("failure", "timeout", "cancelled", "error", "unknown", "changed", "all")


def nameless(job: Job) -> list[str]:
    """Paths without a file name, such as "" and "/": no other path can be made from these."""
    wanted = {
        "input": "a spreadsheet",
        "output": "a file to write",
        "journal": "a file to write",
        "report": "a file to write",
        "log_file": "a file to write",
    }
    paths = {field: getattr(job, field) for field in wanted}
    return [
        f"{field}: {path!r}: not a file; name {wanted[field]}"
        for field, path in paths.items()
        if path is not None and not Path(path).name
    ]


def problems(job: Job) -> list[str]:
    """Everything that is wrong with the job by itself, a sentence each."""
    now = datetime.now().astimezone()
    found = [_parse_problem(job, field) for field in _PARSED]
    found += [_moment_problem("deadline", job.deadline_from, now), _moment_problem("date", job.day_from, now.date())]
    found += [_bytes_problem(job, field) for field in ("task", "param", "identity_id", "session_id", "task_version")]
    found += [_low(job, field) for field in ("header_row", "limit", "concurrency", "canary", "workers", "retry_limit")]
    found += [_service_problem(job.service), _output_problem(job), _delimiter_problem(job.delimiter)]
    found += [_report_problem(job)]
    found += [_dask_problem(job.dask, job.service), cluster_problem(job.dask, job.workers, send_files=job.send_files)]
    found += [
        f"retry: {word!r} is not a status that can be run again; use {', '.join(RETRY_WORDS)}"
        for word in job.retry
        if word not in RETRY_WORDS
    ]
    found += [f"rename: {old!r} needs a name to be sent under" for old, new in job.rename.items() if not new]
    found += [
        _journal_problem(job, field, path) for field, path in (("input", job.input_path), ("output", job.output_path))
    ]
    found += [_log_problem(job), heartbeat_problem(job.heartbeat)]
    if job.unique_conflict and not job.unique:
        found.append("unique_conflict: it says in what a duplicate may differ; say with --unique what makes one")
    if job.columns and job.exclude:
        found.append("columns, exclude: say one of them, what to send or what to leave out")
    return [problem for problem in found if problem]


_PARSED = {
    "rows": "row_ranges",
    "rate": "start_rate",
    "poll_rate": "poll_budget",
    "run_timeout": "run_seconds",
    "max_failures": "failure_limit",
    "log_rotate": "log_bytes",
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


def _moment_problem(field: str, read: Callable[[Now], object], now: Now) -> str | None:
    """What is wrong with a value that is counted from now."""
    try:
        read(now)
    except ValueError as error:
        return f"{field}: {error}"
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


def _dask_problem(dask: str | None, service: str) -> str | None:
    if dask is None or service == "local":
        return None
    return f"dask, service: {service} runs its tasks itself; only the local service can run them on Dask"


def cluster_problem(dask: str | None, workers: int | None, *, send_files: bool) -> str | None:
    """What is wrong with the address of a Dask cluster, or with what is said about one."""
    if dask is None and send_files:
        return "send_files: it sends files to a Dask cluster; say which by --dask tcp://HOST:8786"
    if dask is None:
        return None
    if dask != "local" and not _DASK_ADDRESS.fullmatch(dask):
        return f"dask: {dask!r} is no address of a scheduler; write it as tcp://HOST:8786, or local"
    if workers is not None and dask != "local":
        return "workers, dask: that cluster has its own workers; leave --workers out"
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


def _report_problem(job: Job) -> str | None:
    """It is one page, and a file of its own."""
    path = job.report_path
    if path is None:
        return None
    if path.suffix.lower() != ".html":
        return f"report: {job.report!r}: a report is one page; name a file that ends in .html"
    taken = {"input": job.input, "output": str(job.output_path), "journal": str(job.journal_path)}
    taken |= {"log_file": job.log_file} if job.log_file else {}
    same = next((name for name, other in taken.items() if os.path.realpath(other) == os.path.realpath(path)), None)
    return None if same is None else f"report, {same}: {path} can't be both; name another file for the report"


def _journal_problem(job: Job, field: str, path: Path) -> str | None:
    """The journal is what keeps a row from running twice: nothing may be written over it."""
    if os.path.realpath(path) != os.path.realpath(job.journal_path):
        return None
    return f"journal, {field}: {job.journal_path} can't be both; name another file for the journal"


def _log_problem(job: Job) -> str | None:
    """Lines of a log would be the end of any of the other files."""
    if job.log_file is None:
        return "log_rotate: there is no log file to be rotated; name one with --log-file" if job.log_rotate else None
    task_file = job.task.rpartition(":")[0] if ".py:" in job.task else None
    others = {"input": job.input_path, "output": job.output_path, "journal": job.journal_path, "report": job.report}
    for name, path in {**others, "task": task_file}.items():
        if path is not None and os.path.realpath(path) == os.path.realpath(job.log_file):
            return f"log_file, {name}: {job.log_file} can't be both; name another file for the log"
    return None


def _delimiter_problem(delimiter: str | None) -> str | None:
    words = ("tab", "comma", "semicolon", "pipe", "\\t")
    if delimiter is None or len(delimiter) == 1 or delimiter in words:
        return None
    return f"delimiter: {delimiter!r} is not one character; use for example ';' or tab"
