"""What a job comes to tonight: one sheet or several, one batch each, with its own output and its own journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError
from batch_runner.job.inputs import ENDINGS, Found, find, is_pattern, takes
from batch_runner.job.job import stem_of
from batch_runner.job.places import fill, has_day, has_stem, lettered, parts, undated, with_stem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

    from batch_runner.job.job import Job

ONE_EACH = ("output", "report")
"""Files that no two batches can have in common; nor a journal, unless one is named for all."""


class Planned(msgspec.Struct, frozen=True):
    """One batch to come: its job, whose paths are all to the letter, and the series of sheets that it belongs to.

    `series` is the input's absolute path with the places of the day still in it: tomorrow's sheet has the same.
    """

    job: Job
    series: str


class Plan(msgspec.Struct, frozen=True):
    """All batches of a job tonight, sorted by input.

    `job` is the whole night's: its log file is to the letter, its input as it was written. `many`: the input is a
    pattern, however many files it matches. `missing` says why there is no batch, which the job has said is all right.
    """

    job: Job
    batches: tuple[Planned, ...]
    many: bool
    missing: str | None


def plan_of(job: Job, today: date) -> Plan:
    """Find tonight's inputs. Raises `UsageError` where there is none, and where two would get into each other's way."""
    day = job.day_from(today)
    inputs = find(job.input, day)
    if inputs.missing is not None and job.when_missing == "error":
        raise UsageError(inputs.missing)
    batches = tuple(_planned(job, found, day) for found in inputs.found)
    if inputs.many and (found := [*_eaten(job, batches, day), *_shared(job, batches)]):
        raise UsageError("\n".join(found))
    stem = stem_of(batches[0].job.input_path) if batches and not inputs.many else ""
    night = msgspec.structs.replace(job, log_file=_filled(job.log_file, day, stem))
    return Plan(night, batches, inputs.many, inputs.missing)


def pattern_problems(values: Mapping[str, object]) -> Iterator[str]:
    """Options that make no sense with an input that stands for several files: a sentence each."""
    text = values.get("input")
    if not isinstance(text, str) or not is_pattern(text):
        return
    for option in ONE_EACH:
        path = values.get(option)
        if isinstance(path, str) and not has_stem(path):
            yield f"{option}: {path!r} would be that of every sheet of {text}; put {{stem}} into it"
    journal = values.get("journal")
    if values.get("unique") and (not isinstance(journal, str) or has_stem(journal)):
        yield f"unique: each sheet of {text} has its own journal, which knows no duplicates in others; name one for all"
    log_file = values.get("log_file")
    if isinstance(log_file, str) and has_stem(log_file):
        yield f"log_file: {log_file!r} is one for the whole night, so it can't hold {{stem}}; use {{date}}"


def _planned(job: Job, found: Found, day: date) -> Planned:
    stem = stem_of(found.path)
    paths = {name: _filled(getattr(job, name), day, stem) for name in ("output", "journal", "report", "log_file")}
    paths["journal"] = paths["journal"] or _lasting_journal(job, found, stem)
    written = job.input if found.path == Path(job.input) else str(found.path)
    return Planned(
        msgspec.structs.replace(job, input=written, date=day.isoformat(), **paths),
        os.path.abspath(found.series if has_day(str(found.series)) else found.path),  # noqa: PTH100  links stay as said
    )


def _lasting_journal(job: Job, found: Found, stem: str) -> str | None:
    """A journal that outlasts the day where the date is in the name of what it would be named after.

    One for each day would know nothing of what was sent the day before.
    """
    if job.output is None:
        return str(undated(found.series)) if has_day(str(found.series)) else None
    written = stem_of(found.series)
    output = with_stem(job.output, written if has_day(written) else lettered(stem))
    return str(undated(Path(*parts(output)))) if has_day(output) else None


def _filled(text: str | None, day: date, stem: str) -> str | None:
    return None if text is None else fill(text, day, stem)


def _eaten(job: Job, batches: tuple[Planned, ...], day: date) -> Iterator[str]:
    """Outputs that the pattern would take for new sheets the next time."""
    for planned in batches:
        output = planned.job.output_path
        itself = os.path.realpath(output) == os.path.realpath(planned.job.input_path)
        if output.suffix.lower() in ENDINGS and not itself and takes(job.input, output, day):
            yield (
                f"output: {output} would be taken for an input the next time, since {job.input} matches it; "
                "put it into another folder, or name it {stem}.results" + output.suffix
            )


def _shared(job: Job, batches: tuple[Planned, ...]) -> Iterator[str]:
    """Files that two batches would have in common."""
    one_for_all = job.journal is not None and not has_stem(job.journal)
    looks: dict[str, Callable[[Job], Path | str | None]] = {
        "file": lambda job: job.input_path,
        "output": lambda job: job.output_path,
        "journal": lambda job: None if one_for_all else job.journal_path,
        "report": lambda job: job.report,
    }
    for what, path_of in looks.items():
        seen: dict[str, Job] = {}
        for planned in batches:
            path = path_of(planned.job)
            first = seen.setdefault(os.path.realpath(path), planned.job) if path else planned.job
            if first is not planned.job:
                yield _clash(what, first, planned.job, path)


def _clash(what: str, first: Job, second: Job, path: Path | str | None) -> str:
    both = f"{first.input} and {second.input}"
    if what == "file":
        return f"{both} are one and the same file, whose rows would be sent twice; take one of them away"
    step = ", or name one journal for all of them with --journal" if what == "journal" else ""
    return f"{both} would share the {what} {path}; rename one of them{step}"
