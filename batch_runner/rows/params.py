"""A row and the job's template become params, the row's key and its dedup key."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError
from batch_runner.plan.plan import Entry
from batch_runner.rows.amounts import may_be_doubted, style_of
from batch_runner.rows.keys import (
    dedup_key_of,
    digest_of,
    former_plain,
    key_of,
    number_forms,
    other_readings,
    plain,
    with_others,
    without_currencies,
)
from batch_runner.rows.selection import columns_by_letter, no_column
from batch_runner.sheet.model import RowKind, refuse_ambiguity
from batch_runner.units import Braced, SingleBrace, template_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from batch_runner.job.job import Job
    from batch_runner.rows.amounts import AmountStyle
    from batch_runner.rows.task_inputs import Fit, TaskInputs
    from batch_runner.sheet.model import Column, Row, Sheet

    Known = Callable[[bytes], bool] | None

MOST_SHOWN = 3
"""So many columns tell a row from others where no key was said."""
NAMING = ("columns", "exclude", "rename", "key", "unique", "unique_conflict", "total", "compare", "ignore")
"""The options whose values name columns of the sheet."""


class RowParams(Entry, frozen=True, kw_only=True):
    """What is sent for one row, and how the row is known; it goes from the sheet to the pool as it is.

    `key` makes it the same row tomorrow, and is made of its cells' values; `digest` stands for the values of all its
    params and for the identity that its cells choose, `sent` for their very texts. All are SHA-256, cut to 16 bytes, so
    that no params stand in the journal. A row with a `refusal` (a sentence that names the cells) is not sent.
    """

    params: dict[str, str]
    identity_id: str | None = None
    session_id: str | None = None
    watched: tuple[tuple[str, str], ...] = ()

    def named(self) -> dict[str, str]:
        """What is sent, and the cells of the columns that money hangs on, by the names that were said for these.

        Numbers are in one form: how many zeros a format shows is no difference.
        """
        texts = self.params | dict(self.watched)
        return dict(zip(texts, number_forms(tuple(texts.values())), strict=True))


class KeyForms(msgspec.Struct, frozen=True):
    """A row's key, and what stands for its params: their values, and their very texts where these are another.

    The journal learns the `forms`, under which another sheet may have the row; it may know the row as `former`. `texts`
    are all forms of its values.
    """

    key: bytes | None
    digest: bytes
    sent: bytes | None
    forms: tuple[bytes, ...] = ()
    former: tuple[bytes, ...] = ()
    doubtful: tuple[bytes, ...] = ()
    bare: bytes | None = None
    texts: tuple[tuple[str, ...], ...] = ()


class Text(msgspec.Struct, frozen=True):
    """A text with places for cells: `Invoice {Number}`. `{{` and `}}` are the braces themselves.

    `parts` are in turn literal text and the index of a column.
    """

    parts: tuple[str | int, ...]

    def fill(self, texts: Sequence[str]) -> str:
        """The text for one row, whose cells hold these."""
        return "".join(part if isinstance(part, str) else texts[part] for part in self.parts)

    def indexes(self) -> frozenset[int]:
        """The columns it takes cells from."""
        return frozenset(part for part in self.parts if isinstance(part, int))


class Template:
    """How the rows of one sheet become params. Raises `UsageError` for every column that the sheet doesn't have.

    `columns` are the sheet's own (without those of an earlier output).
    """

    fit: Fit | None = None

    def __init__(self, job: Job, sheet: Sheet, columns: tuple[Column, ...]) -> None:
        self._sheet = sheet
        self._own = columns
        ours = {column.letter for column in sheet.columns if column not in columns}
        letters = {letter: column for letter, column in columns_by_letter(sheet).items() if letter not in ours}
        aside = {column.name: column for column in reversed(sheet.aside)}
        self._columns = {**aside, **letters, **{column.name: column for column in reversed(columns)}}
        self._send_empty = job.send_empty
        if problems := [*self._problems(job)]:
            raise UsageError("\n".join(problems))
        self._own = tuple(sorted({*columns, *self.columns(job.columns)}, key=lambda column: column.index))
        self._sent = self._sent_columns(job)
        self._texts = {name: self._text(value) for name, value in job.param.items()}
        self._identity = None if job.identity_id is None else self._text(job.identity_id)
        self._session = None if job.session_id is None else self._text(job.session_id)
        self._key = self._sorted(job.key)
        self._unique = tuple(column.index for column in self._sorted(job.unique))
        self._conflict = tuple(column.index for column in self._sorted(job.unique_conflict))
        self._watched = {name: self._columns[name].index for name in (*job.total, *job.unique_conflict)}
        self._ignored = frozenset(column.index for column in self.columns(job.ignore))
        self._also: tuple[tuple[str, ...], ...] = ()
        self._styles: dict[str, AmountStyle] = {}
        self._used = self._sent_indexes().union({c.index for c in self._key}, self._unique, self._conflict)
        self._starts = tuple(self._sent_indexes())
        self._refuse_ambiguity(job)
        self._known_by = frozenset(column.index for column in self._key) or self._sent_indexes()
        volatile = sheet.volatile_columns()
        self._volatile = frozenset((*self._names_from(volatile), *(() if self._key else self.ignored)))
        self.volatile = {self._sent[place]: why for place, why in volatile.items() if place in self._sent}
        """The params whose values differ at each save, each with the function that makes them."""
        is_open = not (job.columns or job.key)
        self._formerly = [c for c in sheet.aside if is_open and not self._is_named(c, job.exclude)]
        """Columns beside the list, which earlier releases sent."""
        self._former_names = {
            self._sent[place]: header for place, header in sheet.former_headers.items() if place in self._sent
        }

    def _names_from(self, places: Collection[int]) -> Iterator[str]:
        """The params that take cells from these columns."""
        yield from (name for place, name in self._sent.items() if place in places)
        yield from (name for name, text in self._texts.items() if not text.indexes().isdisjoint(places))

    @property
    def sent(self) -> tuple[Column, ...]:
        """The columns whose cells are sent, under whatever name."""
        return tuple(column for column in self._own if column.index in self._sent_indexes())

    @property
    def ignored(self) -> tuple[str, ...]:
        """The params that are made of columns which aren't compared, and those columns by the names that were said."""
        texts = [(name, text.indexes()) for name, text in self._texts.items()]
        made = [*((name, frozenset([index])) for index, name in self._sent.items()), *texts]
        of_watched = (name for name, index in self._watched.items() if index in self._ignored)
        return (*(name for name, places in made if places and places <= self._ignored), *of_watched)

    def know_also(self, key_columns: Iterable[tuple[str, ...]]) -> None:
        """Give each row the keys, too, that it would have with the key columns of other sheets, where it has these."""
        known = tuple(column.name for column in self._key)
        self._also = tuple(names for names in sorted(key_columns) if names != known)

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns by which a person knows a row: those of the key, else the first that are sent."""
        return self._key or self.sent[:MOST_SHOWN]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all params that can be sent, in order."""
        return tuple(dict.fromkeys([*self._sent.values(), *self._texts]))

    def require(self, inputs: TaskInputs) -> None:
        """Refuse from now on the rows that the task can't take. Raises `UsageError` where it could take none."""
        left_out = [column.name for column in self._own if column.name not in self.names]
        self.fit = inputs.fit(self.names, left_out)
        fixed = {name: "".join(map(str, text.parts)) for name, text in self._texts.items() if not text.indexes()}
        wrongs = (wrong for wrong in self.fit.wrongs(fixed) if wrong[0] in fixed)
        problems = [f"{self._sheet.path.name}: {problem}" for problem in self.fit.problems()]
        if problems := [*problems, *(f"param {name}: {sentence}" for name, sentence in wrongs)]:
            raise UsageError("\n".join(problems))

    def fill(self, row: Row, *, takes_part: bool = True, is_keyed: bool = True, is_known: Known = None) -> RowParams:
        """The params of one row. Each is a text; an empty one is left out unless the job sends empty ones.

        Most of the work is how it is known. Without that it has no key, so that no journal would let it start. One with
        a key that `is_known` lacks the other forms of it.
        """
        params = self._params(row.texts)
        refusal = self._refusal(row) or self._misfit(row, params)
        filled = partial(RowParams, row_number=row.number, takes_part=takes_part, params=params, refusal=refusal)
        if not is_keyed:
            return filled(key=None, digest=b"")
        forms = self._forms(row, is_known)
        return filled(
            key=forms.key,
            digest=forms.digest,
            sent=forms.sent,
            bare=forms.bare,
            forms=forms.forms,
            former_keys=forms.former,
            doubtful_keys=forms.doubtful,
            identity_id=(self._identity.fill(row.texts) or None) if self._identity else None,
            session_id=self._session.fill(row.texts) or None if self._session else None,
            claim=_claim(row, self._unique),
            conflict=_claim(row, self._conflict),
            former_claim=_claim(row, self._unique, former_plain),
            former_conflict=_claim(row, self._conflict, former_plain),
            aliases=tuple(key for names in self._also for key in self._keys_by(forms.texts, names)),
            keys_by=partial(self._keys_by, forms.texts),
            watched=tuple((name, row.texts[index]) for name, index in self._watched.items()),
        )

    def _params(self, texts: Sequence[str]) -> dict[str, str]:
        params = {name: texts[index] for index, name in self._sent.items()}
        for name, text in self._texts.items():
            params[name] = text.fill(texts)
        return params if self._send_empty else {name: text for name, text in params.items() if text}

    def _forms(self, row: Row, is_known: Known) -> KeyForms:
        """How the row is known, and under what else it may have run.

        Its key is made of values: a number without the zeros that a format shows, a date with its time, texts as they
        are. It may have run under what is sent now (from a text file, or by an earlier release), under the numbers that
        its texts may be (`1.10`), under its numbers without their formats, or as an earlier release read its cells.
        Nobody can tell of a text that may be read in two ways (`3/4/2026`), nor of `1,00` and `1,00 €`.
        """
        texts, plain = row.texts, number_forms(row.texts)
        sent = self._digest(texts)
        digest = sent if plain is texts and not self._volatile else self._digest(plain, but=self._volatile)
        if row.problems and any(problem.refuses and problem.index in self._known_by for problem in row.problems):
            return KeyForms(None, digest, sent)
        numbers = row.numbers or {}
        values = with_others(texts, {place: number.value for place, number in numbers.items()})
        raw = with_others(plain, {place: number.raw for place, number in numbers.items()})
        made = {} if self._key else {plain: digest} | ({} if self._volatile else {texts: sent})
        forms = (made.get(form) or self._known_as(form) for form in dict.fromkeys((values, texts, plain, raw)))
        key = next(forms)
        bare = number_forms(amounts) if (amounts := without_currencies(texts)) is not texts else None
        without, told = self._digest(bare, but=self._volatile) if bare else None, None if sent == digest else sent
        if key is not None and is_known is not None and is_known(key):
            return KeyForms(key, digest, told, bare=without)
        former = {place: number.former for place, number in numbers.items()} | (row.former or {})
        past: list[bytes | None] = [sent] if self._volatile and not self._key else []
        if former or self._former_names:
            past.append(self._known_as(with_others(texts, former), is_former=True))
        if self._formerly:
            past.append(self._digest(texts, more=((c.name, text) for c in self._formerly if (text := texts[c.index]))))
        others = _others(forms, key)
        former_keys = _others(past, key, *others)
        either = (*other_readings(texts), *((bare, *other_readings(amounts)) if bare else ()))
        doubtful = _others(map(self._known_as, either), key, *others, *former_keys)
        written = tuple(dict.fromkeys((values, texts, plain)))
        return KeyForms(key, digest, told, others, former_keys, doubtful, without, written)

    def _known_as(self, texts: Sequence[str], *, is_former: bool = False) -> bytes | None:
        """The key that these texts make; None where those of the key's columns are all empty."""
        if self._key:
            found = {column.name: texts[column.index] for column in self._key}
            return key_of(found) if any(found.values()) else None
        return self._digest(texts, self._former_names if is_former else {}, but=() if is_former else self._volatile)

    def _digest(
        self,
        texts: Sequence[str],
        names: Mapping[str, str] = MappingProxyType({}),
        but: Collection[str] = (),
        more: Iterable[tuple[str, str]] = (),
    ) -> bytes:
        """Stands for all params that these texts make, under these names instead of their own, and for the identity."""
        params = [(names.get(name, name), text) for name, text in self._params(texts).items() if name not in but]
        identity = self._identity.fill(texts) if self._identity and self._identity.indexes() else ""
        return digest_of(sorted([*params, *more]), identity)

    def _keys_by(self, forms: tuple[tuple[str, ...], ...], names: tuple[str, ...]) -> tuple[bytes, ...]:
        """Under what a sheet with these key columns knows a row with texts of these forms; nothing if it lacks one."""
        if not names:
            return tuple(map(self._digest, forms))
        if not {column.name for column in self._own}.issuperset(names):
            return ()
        columns = self._sorted(names)
        found = ({column.name: texts[column.index] for column in columns} for texts in forms)
        return tuple(key_of(each) for each in found if any(each.values()))

    def params_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """The params that these columns are sent as; none where one of them isn't sent."""
        sent = {column.name: self._sent.get(column.index) for column in self.columns(names)}
        return () if None in sent.values() else tuple(name for name in sent.values() if name is not None)

    def columns(self, names: Iterable[str]) -> tuple[Column, ...]:
        """The columns of these names, each once; they are among the sheet's own."""
        return tuple(dict.fromkeys(self._columns[name] for name in names))

    def warnings(self, row: Row) -> Iterator[str]:
        """A sentence for each cell that is sent although something about it is worth knowing."""
        for problem in row.problems:
            if not problem.refuses and problem.index in self._used:
                yield f"{self._sheet.address(row.number, problem.index)}: {problem.what}"

    def _problems(self, job: Job) -> Iterator[str]:
        """What the job says of columns that makes no sense of this sheet: a sentence each."""
        named = [(option, name) for option in NAMING for name in dict.fromkeys(getattr(job, option))]
        for label, text in _texts_of(job):
            yield from (f"{label}: {sentence}" for sentence in _brace_problems(text))
            named += [(label, name) for name in _names_in(text)]
        yield from (f"{option}: {no_column(self._sheet, name)}" for option, name in named if name not in self._columns)
        if all(name in self._columns for name in (*job.columns, *job.exclude, *job.rename)):
            headers = {column.index: column.name for column in self._own}
            sent = {headers.get(index, name): name for index, name in self._chosen(job).items()}
            twice = _first_twice(sent.values())
            if twice is not None:
                yield f"rename: two columns would both be sent as {twice!r}; leave one out with --exclude"

    def _sent_columns(self, job: Job) -> dict[int, str]:
        """Which column is sent under which name; keyed by its place in the row."""
        return {index: name for index, name in self._chosen(job).items() if name not in job.param}

    def _chosen(self, job: Job) -> dict[int, str]:
        """The same before a param takes a column's place."""
        columns = self.columns(job.columns) or [c for c in self._own if not self._is_named(c, job.exclude)]
        renamed = {self._columns[name].index: new for name, new in job.rename.items()}
        return {column.index: renamed.get(column.index, column.name) for column in columns}

    def _is_named(self, column: Column, names: Sequence[str]) -> bool:
        """Whether one of the names is this column's: its header, or its letter where no header is that."""
        return any(column.name == name or self._columns[name] == column for name in names)

    def _sorted(self, names: Sequence[str]) -> tuple[Column, ...]:
        return tuple(sorted(self.columns(names), key=lambda column: column.name))

    def _refuse_ambiguity(self, job: Job) -> None:
        """Raises `SheetError` for two equal headers or text under an empty one among what is sent or makes the key.

        Where nobody says which columns are sent, all are, and with them those that lack a header.
        """
        named = {name for option in NAMING if option != "exclude" for name in getattr(job, option)}
        named.update(name for _, text in _texts_of(job) for name in _names_in(text))
        wanted = [column for column in self._own if column.index in self._used or column.name in named]
        left_out = {column.index for column in self.columns(job.exclude)}
        places = {column.index for column in self.columns(named)}
        if not job.columns:
            places |= self._sheet.strays.keys() - left_out
        refuse_ambiguity(self._sheet, wanted, places & self._sheet.strays.keys())

    def _text(self, value: str) -> Text:
        parts = (
            part if isinstance(part, str) else self._columns[_unescaped(part.inside)].index
            for part in template_parts(value)
        )
        return Text(tuple(part for part in parts if part != ""))

    def _sent_indexes(self) -> frozenset[int]:
        texts = [*self._texts.values(), *(text for text in (self._identity, self._session) if text)]
        taken = frozenset[int]().union(*(text.indexes() for text in texts))
        return taken | frozenset(self._sent)

    def _refusal(self, row: Row) -> str | None:
        if row.refusal is not None:
            return row.refusal
        if row.problems:
            bad = [problem for problem in row.problems if problem.refuses and problem.index in self._used]
            if bad:
                return "; ".join(f"{self._sheet.address(row.number, p.index)}: {p.what}" for p in bad)
        if self._starts and not any(row.texts[place].strip() for place in self._starts):
            where = self._sheet.address(row.number, min(self._starts))
            return f"{where}: all cells of the row that would be sent are empty; fill them in, or leave the row out"
        if self._key and not any(row.texts[column.index] for column in self._key):
            cells = ", ".join(self._sheet.address(row.number, column.index) for column in self._key)
            return f"{cells}: the key is empty, so this row could not be known again; fill it in"
        return None

    def _misfit(self, row: Row, params: dict[str, str]) -> str | None:
        """The cells whose texts the task can't take; all of them at once."""
        if self.fit is None:
            return None
        wrongs = tuple(self.fit.wrongs(params)) or self._doubts(self.fit, params)
        return "; ".join(f"{self._cells(row, name)}: {what}" for name, what in wrongs) or None

    def _doubts(self, fit: Fit, params: dict[str, str]) -> Iterator[tuple[str, str]]:
        """The amounts that are clear by themselves, and not beside the others of their column: `1.234`, `5 $`."""
        for each, name in fit.pairs:
            text = params.get(name or "")
            if name is None or text is None or not each.kind.is_amount or not may_be_doubted(text):
                continue
            if name not in self._styles:
                places = [place for place, sent in self._sent.items() if sent == name]
                data = (row for row in self._sheet.rows() if row.kind is RowKind.DATA)
                self._styles[name] = style_of(row.texts[place] for row in data for place in places)
            if doubt := self._styles[name].doubt(text):
                yield name, f"{name!r} {doubt}"

    def _cells(self, row: Row, name: str) -> str:
        """The cells that a param of this row is made of."""
        text = self._texts.get(name)
        indexes = sorted(text.indexes()) if text else [index for index, sent in self._sent.items() if sent == name]
        return ", ".join(self._sheet.address(row.number, index) for index in indexes)


def _claim(row: Row, indexes: tuple[int, ...], form: Callable[[str], str] = plain) -> bytes | None:
    """None where nobody asked, and where a cell of it has no text to rely on."""
    if not indexes or any(problem.refuses and problem.index in indexes for problem in row.problems):
        return None
    return dedup_key_of([row.texts[index] for index in indexes], form)


def _others(keys: Iterable[bytes | None], *known: bytes | None) -> tuple[bytes, ...]:
    """Each of the keys once, but for those that are known."""
    return tuple(key for key in dict.fromkeys(keys) if key is not None and key not in known)


def _texts_of(job: Job) -> Iterator[tuple[str, str]]:
    """The texts of a job that may have places for cells, each with its name."""
    yield from ((f"param {name}", text) for name, text in job.param.items())
    yield from ((name, text) for name in ("identity_id", "session_id") if (text := getattr(job, name)) is not None)


def _names_in(text: str) -> Iterator[str]:
    """The columns that a text has places for, up to a single brace, which is said elsewhere."""
    names: dict[str, None] = {}
    with suppress(SingleBrace):
        names.update((_unescaped(part.inside), None) for part in template_parts(text) if isinstance(part, Braced))
    return iter(names)


def _unescaped(name: str) -> str:
    return name.replace("{{", "{").replace("}}", "}")


def _brace_problems(text: str) -> Iterator[str]:
    try:
        deque(template_parts(text), maxlen=0)
    except SingleBrace:
        yield f"{text!r} has a single brace; write {{Column}}, or {{{{ and }}}} for braces"


def _first_twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
