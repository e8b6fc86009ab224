"""Flags, environment and a job file made one Job: flag > environment > job file > default."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from batch_runner.errors import UsageError, reason_of
from batch_runner.job.inputs import pattern_problems
from batch_runner.job.job import Job
from batch_runner.job.options import (
    GIVEN,
    OF_SERVE,
    PREFIX,
    Provenance,
    Setting,
    did_you_mean,
    options,
    provenance_of,
    variable_of,
)
from batch_runner.job.path_templates import WITH_STEM, problem
from batch_runner.job.validation import SECRETIVE, OptionKind, find_exposure, read_secret
from batch_runner.journal.index import STATE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


PATHS = ("input", "output", "journal", "files", "report", "log_file")
SECRETS = ("api_key", "apikey", "anchor_api_key", "anchorbrowser_api_key")


class Loaded(msgspec.Struct, frozen=True):
    """The job in force, and for each of its options where its value came from."""

    job: Job
    origins: tuple[Provenance, ...]


class NotifyConfig(msgspec.Struct, frozen=True):
    """Whom to tell of a batch, and when; URLs as they were said. `is_public`: others can read where `notify` was."""

    source: str
    heartbeat: str = ""
    notify: tuple[str, ...] = ()
    notify_when: str = "failure"
    is_public: bool = True

    def __repr__(self) -> str:
        return f"Wishes({self.source!r}, notify_when={self.notify_when!r})"


def load_job(source: str, flags: Mapping[str, object], environ: Mapping[str, str]) -> Loaded:
    """The job in force for an input, or for a `.toml` that names one.

    `flags` are only those that were said. Raises `UsageError` with every problem there is, a line each.
    """
    problems: list[str] = []
    settings = _settings(source, flags, environ, problems)
    values = _values(settings, problems)
    problems += _exposures(values, settings)
    problems += _label([*_path_problems(values), *_own_file_problem(source, values)], settings)
    try:
        job = Job(**{"input": source, **values}, job_file=source if source.lower().endswith(".toml") else None)
    except UsageError as error:
        problems += _label(str(error).splitlines(), settings)
    if problems:
        raise UsageError("\n".join(problems))
    return Loaded(job, provenance_of(job, settings))


def notify_config_of(source: str, flags: Mapping[str, object], environ: Mapping[str, str]) -> NotifyConfig:
    """What is said of telling people, as far as it can be known although all else may be wrong."""
    settings = _settings(source, flags, environ, [])
    wanted: dict[str, Setting] = {
        name: settings[name] for name in ("heartbeat", "notify", "notify_when") if name in settings
    }
    is_public = "notify" in wanted and wanted["notify"].is_public
    values = _values(wanted, [])
    hidden = {name: value for name, value in values.items() if not any(_exposures({name: value}, settings))}
    return NotifyConfig(source, is_public=is_public, **hidden)


def wants_json(source: str, flags: Mapping[str, object], environ: Mapping[str, str]) -> bool:
    """Whether the summary is to be an object, as far as it can be known although all else may be wrong."""
    settings = _settings(source, flags, environ, [])
    return "json" in settings and bool(_values({"json": settings["json"]}, []).get("json"))


def _values(settings: Mapping[str, Setting], problems: list[str]) -> dict[str, Any]:
    """The values of those that can be read, as `Job` wants them."""
    values: dict[str, Any] = {}
    for name, setting in settings.items():
        try:
            values[name] = options()[name].read(setting.value)
        except ValueError as error:
            problems.append(f"{setting.label}: {error}")
    return values


def _exposures(values: Mapping[str, Any], settings: Mapping[str, Setting]) -> Iterator[str]:
    """A sentence for each secret that stands where others can read it."""
    for name in SECRETIVE:
        said = values.get(name) or ()
        for url in [said] if isinstance(said, str) else said:
            if settings[name].is_public and (problem := find_exposure(url)) is not None:
                yield f"{settings[name].label}: {problem}"


def _path_problems(values: Mapping[str, object]) -> list[str]:
    """What is wrong with the places and patterns of paths: a sentence each, which begins with the option's name."""
    paths = [(name, value) for name in ("input", *WITH_STEM) if isinstance(value := values.get(name), str)]
    found = [f"{name}: {sentence}" for name, value in paths if (sentence := problem(name, value))]
    return found if found and found[0].startswith("input: ") else [*found, *pattern_problems(values)]


def _own_file_problem(source: str, values: Mapping[str, object]) -> Iterator[str]:
    """The job file is read every night: nothing may be written over it."""
    for name in ("log_file", "journal"):
        path = values.get(name)
        if (
            isinstance(path, str)
            and source.lower().endswith(".toml")
            and Path(path).resolve() == Path(source).resolve()
        ):
            yield f"{name}: {path} is the job file itself; name another file"


def _settings(
    source: str, flags: Mapping[str, object], environ: Mapping[str, str], problems: list[str]
) -> dict[str, Setting]:
    """Every value that somebody said, the strongest source's, by option."""
    is_job = source.lower().endswith(".toml")
    is_named = "input" in flags or options()["input"].variable in environ
    settings = _job_file(Path(source), problems, is_named=is_named) if is_job else {}
    for option in options().values():
        text = None if option.flag_only else environ.get(option.variable)
        if text is None and option.is_secret:
            try:
                text = read_secret(option.variable, environ)
            except ValueError as error:
                problems.append(str(error))
        if text is not None:
            value = text.splitlines() if option.kind is OptionKind.PAIRS else text
            settings[option.name] = Setting(value, option.variable, is_public=False)
        if option.name in flags:
            settings[option.name] = Setting(flags[option.name], option.flag)
    if is_job:
        return settings
    if "input" in flags:
        problems.append(f"--input: it is for a job file, and {source} is a sheet; say one of them")
    return {**settings, "input": Setting(source, GIVEN)}


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that looks like an option of ours and is none."""
    known = [*(o.variable for o in options().values() if not o.flag_only), *map(variable_of, OF_SERVE), STATE_VARIABLE]
    known += [f"{variable_of(name)}_FILE" for name in SECRETIVE]
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            yield f"{name}: no such option; it is ignored.{did_you_mean(name, known)}"


def _job_file(path: Path, problems: list[str], *, is_named: bool) -> dict[str, Setting]:
    """The settings of a job file; relative paths in it are relative to it. `is_named`: the sheet is said elsewhere."""
    table = _parse(path, problems)
    if table is None:
        return {}
    problems += _key_problems(path, table)
    if "input" not in table and not is_named:
        problems.append(f'{path}: input: the job names no spreadsheet; add for example input = "invoices.xlsx"')
    return {
        name: Setting(_place(name, value, path), f"{path}: {name}")
        for name, value in table.items()
        if name in options() and not options()[name].flag_only and (name != "input" or isinstance(value, str))
    }


WINDOWS_PATHS = "write a path of Windows in single quotes, or with slashes: 'C:\\inbox\\a.xlsx', \"C:/inbox/a.xlsx\""
_BROKEN_PATH = re.compile(r"([A-Za-z]:|\\).*[\b\t\n\f\r]", re.DOTALL)


def _parse(path: Path, problems: list[str]) -> dict[str, object] | None:
    try:
        text = path.read_text("utf-8-sig")
        return tomllib.loads(text)
    except FileNotFoundError:
        problems.append(f"{path}: no such file; batch-runner init SHEET writes a job for a sheet")
    except UnicodeDecodeError as error:
        problems.append(f"{path}: can't be read as a job file: byte {error.start} is no text in UTF-8; save it so")
    except tomllib.TOMLDecodeError as error:
        next_step = WINDOWS_PATHS if "\\" in text else 'texts stand in quotes: rate = "25/min"'
        problems.append(f"{path}: can't be read as a job file: {error}; {next_step}")
    except OSError as error:
        problems.append(f"{path}: can't be read as a job file: {reason_of(error)}")
    return None


def _key_problems(path: Path, table: Mapping[str, object]) -> Iterator[str]:
    known = [*options()]
    for name, value in table.items():
        if name.lower().replace("-", "_") in SECRETS:
            yield f"{path}: {name}: a key doesn't belong into a file; put it into ANCHORBROWSER_API_KEY"
        elif name in options() and options()[name].flag_only:
            yield f"{path}: {name}: it is for one batch only; say {options()[name].flag} on the command line"
        elif name not in known:
            yield f"{path}: {name}: no such key.{_meant(name, value, known)}"
        elif isinstance(value, str) and _BROKEN_PATH.match(value):
            yield f"{path}: {name}: {value!r}: a backslash in double quotes begins something else; {WINDOWS_PATHS}"
    if not isinstance(table.get("input", ""), str):
        yield (
            f"{path}: input: {table['input']!r} is not a text, so the job names no spreadsheet; "
            'write for example "invoices.xlsx", or "inbox/*.xlsx" for several'
        )


def _meant(name: str, value: object, known: list[str]) -> str:
    """What an unknown key was probably meant to be; a table of options isn't how they are written."""
    if isinstance(value, dict) and (inside := [key for key in value if key in known]):
        return f" Write {', '.join(inside)} without [{name}] above, at the top of the file."
    return did_you_mean(name, known)


def _place(name: str, value: object, file: Path) -> object:
    if not isinstance(value, str):
        return value
    if name in PATHS or (name == "task" and ".py:" in value):
        return str(file.parent / value)
    return value


def _label(lines: Iterable[str], settings: Mapping[str, Setting]) -> Iterator[str]:
    """The problems of a job, each beginning with the names of what was said instead of the fields'."""
    for line in lines:
        fields, colon, rest = line.partition(": ")
        labels = [settings[field].label if field in settings else field for field in fields.split(", ")]
        yield ", ".join(labels) + colon + rest
