"""What a person changed in the output since it was written: carried over, named, or kept aside. Nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import OutputFailed, quote_words
from batch_runner.fs import digest_of, is_held, replace_file, sync, sync_if_possible
from batch_runner.job.job import stem_of
from batch_runner.output.long_texts import WholeTexts
from batch_runner.output.output import CellsHash, HerNotes, Output, resaved, unharmed
from batch_runner.output.previous_output import PreviousOutput, open_previous, with_earlier
from batch_runner.sheet.model import LIST_ROWS, TEXT_ENDINGS, RowKind, column_letter, row_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from batch_runner.fs import AtomicFile
    from batch_runner.job.job import Job
    from batch_runner.journal.journal import Journal
    from batch_runner.journal.outputs import WrittenOutput
    from batch_runner.journal.view import Placed
    from batch_runner.output.output import Written
    from batch_runner.rows.source import Source
    from batch_runner.sheet.model import Row, Sheet


MOST_NAMED = 5
"""Cells that a sentence names."""


class Edits(msgspec.Struct, frozen=True):
    """What a person did to the output since it was written.

    `hers` is to be carried over, `notes` are sentences for a person. `seen` is the digest of the file that was looked
    at: none other may be written over. None: whatever stands there is not ours to replace.
    """

    hers: HerNotes = HerNotes()
    notes: tuple[str, ...] = ()
    seen: str | None = None


def put_output(
    job: Job,
    source: Source,
    journal: Journal,
    outcomes: Callable[[], Iterator[Placed]],
    target: AtomicFile,
    note: Callable[[WrittenOutput], None],
    knows: Callable[[str], bool] = lambda _digest: False,
) -> Written:
    """Write a batch's output over the one that stands there, and lose nothing that a person has changed in that.

    `outcomes` streams what came of the rows that took part, in order of number, anew at each call. `note` is to
    remember what was written, before it takes its place. `knows` says of a digest that the journal doesn't know whether
    we wrote it (`status --output` did). Raises `OutputFailed`.
    """
    known = journal.outputs.known()
    edits = look_at_edits(job, source, target, journal, known, knows)
    sheet = str(job.input_path.absolute())
    neighbours = {written.sha256 for written in known if written.input == sheet}

    def may_replace(path: Path) -> bool:
        digest = digest_of(path)
        return digest is not None and (digest == edits.seen if path == target.real else digest in neighbours)

    output = Output(source.sheet, source.layout, target, job.expand, edits.hers)
    written, foreign = _write(output, job, source, journal, outcomes, may_replace, note)
    taken_out = (
        f"{row_list(sorted(foreign))}: what stood there belongs to another row (the key was edited, or the row was "
        "copied), so it was taken out: not sent so far",
    )
    cautions = (*edits.notes, *(taken_out if foreign else ()))
    return msgspec.structs.replace(written, notes=(*cautions, *written.notes), cautions=cautions)


def refresh_output(
    job: Job,
    source: Source,
    journal: Journal,
    outcomes: Callable[[], Iterator[Placed]],
    target: AtomicFile,
    note: Callable[[WrittenOutput], None],
    knows: Callable[[str], bool],
) -> bool:
    """Write what is known so far over the output of ours that stands there, or where none does; as `put_output`.

    False: nothing was written, since it is the sheet itself, somebody has it open, or changed it since we wrote it.
    Raises `OutputFailed`.
    """
    is_in_place = os.path.realpath(target.real) == os.path.realpath(job.input_path)
    if is_in_place or is_held(target.real) or is_held(target.path):
        return False
    known = journal.outputs.known()
    digest = digest_of(target.real)
    is_ours = digest is not None and (any(written.sha256 == digest for written in known) or knows(digest))
    if target.real.exists() and not is_ours:
        return False
    edits = look_at_edits(job, source, target, journal, known, knows)
    if edits.notes or edits.seen != digest:  # the batch's end tells of it
        return False

    def may_replace(path: Path) -> bool:
        return digest is not None and digest_of(path) == digest

    alone = msgspec.structs.replace(target, is_alone=True)
    output = Output(source.sheet, source.layout, alone, job.expand, edits.hers)
    try:
        _write(output, job, source, journal, outcomes, may_replace, note)
    except OutputFailed as error:
        if isinstance(error.__cause__, PermissionError):  # Windows says so only when it is to be replaced
            return False
        raise
    return True


def _write(
    output: Output,
    job: Job,
    source: Source,
    journal: Journal,
    outcomes: Callable[[], Iterator[Placed]],
    may_replace: Callable[[Path], bool],
    note: Callable[[WrittenOutput], None],
) -> tuple[Written, set[int]]:
    """Write the output; gives the rows of the sheet, too, that stood beside another row's outcome."""
    foreign: set[int] = set()
    with WholeTexts(source.sheet.path.parent) as long, journal.outputs.ownership() as has_outcome:

        def is_its_own(row: Row, run_id: str) -> bool:
            if job.ignore_output or has_outcome(source.template.fill(row), run_id):
                return True
            foreign.add(row.number)
            return False

        def every() -> Iterator[Placed]:
            return with_earlier(source.sheet, source.layout, outcomes(), long, is_its_own)

        return output.write(every, may_replace, note), foreign


def look_at_edits(
    job: Job,
    source: Source,
    target: AtomicFile,
    journal: Journal,
    known: Sequence[WrittenOutput],
    knows: Callable[[str], bool],
) -> Edits:
    """Find out what of the output that stands there must not get lost; what can't be carried over is kept aside."""
    path = target.real
    digest = digest_of(path)
    if digest is None:
        return Edits()
    same = [written for written in known if written.path == os.path.realpath(path)]
    is_unchanged = any(written.sha256 == digest for written in known) or knows(digest)
    if os.path.realpath(path) == os.path.realpath(job.input_path):
        return _edits_in_place(job, source, digest, same, is_unchanged=is_unchanged)
    with open_previous(path, job, source, [written.headers for written in same], source.sheet.scratch) as previous:
        if previous is None:
            is_ours = is_unchanged or not source.sheet.header_row  # without headers it was looked at before the start
            aside = _kept_aside(path, digest, job) if same and is_ours and not is_unchanged else ()
            return Edits(notes=aside, seen=digest if is_ours or job.overwrite else None)
        if is_unchanged and not previous.hers:
            return Edits(seen=digest)
        found = _Comparison(previous, source, journal, same[0] if same else None)
        hers, mended = found.carry_over()
        notes = _mended(mended)
        if found.loses_something(is_unchanged=is_unchanged):
            notes = (*notes, *_kept_aside(path, digest, job, is_to_run=bool(mended)))
        return Edits(hers, notes, digest)


def _edits_in_place(
    job: Job, source: Source, digest: str, same: Sequence[WrittenOutput], *, is_unchanged: bool
) -> Edits:
    """The sheet is its own output: only cells of ours are written, all else stays as it is."""
    seen = source.sheet.fingerprint
    if is_unchanged or digest != seen or not same or not source.layout.is_earlier_output:
        return Edits(seen=seen)
    cells = PreviousOutput.of_source(source).cells()
    if any(cells == written.cells for written in same):
        return Edits(seen=seen)
    return Edits(notes=_kept_aside(source.sheet.path, digest, job), seen=seen)


def _mended(cells: Sequence[str]) -> tuple[str, ...]:
    if not cells:
        return ()
    shown = ", ".join(cells[:MOST_NAMED]) + (f" and {len(cells) - MOST_NAMED} more" * (len(cells) > MOST_NAMED))
    was, it = ("was", "it") if len(cells) == 1 else ("were", "them")
    advice = f"to send {it}, correct the sheet, or run the file that is kept; a row that ran is then told as edited"
    return (f"{shown} {was} edited in the result file, not in the sheet: {advice}",)


def _kept_aside(path: Path, digest: str, job: Job, *, is_to_run: bool = False) -> tuple[str, ...]:
    """Keep a copy of a file that a person has changed, under a name that no pattern takes for an input.

    `is_to_run`: she changed what would be sent; how the file is run is said where a job file holds the options.
    """
    for number in count(1):
        mark = "edited" if number == 1 else f"edited-{number}"
        kept = path.with_name(f"{stem_of(path)}.{mark}.results{path.suffix}")
        if copy_file(path, kept) or digest_of(kept) == digest:
            told = f"{path.name} was edited since it was written; as it was, it is kept as {kept.name}"
            if not is_to_run or job.job_file is None:
                return (told,)
            as_said = job.output_path.with_name(kept.name)
            file = as_said if as_said.exists() else kept  # the output may be a link
            words = ["batch-runner", "run", job.job_file, "--input", str(file)]
            if job.service == "local" and job.files is None and file.parent != job.input_path.parent:
                words += ["--files", str(job.input_path.parent)]
            return (f"{told}; to run that: {quote_words(words)}",)
    raise AssertionError("there is always a free name")


NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system says that knows no hard links (SMB, vfat; on Windows, the last)."""


def _give_new_name(draft: Path, name: Path) -> None:
    """Let the file have this name, too, unlike a rename never in another's place. Raises `FileExistsError`."""
    try:
        os.link(draft, name)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # now the name is ours
        replace_file(draft, name)


def copy_file(path: Path, copy: Path) -> bool:
    """Make a copy of a file, durable and whole; False where something has that name. Raises `OSError`."""
    handle, name = tempfile.mkstemp(f".part{copy.suffix}", ".", copy.parent)
    os.close(handle)
    draft = Path(name)
    try:
        shutil.copyfile(path, draft)
        with suppress(OSError):  # permissions and times are a courtesy: some mounts know none
            shutil.copystat(path, draft)
        with draft.open("rb+") as file:
            sync(file.fileno())
        _give_new_name(draft, copy)
        sync_if_possible(copy.parent)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


class _Comparison:
    """An output that a person has changed beside tonight's sheet. What is known of its rows is kept on disk."""

    def __init__(
        self, previous: PreviousOutput, source: Source, journal: Journal, written: WrittenOutput | None
    ) -> None:
        self._previous = previous
        self._source = source
        self._journal = journal
        self._written = written
        self._left = 0
        """Rows that tonight's sheet doesn't have."""
        self._left_notes = 0
        self._mended: list[str] = []
        names = {column.name: column.index for column in source.layout.own}
        own = [column for column in previous.layout.own if column.name in names and column not in previous.hers]
        self._pairs = [(column.index, names[column.name]) for column in own]

    def carry_over(self) -> tuple[HerNotes, list[str]]:
        """Her notes by tonight's rows, and the addresses of cells of the sheet's own that she edited."""
        texts: dict[int, tuple[str, ...]] = {}
        batch = self._written.batch if self._written else 0
        with closing(sqlite3.connect("")) as rows, self._journal.outputs.params_of(batch) as params_of:
            self._gather(rows)
            seen: Counter[bytes] = Counter()
            runs = {span.number: span.run_id for span in self._journal.spans() if span.run_id}
            for row in self._source.sheet.rows():
                if row.kind not in LIST_ROWS:
                    continue
                key = self._source.template.fill(row).key
                seen[key or b""] += 1
                found = self._take(rows, runs.get(row.number, ""), key, seen[key or b""])
                if found is None:
                    continue
                if any(found.notes):
                    texts[row.number] = found.notes
                pairs = zip(self._pairs, found.own, strict=True)
                other = [place for (place, tonight), text in pairs if not _is_same(text, row.texts[tonight])]
                if other and self._is_hers(found, params_of):
                    self._mended += [f"{column_letter(place)}{found.number}" for place in other]
            left = rows.execute("SELECT notes FROM earlier").fetchall()
            self._left, self._left_notes = len(left), sum(any(_texts(notes)) for (notes,) in left)
        headers = tuple(column.name for column in self._previous.hers)
        return HerNotes(headers, texts), self._mended

    def loses_something(self, *, is_unchanged: bool) -> bool:
        """Whether the new output won't have all that stands in this one; asked after `carry_over`."""
        if is_unchanged:
            return self._left_notes > 0
        if self._written is None:  # of an earlier release, which noted nothing: most likely nobody changed it
            return bool(self._left_notes or self._mended)
        headers = {column.name for column in self._previous.layout.earlier}
        return (
            self._previous.sheet.path.suffix.lower() not in TEXT_ENDINGS  # formats and remarks aren't carried over
            or self._left > 0
            or bool(self._mended)
            or bool(self._previous.sheet.strays)
            or headers != set(self._written.headers.ours)
            or self._previous.cells() != self._written.cells
            or _around(self._previous.sheet) != _around(self._source.sheet)
        )

    def _gather(self, rows: sqlite3.Connection) -> None:
        rows.execute(
            "CREATE TABLE earlier (number INTEGER PRIMARY KEY, key BLOB, nth INTEGER, params BLOB, run_id, own, notes)"
        )
        seen: Counter[bytes] = Counter()
        hers = [column.index for column in self._previous.hers]

        def each() -> Iterator[tuple[object, ...]]:
            for row in self._previous.rows():
                key = row.known.key if row.known else None
                seen[key or b""] += 1
                own = _json(row.texts[place] for place, _tonight in self._pairs)
                notes = _json(unharmed(row.texts[place]) for place in hers)
                params = row.known.digest if row.known else None
                yield row.number, key, seen[key or b""], params, row.run_id, own, notes

        rows.executemany("INSERT INTO earlier VALUES (?, ?, ?, ?, ?, ?, ?)", each())
        rows.execute("CREATE INDEX by_key ON earlier (key, nth)")
        rows.execute("CREATE INDEX by_run ON earlier (run_id)")

    def _take(self, rows: sqlite3.Connection, run_id: str, key: bytes | None, nth: int) -> _Earlier | None:
        """The earlier row that one of tonight's is: the one with its run, else the one with its key."""
        sql = "SELECT number, key, nth, params, own, notes FROM earlier WHERE "
        found = rows.execute(sql + "run_id = ? AND run_id <> '' LIMIT 1", (run_id,)).fetchone()
        found = found or rows.execute(sql + "key = ? AND nth = ? LIMIT 1", (key, nth)).fetchone()
        if found is None:
            return None
        number, known, place, params, own, notes = found
        rows.execute("DELETE FROM earlier WHERE number = ?", (number,))
        return _Earlier(number, known, place, params, _texts(own), _texts(notes))

    def _is_hers(self, row: _Earlier, params_of: Callable[[bytes, int], bytes | None]) -> bool:
        """Whether she changed the row in the output; else it is as it was sent, and the sheet has changed."""
        if self._written is None or self._written.input_sha256 == self._source.sheet.fingerprint:
            return True
        return row.key is None or row.params is None or params_of(row.key, row.nth) != row.params


class _Earlier(msgspec.Struct, frozen=True):
    """A row of the output: how it is known, what it would send, the sheet's own texts in it, and hers."""

    number: int
    key: bytes | None
    nth: int
    params: bytes | None
    own: tuple[str, ...]
    notes: tuple[str, ...]


def _is_same(text: str, other: str) -> bool:
    return text == other or resaved(text) == resaved(other)


def _json(texts: Iterable[str]) -> str:
    return msgspec.json.encode(list(texts)).decode()


def _texts(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


def _around(sheet: Sheet) -> bytes:
    """A hash of what stands above and below the list."""
    found = CellsHash()
    for row in sheet.rows():
        if row.kind not in LIST_ROWS and row.kind is not RowKind.HEADER:
            found.add(text for text in row.texts if text)
    return found.digest
