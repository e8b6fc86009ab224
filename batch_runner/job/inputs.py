"""The files that an input names tonight, and the batch that each of them becomes.

`*`, `?` and `[…]` are as in a shell, `**` is a folder and all below it; the ending counts in whatever case. A file or
folder whose name really holds such characters, and that exists, is taken to the letter.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from fnmatch import translate
from glob import has_magic
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError, reason_of
from batch_runner.fs import is_draft
from batch_runner.job.job import stem_of
from batch_runner.job.path_templates import (
    WITH_STEM,
    escape_places,
    fill,
    fill_name,
    has_day,
    has_stem,
    journal_of_all_days,
    parts,
    pieces,
    with_stem,
)
from batch_runner.sheet.model import TEXT_ENDINGS, WORKBOOK_ENDINGS
from batch_runner.units import real_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import date

    from batch_runner.job.job import Job


ENDINGS = (*TEXT_ENDINGS, *WORKBOOK_ENDINGS)
ALL_BELOW = "**"
MOST_NAMES = 3
"""So many files are named where another was looked for."""


class Found(msgspec.Struct, frozen=True):
    """One input: the file, and the same path with the day's places still in it."""

    path: Path
    series: Path

    def below(self, name: str, written: str) -> Found:
        """What lies in this folder under a name, which was written so."""
        return Found(self.path / name, self.series / written)


class InputFiles(msgspec.Struct, frozen=True):
    """What an input came to. `many`: it is a pattern, however many it matches. `missing` says why there is none."""

    found: tuple[Found, ...]
    many: bool
    missing: str | None = None


def find(text: str, day: date) -> InputFiles:
    """Look for the inputs, sorted. Raises `UsageError` where a folder that must be there is not, or can't be read."""
    names = parts(text)
    if not any(map(has_magic, names)) and not has_day(text) and "{" not in text:
        return _single(Found(Path(text), Path(text)))
    folder, rest = _split_fixed(names)
    if not rest:
        return _single(Found(folder, Path(escape_places(text))))
    _insist_on(folder)
    many = any(has_magic(name) for name in rest)
    reached = [Found(folder, folder)]
    for number, name in enumerate(rest, 1):
        reached = [found for place in reached for found in _step(place, name, day, last=number == len(rest))]
    if not many:
        return _single(reached[0])
    reasons = {found.path: _why_not(found.path, rest[-1]) for found in reached}
    taken = sorted((found for found in reached if reasons[found.path] is None), key=lambda found: found.path)
    return InputFiles(tuple(taken), many, None if taken else _nothing(text, folder, reasons))


def is_pattern(text: str) -> bool:
    """Whether an input stands for several files."""
    return any(has_magic(name) for name in _split_fixed(parts(text))[1])


def takes(text: str, path: Path, day: date) -> bool:
    """Whether a file at this path would be an input of the pattern."""
    names = parts(os.path.abspath(text))  # noqa: PTH100  the places must stay in it
    if path.suffix.lower() not in ENDINGS or _why_not_named(path.name, names[-1]) is not None:
        return False
    return _fits(names, Path(os.path.abspath(path)).parts, day)  # noqa: PTH100  a link is another name


def _split_fixed(names: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """The path up to the first name that is to be filled or matched, and all names from there on."""
    path = Path()
    for number, name in enumerate(names):
        if (has_magic(name) or "{" in name or "}" in name) and not os.path.lexists(path / name):
            return path, tuple(names[number:])
        path /= name
    return path, ()


def _insist_on(folder: Path) -> None:
    """A share that isn't mounted is no empty night."""
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise UsageError(f"input: {folder}: {what}; is a disk or share not mounted?")


def _step(place: Found, name: str, day: date, *, last: bool) -> Iterator[Found]:
    """All that a name stands for in one folder."""
    if name == ALL_BELOW:
        yield from _all_below(place)
    elif os.path.lexists(place.path / name):
        yield place.below(name, name)
    elif not has_magic(name):
        yield place.below(fill_name(name, day), name)
    elif place.path.is_dir():
        pattern = _compile(name, day)
        for other in _names_in(place.path):
            match = pattern.fullmatch(other)
            if match and (last or _is_open(place.path / other)):
                yield place.below(other, _with_places(match, name))


def _all_below(place: Found) -> Iterator[Found]:
    yield place
    for name in _names_in(place.path) if place.path.is_dir() else ():
        folder = place.path / name
        if _is_open(folder) and not folder.is_symlink():
            yield from _all_below(place.below(name, name))


def _is_open(folder: Path) -> bool:
    """A folder that a pattern looks into: hidden ones are not."""
    return folder.is_dir() and not folder.name.startswith(".")


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UsageError(f"input: {folder}: the folder can't be read: {reason_of(error)}") from None


def _compile(name: str, day: date) -> re.Pattern[str]:
    """A pattern for one name, with a group for each place of the day."""
    *before, last = pieces(name)
    whole = "".join(_translate(p) if isinstance(p, str) else f"({re.escape(p.fill(day, ''))})" for p in before)
    if not isinstance(last, str):
        return re.compile(whole + f"({re.escape(last.fill(day, ''))})")
    stem, dot, ending = last.rpartition(".")
    if not dot or has_magic(ending):
        return re.compile(whole + _translate(last))
    return re.compile(f"{whole}{_translate(stem + dot)}(?i:{re.escape(ending)})")


def _translate(text: str) -> str:
    """A shell's pattern as a regular expression, without the mark of its end."""
    return translate(text)[:-2]


def _with_places(match: re.Match[str], name: str) -> str:
    """The name that was found, with the day's places as they were written."""
    written = [piece.written for piece in pieces(name) if not isinstance(piece, str)]
    found = match.string
    for number, place in reversed(list(enumerate(written, 1))):
        found = found[: match.start(number)] + place + found[match.end(number) :]
    return found


def _fits(names: tuple[str, ...], others: tuple[str, ...], day: date) -> bool:
    if not names or not others:
        return not names and not others
    if names[0] == ALL_BELOW:
        return any(_fits(names[1:], others[number:], day) for number in range(len(others)))
    fits = names[0] == others[0] or (_is_readable(names[0]) and _compile(names[0], day).fullmatch(others[0]))
    return bool(fits) and _fits(names[1:], others[1:], day)


def _is_readable(name: str) -> bool:
    try:
        return bool(pieces(name))
    except ValueError:
        return False


def _why_not(path: Path, name: str) -> str | None:
    """Why a file that the pattern matches is no input, if so."""
    reason = _why_not_named(path.name, name)
    if reason is None and not path.is_file():
        return "a folder" if path.is_dir() else "not a file"
    return reason


def _why_not_named(name: str, pattern: str) -> str | None:
    """The same as far as its name says it; `pattern` is the last name of the input as it was written."""
    path = Path(name)
    if name.startswith("."):
        return "hidden"
    if name.startswith("~$"):
        return "the lock of an open workbook"
    if path.suffix.lower() not in ENDINGS:
        return "no spreadsheet"
    if stem_of(path) != path.stem and stem_of(Path(pattern)) == Path(pattern).stem:
        return "an earlier output"
    return None


def _single(found: Found) -> InputFiles:
    if found.path.exists():
        return InputFiles((found,), many=False)
    folder = found.path.parent
    _insist_on(folder)
    return InputFiles((), many=False, missing=f"{found.path}: no such file; {_there(folder, found.path.name)}")


def _nothing(text: str, folder: Path, reasons: dict[Path, str | None]) -> str:
    reasons = {path: reason for path, reason in reasons.items() if not is_draft(path)}
    if reasons:
        over = ", ".join(f"{path.name} ({reason})" for path, reason in sorted(reasons.items())[:MOST_NAMES])
        more = ", …" if len(reasons) > MOST_NAMES else ""
        return f"{text}: no such file; passed over: {over}{more}"
    return f"{text}: no such file; {_there(folder, Path(text).name)}"


def _there(folder: Path, name: str) -> str:
    """What a folder has that may have been meant."""
    names = [other for other in _names_in(folder) if _why_not_named(other, "") is None]
    near = get_close_matches(name, names, MOST_NAMES, 0.5) or names[:MOST_NAMES]
    more = ", …" if len(names) > len(near) else ""
    return f"the folder {folder} has {', '.join(near)}{more}" if near else f"the folder {folder} has no spreadsheet"


ONE_EACH = ("output",)
"""Files that no two batches can have in common; nor a journal or a report, unless one is named for all."""


class SheetJob(msgspec.Struct, frozen=True):
    """One batch to come: its job, whose paths are all to the letter, and the series of sheets that it belongs to.

    `series` is the input's absolute path with the places of the day still in it: tomorrow's sheet has the same.
    Where no journal was named, the task's memory lies in the folder `memory`; `former` is where an earlier release had
    the sheet's own journal. `notes` say which journal was taken, and why.
    """

    job: Job
    series: str
    memory: Path
    former: Path
    notes: tuple[str, ...] = ()


class NightJob(msgspec.Struct, frozen=True):
    """All batches of a job tonight, sorted by input.

    `job` is the whole night's: its log file is to the letter, its input as it was written. `many`: the input is a
    pattern, however many files it matches. `missing` says why there is no batch, which the job has said is all right.
    """

    job: Job
    batches: tuple[SheetJob, ...]
    many: bool
    missing: str | None


def night_job_of(job: Job, today: date) -> NightJob:
    """Find tonight's inputs. Raises `UsageError` where there is none, and where two would get into each other's way."""
    day = job.day_from(today)
    inputs = find(job.input, day)
    if inputs.missing is not None and job.when_missing == "error":
        raise UsageError(inputs.missing)
    batches = tuple(_plan(job, found, day) for found in inputs.found)
    if inputs.many and (found := [*_outputs_taken_for_inputs(job, batches, day), *_find_clashes(job, batches)]):
        raise UsageError("\n".join(found))
    stem = stem_of(batches[0].job.input_path) if batches and not inputs.many else ""
    night = msgspec.structs.replace(job, log_file=_fill(job.log_file, day, stem))
    return NightJob(night, batches, inputs.many, inputs.missing)


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
    if values.get("unique") and isinstance(journal, str) and has_stem(journal):
        yield f"unique: each sheet of {text} has its own journal, which knows no duplicates in others; name one for all"
    log_file = values.get("log_file")
    if isinstance(log_file, str) and has_stem(log_file):
        yield f"log_file: {log_file!r} is one for the whole night, so it can't hold {{stem}}; use {{date}}"


def _plan(job: Job, found: Found, day: date) -> SheetJob:
    stem = stem_of(found.path)
    paths = {name: _fill(getattr(job, name), day, stem) for name in ("output", "journal", "report", "log_file")}
    written = job.input if found.path == Path(job.input) else str(found.path)
    sheet_job = msgspec.structs.replace(job, input=written, date=day.isoformat(), **paths)
    series = os.path.abspath(found.series if has_day(str(found.series)) else found.path)  # noqa: PTH100  links stay as said
    former = _former_journal(job, found, stem) or sheet_job.former_journal
    return SheetJob(sheet_job, series, _memory_folder(job), former)


def _memory_folder(job: Job) -> Path:
    """Where the memory of a job's task lies: beside its outputs, whatever the day, and however many there are."""
    if job.output is not None and not has_day(job.output) and not has_stem(job.output):
        return Path(job.output).parent
    if job.output is not None and job.job_file is not None:
        return Path(job.job_file).parent
    fixed, rest = _split_fixed(parts(job.input))
    return fixed if rest else fixed.parent


def _former_journal(job: Job, found: Found, stem: str) -> Path | None:
    """The journal that an earlier release made where the date is in the name of what it was named after."""
    if job.output is None:
        return journal_of_all_days(found.series) if has_day(str(found.series)) else None
    written = stem_of(found.series)
    output = with_stem(job.output, written if has_day(written) else escape_places(stem))
    return journal_of_all_days(Path(*parts(output))) if has_day(output) else None


def _fill(text: str | None, day: date, stem: str) -> str | None:
    return None if text is None else fill(text, day, stem)


def _outputs_taken_for_inputs(job: Job, batches: tuple[SheetJob, ...], day: date) -> Iterator[str]:
    """Outputs that the pattern would take for new sheets the next time."""
    for planned in batches:
        output = planned.job.output_path
        itself = real_place(output) == real_place(planned.job.input_path)
        if not itself and (problem := taken_for_input(job.input, output, day)):
            yield problem


def taken_for_input(pattern: str, output: Path, day: date) -> str | None:
    """A sentence where a pattern would take an output for a new sheet the next time."""
    if output.suffix.lower() not in ENDINGS or not (is_pattern(pattern) and takes(pattern, output, day)):
        return None
    return (
        f"output: {output} would be taken for an input the next time, since {pattern} matches it; "
        "put it into another folder, or name it {stem}.results" + output.suffix
    )


def _find_clashes(job: Job, batches: tuple[SheetJob, ...]) -> Iterator[str]:
    """Files that two batches would have in common."""
    one_for_all = job.journal is None or not has_stem(job.journal)
    looks: dict[str, Callable[[Job], Path | str | None]] = {
        "file": lambda job: job.input_path,
        "output": lambda job: job.output_path,
        "journal": lambda job: None if one_for_all else job.journal_path,
        "report": lambda each: each.report if job.report and has_stem(job.report) else None,
    }
    for what, path_of in looks.items():
        seen: dict[str, Job] = {}
        for planned in batches:
            path = path_of(planned.job)
            first = seen.setdefault(real_place(path), planned.job) if path else planned.job
            if first is not planned.job:
                yield _clash(what, first, planned.job, path)


def _clash(what: str, first: Job, second: Job, path: Path | str | None) -> str:
    both = f"{first.input} and {second.input}"
    if what == "file":
        return f"{both} are one and the same file, whose rows would be sent twice; take one of them away"
    step = ", or name one journal for all of them with --journal" if what == "journal" else ""
    return f"{both} would share the {what} {path}; rename one of them{step}"


def make_folders(job: Job, plan: NightJob) -> None:
    """Make the folders that the job's own places name. Raises `UsageError` where the folder above isn't there."""
    for option in WITH_STEM:
        written = getattr(job, option)
        folders = parts(written)[:-1] if written is not None else ()
        fixed = Path(*takewhile(lambda name: not (has_day(name) or has_stem(name)), folders))
        if len(fixed.parts) == len(folders):
            continue
        if not fixed.is_dir():
            raise UsageError(f"{option}: {fixed}: no such folder; make it")
        for planned in plan.batches:
            folder = Path(getattr(planned.job, option)).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"{option}: {folder}: the folder can't be made: {reason_of(error)}") from None
