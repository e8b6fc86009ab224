"""Folders of the day: where a date or a stem is the name of a folder, it is made; nothing above it is."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from batch_runner.errors import UsageError, reason_of
from batch_runner.job.places import WITH_STEM, has_day, has_stem, parts

if TYPE_CHECKING:
    from batch_runner.job.job import Job
    from batch_runner.job.plan import Plan


def make_folders(job: Job, plan: Plan) -> None:
    """Make the folders that the job's own places name. Raises `UsageError` where the folder above isn't there."""
    for option in WITH_STEM:
        written = getattr(job, option)
        folders = parts(written)[:-1] if written is not None else ()
        fixed = Path(*takewhile(lambda name: not _has_place(name), folders))
        if len(fixed.parts) == len(folders):
            continue
        if not fixed.is_dir():
            raise UsageError(f"{option}: {fixed}: no such folder; make it")
        for planned in plan.batches:
            _make(option, Path(getattr(planned.job, option)).parent)


def _make(option: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{option}: {folder}: the folder can't be made: {reason_of(error)}") from None


def _has_place(name: str) -> bool:
    return has_day(name) or has_stem(name)
