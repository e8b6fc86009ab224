"""The job in force: the value of each option, and where it came from."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import msgspec

from batch_runner.job.options import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batch_runner.job.job import Job

SET = "(set)"
"""Stands for a value that may be a secret."""
GIVEN = "INPUT"
"""Where an input comes from that no job file names."""
WIDTH = 110


class Setting(msgspec.Struct, frozen=True):
    """One value as somebody said it, and how to name the place where that was: `--limit`, `job.toml: limit`."""

    value: object
    label: str
    is_public: bool = True
    """Whether others can read it there: on the command line, or in a file."""


class Origin(msgspec.Struct, frozen=True, rename={"where": "from"}):
    """An option's value in force and where it came from, None for the default."""

    option: str
    value: object
    where: str | None


def origins_of(job: Job, settings: Mapping[str, Setting]) -> tuple[Origin, ...]:
    """Every option of a job, in the order of the table; secrets are only said to be set."""
    return tuple(_origin(job, name, settings.get(name)) for name in ("input", *options()))


def told(origins: tuple[Origin, ...]) -> str:
    """The job in force for a person: a line for each value that was said, and for a job file the defaults, too."""
    return "\n".join(_lines(origins))


def _origin(job: Job, name: str, setting: Setting | None) -> Origin:
    secret = name != "input" and options()[name].is_secret
    value = SET if secret and setting is not None else getattr(job, name)
    return Origin(name, value, setting.label if setting is not None else None)


def _lines(origins: tuple[Origin, ...]) -> Iterator[str]:
    rows = [(origin.option, _shown(origin.value), origin.where) for origin in origins if origin.where is not None]
    names, values = (max(len(row[place]) for row in rows) for place in (0, 1))
    yield "the job in force:"
    yield from (f"  {name:<{names}}  {value:<{min(values, WIDTH // 2)}}  {where}" for name, value, where in rows)
    if rows[0][2] == GIVEN:
        return
    unsaid = [origin for origin in origins if origin.where is None and not _is_nothing(origin.value)]
    known = ", ".join(f"{origin.option} {_shown(origin.value)}" for origin in unsaid)
    yield from wrap(f"  defaults: {known}", WIDTH, subsequent_indent="    ")


def _is_nothing(value: object) -> bool:
    return value in (None, "", (), False) or value == {}


def _shown(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else msgspec.json.encode(value).decode()
