"""The options of a job: one table for flags, environment and job files; and where each value came from."""

from __future__ import annotations

import csv
from datetime import date, time
from difflib import get_close_matches
from enum import Enum
from functools import cache
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from batch_runner.job.job import Job
from batch_runner.job.validation import SECRETIVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


PREFIX = "BATCH_RUNNER_"
OF_SERVE = ("port", "host", "tasks", "runs", "keep", "queue", "grace")
"""The options that only `serve` has: their variables are none of a job's, and no mistakes either."""
STATE = "state"
"""The variable that names the folder of the index of journals; it is no option."""


class OptionKind(Enum):
    """How a person writes the value of an option."""

    FLAG = "flag"
    """Said or not said."""
    NAMES = "names"
    """`A,B`, quoted as in CSV where a name holds a comma; may be said again."""
    PAIRS = "pairs"
    """`NAME=VALUE`; may be said again."""
    VALUE = "value"


_COMPLAINTS = {
    OptionKind.FLAG: "is neither true nor false",
    OptionKind.NAMES: "is not a list of texts",
    OptionKind.PAIRS: "is not a table of texts",
    OptionKind.VALUE: "is not a text; put it in quotes",
}

_FORMS = {
    OptionKind.NAMES: "write URLs, a comma between two, one with a comma in double quotes",
    OptionKind.VALUE: "write a URL",
}


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
        try:
            return self._read(value)
        except ValueError:
            if self.name not in SECRETIVE:
                raise
            words = f"can't be read, and isn't shown since it may hold a secret; {_FORMS[self.kind]}"
            raise ValueError(words) from None

    def _read(self, value: object) -> object:
        hint = _hints()[self.name]
        if self.kind is OptionKind.NAMES:
            value = _names(value)
        if self.kind is OptionKind.PAIRS:
            value = _pairs(value)
        if isinstance(value, time) or (self.name == "date" and isinstance(value, date)):
            value = value.isoformat()
        try:
            return msgspec.convert(value, type=hint, strict=not isinstance(value, str))
        except msgspec.ValidationError:
            raise ValueError(f"{value!r} {_complaint(self, hint)}") from None


def variable_of(name: str) -> str:
    """The environment's name for an option."""
    return PREFIX + name.upper()


@cache
def options() -> dict[str, Option]:
    """All options by name, in the order in which people see them."""
    fields = {field.name: field for field in msgspec.structs.fields(Job)}
    kinds = {bool: OptionKind.FLAG, tuple[str, ...]: OptionKind.NAMES, dict[str, str]: OptionKind.PAIRS}
    found: dict[str, Option] = {}
    for name, hint in _hints().items():
        meta: msgspec.Meta = hint.__metadata__[0]
        extra = meta.extra or {}
        kind = kinds.get(get_args(hint)[0], OptionKind.VALUE)
        default = () if kind in (OptionKind.NAMES, OptionKind.PAIRS) else fields[name].default
        shown = (extra["group"], extra["metavar"], meta.description or "")
        found[name] = Option(name, kind, *shown, default, extra["flag_only"])
    return found


def command_words(command: str, source: str, chosen: Mapping[str, Any]) -> list[str]:
    """The command line that does the same: each option by its flag."""
    words = [command, source]
    for name, value in chosen.items():
        option = options()[name]
        if option.kind is OptionKind.FLAG:
            words += [option.flag] if value else []
        elif option.kind is OptionKind.PAIRS:
            words += [word for pair in value.items() for word in (option.flag, "=".join(pair))]
        elif option.kind is OptionKind.NAMES:
            words += [option.flag, ",".join(map(_as_named, value))] if value else []
        elif value is not None:
            words += [option.flag, str(value)]
    return words


def _as_named(name: str) -> str:
    """A name in a list of names, as CSV has it."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') or name.strip() != name else name


def did_you_mean(word: str, known: list[str]) -> str:
    """` Did you mean …?` for the nearest known word, or nothing."""
    near = get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


@cache
def _hints() -> dict[str, Any]:
    hints = get_type_hints(Job, include_extras=True)
    return {name: hint for name, hint in hints.items() if hasattr(hint, "__metadata__")}


def _names(value: object) -> object:
    """Texts are split at commas; a list, which only a TOML file can hold, is taken to the letter."""
    if isinstance(value, tuple):
        return [name for text in value for name in _split(str(text))]
    return _split(value) if isinstance(value, str) else value


def _split(text: str) -> list[str]:
    try:
        return next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:
        raise ValueError(
            f"{text!r} is not a list of names; put a name with a comma, a quote or a line break in double quotes"
        ) from None


def _pairs(value: object) -> object:
    if not isinstance(value, list | tuple):
        return value
    pairs: dict[str, str] = {}
    for text in value:
        name, equals, rest = str(text).partition("=")
        if not equals or not name:
            raise ValueError(f"{text!r} is not of the form NAME=VALUE")
        if name in pairs:
            raise ValueError(f"{name!r} is said twice; say it once")
        pairs[name] = rest
    return pairs


def _complaint(option: Option, hint: Any) -> str:
    parts = _parts(hint)
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if choices:
        return f"is none of {', '.join(choices)}"
    if option.kind is OptionKind.VALUE and str not in parts:
        return "is not a whole number"
    return _COMPLAINTS[option.kind]


def _parts(hint: Any) -> tuple[Any, ...]:
    inner = get_args(hint)[0]
    return get_args(inner) if get_origin(inner) is not Literal and get_args(inner) else (inner,)


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
