"""The options of a job: one table for flags, environment and job files; and where each value came from."""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cache
from textwrap import wrap
from typing import TYPE_CHECKING

import msgspec

from batch_runner.job.job import Job
from batch_runner.job.validation import SECRETIVE, OptionKind, hints_of, kind_of, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


PREFIX = "BATCH_RUNNER_"
OF_SERVE = ("port", "host", "tasks", "runs", "keep", "queue", "grace")
"""The options that only `serve` has: their variables are none of a job's, and no mistakes either."""


class Option(msgspec.Struct, frozen=True):
    """One option: `name` is the key in a job file, `flag` that of the command line, `variable` the environment's.

    `flag_only`: it is said on the command line, for one batch, and nowhere else.
    """

    name: str
    kind: OptionKind
    group: str
    metavar: str | None
    help: str
    default: object
    flag_only: bool = False

    @property
    def flag(self) -> str:
        """As on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As in the environment."""
        return variable_of(self.name)

    @property
    def is_secret(self) -> bool:
        """Whether its value may be a secret, such as an address that whoever knows it may write to."""
        return self.name in SECRETIVE

    def read(self, value: object) -> object:
        """The value as `Job` wants it, from text, or from what a TOML file can hold. Raises `ValueError`."""
        return read_value(self.name, value, hints_of(Job)[self.name])


def variable_of(name: str) -> str:
    """The environment's name for an option."""
    return PREFIX + name.upper()


@cache
def options() -> dict[str, Option]:
    """All options by name, in the order in which people see them."""
    fields = {field.name: field for field in msgspec.structs.fields(Job)}
    found: dict[str, Option] = {}
    for name, hint in hints_of(Job).items():
        meta: msgspec.Meta = hint.__metadata__[0]
        extra = meta.extra or {}
        kind = kind_of(hint)
        default = () if kind in (OptionKind.NAMES, OptionKind.PAIRS) else fields[name].default
        shown = (extra["group"], extra["metavar"], meta.description or "")
        found[name] = Option(name, kind, *shown, default, extra["flag_only"])
    return found


def command_words(command: str, source: str, chosen: Mapping[str, object]) -> list[str]:
    """The command line that does the same: each option by its flag."""
    words = [command, source]
    for name, value in chosen.items():
        option = options()[name]
        if option.kind is OptionKind.FLAG:
            words += [option.flag] if value else []
        elif isinstance(value, dict):
            words += [word for pair in value.items() for word in (option.flag, "=".join(pair))]
        elif isinstance(value, list | tuple):
            words += [option.flag, ",".join(map(_as_named, value))] if value else []
        elif value is not None:
            words += [option.flag, str(value)]
    return words


def _as_named(name: str) -> str:
    """A name in a list of names, as CSV has it."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') or name.strip() != name else name


def toml(value: object) -> str:
    """A value as TOML writes it. Its texts are JSON's (TOML 1.0, *Basic strings*), but for DEL, which it escapes."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def did_you_mean(word: str, known: list[str]) -> str:
    """` Did you mean …?` for the nearest known word, or nothing."""
    near = get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


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


class Provenance(msgspec.Struct, frozen=True, rename={"where": "from"}):
    """An option's value in force and where it came from, None for the default."""

    option: str
    value: object
    where: str | None


def provenance_of(job: Job, settings: Mapping[str, Setting]) -> tuple[Provenance, ...]:
    """Every option of a job, in the order of the table; secrets are only said to be set."""
    found = []
    for name in ("input", *options()):
        setting = settings.get(name)
        is_hidden = setting is not None and name != "input" and options()[name].is_secret
        where = setting.label if setting is not None else None
        found.append(Provenance(name, SET if is_hidden else getattr(job, name), where))
    return tuple(found)


def describe_job(origins: tuple[Provenance, ...]) -> str:
    """The job in force for a person: a line for each value that was said, and for a job file the defaults, too."""
    return "\n".join(_lines(origins))


def _lines(origins: tuple[Provenance, ...]) -> Iterator[str]:
    rows = [(origin.option, _show(origin.value), origin.where) for origin in origins if origin.where is not None]
    names, values = (max(len(row[place]) for row in rows) for place in (0, 1))
    yield "the job in force:"
    yield from (f"  {name:<{names}}  {value:<{min(values, WIDTH // 2)}}  {where}" for name, value, where in rows)
    if rows[0][2] == GIVEN:
        return
    unsaid = [origin for origin in origins if origin.where is None and origin.value not in (None, "", (), False, {})]
    known = ", ".join(f"{origin.option} {_show(origin.value)}" for origin in unsaid)
    yield from wrap(f"  defaults: {known}", WIDTH, subsequent_indent="    ")


def _show(value: object) -> str:
    return value if isinstance(value, str) and value.isprintable() else msgspec.json.encode(value).decode()
