"""Placeholders in file names: `{date}`, `{date:%d.%m.%Y}` and `{stem}`; `{{` and `}}` are braces.

A folder whose name really holds braces, and that exists, is taken to the letter.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING

import msgspec

from batch_runner.job.job import stem_of
from batch_runner.job.options import did_you_mean
from batch_runner.units import BRACES, Braced, SingleBrace, template_parts

if TYPE_CHECKING:
    from datetime import date


WITH_STEM = ("output", "journal", "report", "log_file")
"""The options in which `{stem}` stands for the input's name."""
PLAIN_DAY = "%Y-%m-%d"
BY_DATE = "by-date"
"""What a journal is called if nothing but the date is in its sheet's name."""

_SLASHED = re.compile(r"\{date:([^{}]*)\}")
_DIRECTIVE = re.compile(r"%-?(.?)", re.DOTALL)
_DIRECTIVES = "aAbBdGjmuUVwWyY%"
"""What `date.strftime` knows of a day (C99 7.27.3.5), hours and the like left out."""
_MARKS = " -_."
_BEFORE_DAY = re.compile(rf"[{re.escape(_MARKS)}]*\0")


class Placeholder(msgspec.Struct, frozen=True):
    """One place: of the day in a form of `strftime`, or (None) of the input's stem. `written` is the place itself."""

    form: str | None
    written: str

    def fill(self, day: date, stem: str) -> str:
        """The text for the place."""
        return stem if self.form is None else day.strftime(_form_of_system(self.form))


def pieces(name: str) -> tuple[str | Placeholder, ...]:
    """The name of one file or folder as texts and places. Raises `ValueError` with a sentence."""
    try:
        found = [part if isinstance(part, str) else _place(part) for part in list(template_parts(name))]
    except SingleBrace:
        what = "has a single brace; write {date} or {stem}, or {{ and }} for braces"
        raise ValueError(f"{name!r} {what}") from None
    return tuple(piece for piece in found if piece != "")


def parts(text: str, kind: type[PurePath] = Path) -> tuple[str, ...]:
    """The names that a path consists of; a slash inside of `{date:%Y/%m}` makes two of them, too.

    On Windows a backslash does, and a drive or a share (`C:\\`, `\\\\server\\share\\`) is the first of the names.
    """
    slashes = "/\\" if issubclass(kind, PureWindowsPath) else "/"
    return kind(_SLASHED.sub(lambda match: re.sub(f"[{re.escape(slashes)}]", "}/{date:", match.group()), text)).parts


def _form_of_system(form: str, *, windows: bool = sys.platform == "win32") -> str:
    """`%-d`, a day without its zero, is `%#d` on Windows."""
    return _DIRECTIVE.sub(lambda found: found[0].replace("-", "#", 1), form) if windows else form


def problem(option: str, text: str) -> str | None:
    """What is wrong with the places of a path, as a sentence. Folders that are there are taken to the letter."""
    path = Path()
    for name in parts(text):
        path /= name
        try:
            stem = any(isinstance(piece, Placeholder) and piece.form is None for piece in pieces(name))
        except ValueError as error:
            if not _is_there(option, path):
                return str(error)
            continue
        if stem and option not in WITH_STEM and not _is_there(option, path):
            return f"{text!r} can't hold {{stem}}, which is the input's own name; use {{date}}"
    return None


def has_day(text: str | None) -> bool:
    """Whether a path has a place for the day."""
    return text is not None and any(place.form is not None for place in _places(text))


def has_stem(text: str) -> bool:
    """Whether a path has a place for the input's name."""
    return any(place.form is None for place in _places(text))


def fill(text: str, day: date, stem: str) -> str:
    """The path with its places filled. Raises `ValueError`."""
    if "{" not in text and "}" not in text:
        return text
    path = Path()
    for name in parts(text):
        written = path / name
        path = written if written.is_dir() else path / fill_name(name, day, stem)
    return str(path)


def fill_name(name: str, day: date, stem: str = "") -> str:
    """The name of one file or folder with its places filled. Raises `ValueError`."""
    return "".join(piece if isinstance(piece, str) else piece.fill(day, stem) for piece in pieces(name))


def with_stem(text: str, written: str) -> str:
    """The path with only the stem's places filled, by what is `written` so: it may hold places of the day itself."""
    return BRACES.sub(lambda match: written if match.group(1) == "stem" else match.group(), text)


def escape_places(name: str) -> str:
    """How a name is written that holds no places, whatever it looks like."""
    return name.replace("{", "{{").replace("}", "}}")


def journal_of_all_days(path: Path) -> Path:
    """The journal that all days of a sheet or output share: named as it is without the date, beside or above it.

    `inbox/invoices-{date}.xlsx` and `inbox/{date}/invoices.xlsx` → `inbox/invoices.journal.db`.
    """
    names = path.with_name(stem_of(path)).parts
    first = next(number for number, name in enumerate(names) if has_day(name))
    marked = ("".join(p if isinstance(p, str) else "\0" for p in _lenient(name)) for name in names[first:])
    left = [_BEFORE_DAY.sub("", name).strip(_MARKS) for name in marked]
    stem = "-".join(name for name in left if name)
    return Path(*names[:first]) / f"{stem or BY_DATE}.journal.db"


def _places(text: str) -> list[Placeholder]:
    return [piece for name in parts(text) for piece in _lenient(name) if isinstance(piece, Placeholder)]


def _lenient(name: str) -> tuple[str | Placeholder, ...]:
    """The pieces of a name; one that is to be taken to the letter is one piece."""
    try:
        return pieces(name)
    except ValueError:
        return (name,)


def _is_there(option: str, path: Path) -> bool:
    """An input may be any file whose name really is so; all else is yet to be written, in folders that are there."""
    return path.exists() if option == "input" else path.is_dir()


def _place(slot: Braced) -> Placeholder:
    written = slot.written
    name, colon, form = slot.inside.partition(":")
    if name == "stem" and not colon:
        return Placeholder(None, written)
    if name != "date":
        raise ValueError(
            f"{written} is no place that could be filled; use {{date}}, {{date:%d.%m.%Y}} or {{stem}}, "
            f"and {{{{ and }}}} for braces.{did_you_mean(name, ['date', 'stem'])}"
        )
    wrong = [
        directive for directive in _DIRECTIVE.finditer(form) if directive[1] not in _DIRECTIVES or not directive[1]
    ]
    if (colon and "%" not in form) or wrong:
        raise ValueError(
            f"{written}: {repr(wrong[0].group()) if wrong else repr(form)} says nothing of a day; "
            "write for example {date:%d.%m.%Y} or {date:%Y-%m-%d}"
        )
    return Placeholder(form or PLAIN_DAY, written)
