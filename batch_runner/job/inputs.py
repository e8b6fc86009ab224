"""The files that an input names tonight: itself, that of a day, or all that a pattern matches.

`*`, `?` and `[…]` are as in a shell, `**` is a folder and all below it; the ending counts in whatever case. A file or
folder whose name really holds such characters, and that exists, is taken to the letter.
"""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from fnmatch import translate
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError, reason_of
from batch_runner.job.job import stem_of
from batch_runner.job.places import filled, has_day, lettered, parts, pieces
from batch_runner.sheet import TEXT_ENDINGS, WORKBOOK_ENDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

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


class Inputs(msgspec.Struct, frozen=True):
    """What an input came to. `many`: it is a pattern, however many it matches. `missing` says why there is none."""

    found: tuple[Found, ...]
    many: bool
    missing: str | None = None


def find(text: str, day: date) -> Inputs:
    """Look for the inputs, sorted. Raises `UsageError` where a folder that must be there is not, or can't be read."""
    names = parts(text)
    if not any(map(has_magic, names)) and not has_day(text) and "{" not in text:
        return _single(Found(Path(text), Path(text)))
    folder, rest = _fixed(names)
    if not rest:
        return _single(Found(folder, Path(lettered(text))))
    _insist_on(folder)
    many = any(has_magic(name) for name in rest)
    reached = [Found(folder, folder)]
    for number, name in enumerate(rest, 1):
        reached = [found for place in reached for found in _step(place, name, day, last=number == len(rest))]
    if not many:
        return _single(reached[0])
    reasons = {found.path: _why_not(found.path, rest[-1]) for found in reached}
    taken = sorted((found for found in reached if reasons[found.path] is None), key=lambda found: found.path)
    return Inputs(tuple(taken), many, None if taken else _nothing(text, folder, reasons))


def is_pattern(text: str) -> bool:
    """Whether an input stands for several files."""
    return any(has_magic(name) for name in _fixed(parts(text))[1])


def takes(text: str, path: Path, day: date) -> bool:
    """Whether a file at this path would be an input of the pattern."""
    names = parts(os.path.abspath(text))  # noqa: PTH100  the places must stay in it
    if path.suffix.lower() not in ENDINGS or _why_not_named(path.name, names[-1]) is not None:
        return False
    return _fits(names, Path(os.path.abspath(path)).parts, day)  # noqa: PTH100  a link is another name


def _fixed(names: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
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
        yield place.below(filled(name, day), name)
    elif place.path.is_dir():
        pattern = _compiled(name, day)
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


def _compiled(name: str, day: date) -> re.Pattern[str]:
    """A pattern for one name, with a group for each place of the day."""
    *before, last = pieces(name)
    whole = "".join(_translated(p) if isinstance(p, str) else f"({re.escape(p.fill(day, ''))})" for p in before)
    if not isinstance(last, str):
        return re.compile(whole + f"({re.escape(last.fill(day, ''))})")
    stem, dot, ending = last.rpartition(".")
    if not dot or has_magic(ending):
        return re.compile(whole + _translated(last))
    return re.compile(f"{whole}{_translated(stem + dot)}(?i:{re.escape(ending)})")


def _translated(text: str) -> str:
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
    fits = names[0] == others[0] or (_is_readable(names[0]) and _compiled(names[0], day).fullmatch(others[0]))
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


def _single(found: Found) -> Inputs:
    if found.path.exists():
        return Inputs((found,), many=False)
    folder = found.path.parent
    _insist_on(folder)
    return Inputs((), many=False, missing=f"{found.path}: no such file; {_there(folder, found.path.name)}")


def _nothing(text: str, folder: Path, reasons: dict[Path, str | None]) -> str:
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
