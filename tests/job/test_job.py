"""A job says everything that is wrong with it, and where its files are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from systems import slashes

from batch_runner.errors import UsageError
from batch_runner.job.job import Job
from batch_runner.outcomes import RETRY_WORDS


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("rows", "5-2", "rows: '5-2' is not a range of rows"),
        ("rows", "two", "rows: 'two' is not a row"),
        ("rate", "5", "rate: '5' is not a rate"),
        ("rate", "0/s", "rate: '0/s' would let nothing through"),
        ("poll_rate", "fast", "poll_rate: 'fast' is not a rate"),
        ("run_timeout", "soon", "run_timeout: 'soon' is not a duration"),
        ("run_timeout", 0, "run_timeout: 0 is out of range"),
        ("max_failures", "many", "max_failures: 'many' is not a number of rows"),
        ("max_failures", "101%", "max_failures: '101%' is out of range"),
        ("deadline", "25:00", "deadline: '25:00' is not a time of day"),
        ("deadline", "later", "deadline: 'later' is neither a duration"),
        ("header_row", 0, "header_row: 0 is too low"),
        ("limit", 0, "limit: 0 is too low"),
        ("concurrency", -1, "concurrency: -1 is too low"),
        ("canary", 0, "canary: 0 is too low"),
        ("workers", 0, "workers: 0 is too low"),
        ("service", "ftp://example.com", "service: 'ftp://example.com' is neither local nor anchor nor a URL"),
        ("service", "https://", "service: 'https://' is neither"),
        ("service", "Anchor", "service: 'Anchor' is neither"),
        ("output", "results.pdf", "output: 'results.pdf': unknown ending"),
        ("output", "results", "output: 'results': unknown ending"),
        ("output", "results.xlsm", "output: 'results.xlsm': only a .xlsm can become a .xlsm"),
        ("output", "/", "output: '/': not a file; name a file to write"),
        ("output", "", "output: '': not a file"),
        ("journal", "", "journal: '': not a file"),
        ("delimiter", "", "delimiter: '' is not one character"),
        ("delimiter", ";;", "delimiter: ';;' is not one character"),
        ("retry", ("success",), "retry: 'success' is not a status that can be run again"),
        ("rename", {"Amount": ""}, "rename: 'Amount' needs a name"),
        ("param", {"Note": "caf\udce9"}, "param: it holds bytes that are no text"),
        ("task", "\udcff", "task: it holds bytes that are no text"),
    ],
)
def test_a_value_that_makes_no_sense_is_one_sentence(name: str, value: object, sentence: str) -> None:
    """Each senseless value is refused by one sentence that begins with its field's name."""
    with pytest.raises(UsageError) as caught:
        Job(**cast("Any", {"input": "a.csv", name: value}))
    assert str(caught.value).startswith(sentence)
    assert len(str(caught.value).splitlines()) == 1


def test_all_problems_are_told_at_once() -> None:
    """Four mistakes are four lines."""
    with pytest.raises(UsageError) as caught:
        Job(input="a.csv", rows="x", limit=0, service="?", columns=("A",), exclude=("B",))
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        "rows",
        "limit",
        "service",
        "columns, exclude",
    ]


def test_the_journal_is_a_file_of_its_own(tmp_path: Path) -> None:
    """An output written over the journal would let every row run twice: refused by whatever path."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "b.csv")
    for journal in ("b.csv", "x/../b.csv", "link.csv"):
        with pytest.raises(UsageError, match=r"journal, output: .* can't be both"):
            Job(input="a.csv", output=str(tmp_path / "b.csv"), journal=str(tmp_path / journal))
    with pytest.raises(UsageError, match=r"journal, input: a.csv can't be both"):
        Job(input="a.csv", journal="a.csv")


def test_a_password_in_the_url_is_not_repeated() -> None:
    """A secret that stands in the service's URL is refused without being shown."""
    with pytest.raises(UsageError) as caught:
        Job(input="a.csv", service="https://me:hunter2@example.com")
    assert "hunter2" not in str(caught.value)


def test_a_job_of_a_program_may_hold_paths() -> None:
    """Wherever a file is named, `os.PathLike` does as well as text, and is kept as text."""
    paths = cast("Any", {name: Path("x") / f"{name}.csv" for name in ("input", "output", "journal", "files")})
    job = Job(**paths)
    assert [job.input, job.output, job.journal, job.files] == [str(path) for path in paths.values()]


@pytest.mark.parametrize(
    ("given", "output", "journal"),
    [
        ("in/invoices.xlsx", "in/invoices.results.xlsx", "in/invoices.journal.db"),
        ("invoices.results.xlsx", "invoices.results.xlsx", "invoices.journal.db"),
        ("invoices.results-2.xlsx", "invoices.results.xlsx", "invoices.journal.db"),
        ("invoices-2.xlsx", "invoices-2.results.xlsx", "invoices-2.journal.db"),
        ("a.b.csv", "a.b.results.csv", "a.b.journal.db"),
        ("INVOICES.CSV", "INVOICES.results.CSV", "INVOICES.journal.db"),
        (".results.csv", ".results.results.csv", ".results.journal.db"),
    ],
)
def test_stem_of_output_and_former_journal(given: str, output: str, journal: str) -> None:
    """The output stands beside the input, and beside it the journal of an earlier release.

    A trailing `.results` is lost, so a result file is its own output.
    """
    job = Job(input=given)
    assert (slashes(job.output_path), slashes(job.former_journal)) == (output, journal)


def test_the_journal_stands_beside_the_output() -> None:
    """It is named after the task; what an earlier release had is the same for a result file and its input."""
    job = Job(input="in/a.csv", output="out/b.results.jsonl", task="pay")
    assert (job.journal_path, job.former_journal) == (Path("out/pay.journal.db"), Path("out/b.journal.db"))
    files = ("in/a.csv", "in/a.results.csv", "in/a.results-2.csv")
    assert {Job(input=file).former_journal for file in files} == {Path("in/a.journal.db")}


def test_files_default_to_the_inputs_folder() -> None:
    """The embedded task may read the input's own folder, absolute, unless another is named."""
    assert Job(input="in/a.csv").files_path == Path.cwd() / "in"
    assert Job(input="in/a.csv", files="pdf").files_path == Path("pdf")


def test_a_job_gives_parsed_values() -> None:
    """What was written as text is there as values, and None where nothing was said."""
    job = Job(input="a.csv", rows="2-3", rate="6/min", max_failures="5%", run_timeout=90)
    assert job.row_ranges is not None
    assert 3 in job.row_ranges
    assert job.start_rate is not None
    assert job.start_rate.gap == 10
    assert job.failure_limit is not None
    assert job.failure_limit.percent
    assert job.run_seconds == 90
    plain = Job(input="a.csv")
    assert (plain.row_ranges, plain.start_rate, plain.failure_limit) == (None, None, None)
    assert plain.deadline_from(datetime.now(UTC)) is None
    assert plain.run_seconds == 1800


def test_a_job_is_frozen() -> None:
    """Nobody changes a job on its way through the program."""
    job = Job(input="a.csv")
    with pytest.raises(AttributeError):
        job.limit = 5  # type: ignore[misc]


@pytest.mark.parametrize("word", RETRY_WORDS)
def test_every_retry_word_is_taken(word: str) -> None:
    """What the help says can be retried can be."""
    assert Job(input="a.csv", retry=(word,)).retry == (word,)


@pytest.mark.parametrize("output", ["b.CSV", "b.tsv", "b.xlsx", "b.jsonl", "b.parquet"])
def test_every_format_is_taken(output: str) -> None:
    """The endings of the contract are known in whatever case."""
    assert Job(input="a.csv", output=output).output_path == Path(output)
    assert Job(input="a.xlsm", output="b.xlsm").output_path == Path("b.xlsm")
    with pytest.raises(UsageError, match=r"the macros, formulas and other sheets would be lost; use out[/\\]b\.xlsm"):
        Job(input="a.XLSM", output="out/b.xlsx")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("5a1f-4b", "5a1f-4b"),
        ("/jobs/my_task.py:pay", "my_task.py-pay"),
        ("Zahlung: Überweisung / SEPA", "SEPA"),
        ("a b*c", "a-b-c"),
        ("..", "task"),
        ("x" * 300, "x" * 100),
    ],
)
def test_a_task_gives_its_journal_a_safe_name(task: str, name: str) -> None:
    """Whatever the task is called, the journal is a file that every system can hold."""
    assert Job(input="a.csv", task=task).journal_path == Path(f"{name}.journal.db")
