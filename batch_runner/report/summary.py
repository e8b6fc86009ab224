"""What a batch came to: text for a person, JSON for a program, a value for a library's user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import ExitCode, worst
from batch_runner.journal.changes import HeldRows, Since, Unsettled
from batch_runner.outcomes import STATUSES, SUCCESS, UNKNOWN
from batch_runner.report.totals import PLAIN, writing_of
from batch_runner.units import local_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batch_runner.journal.view import Count, Failures
    from batch_runner.report.totals import ColumnTotals, Differing


MOST_GROUPS = 20
"""Groups of failures that are shown."""
LONGEST_MESSAGE = 300
"""Characters of a message that are shown to a person."""


MOST_NAMED = 3
"""Reasons that are said beside a count."""


class NamedRows(msgspec.Struct, frozen=True):
    """So many rows of one count of the plan, and what it says of them: the earlier night, and what came of it."""

    count: str
    why: str
    rows: int


def named_rows(named: Mapping[tuple[str, str], int]) -> tuple[NamedRows, ...]:
    """The most frequent first."""
    found = (NamedRows(*both, rows) for both, rows in named.items())
    return tuple(sorted(found, key=lambda each: (-each.rows, each.why)))


def said_of(named: Iterable[NamedRows], count: str) -> str:
    """In brackets, why the rows of one count are what they are; "" where nothing is to be said."""
    found = [each for each in named if each.count == count]
    if not found:
        return ""
    one = len(found) == 1
    said = [each.why if one else f"{each.rows} {each.why}" for each in found[:MOST_NAMED]]
    return f" ({'; '.join([*said, *(['…'] if len(found) > MOST_NAMED else [])])})"


def counted_words(named: Sequence[NamedRows]) -> Iterator[str]:
    """How many rows are held, carried over and started again, each with the earlier night."""
    for count, words in (("held", "held"), ("carried_over", "carried over"), ("retried", "started again")):
        if rows := sum(each.rows for each in named if each.count == count):
            yield f"{rows} {words}{said_of(named, count)}"


_PLAN = {"start": "to start", "poll": "to poll", "carried_over": "carried over", "retried": "to start again"}


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of a sheet a batch does what with; each row that takes part counts once.

    `unknown` rows stay so, or their start is asked for under its key, which never starts a second run.
    """

    start: int = 0
    poll: int = 0
    carried_over: int = 0
    retried: int = 0
    held: int = 0
    parked: int = 0
    unknown: int = 0
    refused: int = 0


def plan_words(plan: Counts, named: Sequence[NamedRows]) -> str:
    """How many rows a batch does what with, each count with the reason and the earlier night."""
    counted = msgspec.structs.asdict(plan).items()
    words = (f"{rows} {_PLAN.get(name, name)}{said_of(named, name)}" for name, rows in counted if rows)
    return ", ".join(words) or "nothing to do"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch came to.

    `counts` are of the rows that took part; `carried` of them were carried over from an earlier batch without a
    request, `changed` of those although their params are others now. `seconds` is the whole time. `stopped` says why
    the batch stopped early. `since` tells the difference from the last night, None on the first one. `parked` rows are
    retried no more (`--retry-limit`), `duplicates` were refused (`--unique`), `taken` have the key of another sheet's
    rows, `unsettled` are sheets of other days that were left before their end. `totals` has an entry for each column of
    `--total`, `differing` one for each of `--compare`. `report` is the path of the page that `--report` asked for.
    `service` is who ran the tasks: `local` or a URL. `cautions` are those of the `notes` that are told also with
    `--quiet`. `named` counts the rows that were held, carried over and retried, and says why. `locale` is how amounts
    are written in the text.
    """

    exit_code: int
    input: str
    output: str | None
    journal: str
    rows: int
    counts: tuple[Count, ...]
    carried: int
    changed: int
    failures: tuple[Failures, ...]
    more_failures: int
    stopped: str | None
    notes: tuple[str, ...]
    seconds: float
    service: str = ""
    since: Since | None = None
    parked: HeldRows = HeldRows(0, ())
    duplicates: HeldRows = HeldRows(0, ())
    taken: HeldRows = HeldRows(0, ())
    unsettled: tuple[Unsettled, ...] = ()
    totals: tuple[ColumnTotals, ...] = ()
    differing: tuple[Differing, ...] = ()
    report: str | None = None
    cautions: tuple[str, ...] = ()
    named: tuple[NamedRows, ...] = ()
    locale: str | None = None

    @property
    def resolving(self) -> str:
        """The command that says what became of an unknown row of this sheet, but for the row and the verdict."""
        return f"batch-runner resolve {self.journal} --input {self.input}"

    @property
    def lost(self) -> str:
        """What is known of an unknown row. A run of our own tasks was there; of another service's that isn't sure."""
        what = "its run was cut off, and may" if self.service == "local" else "a run may exist, or"
        return f"{what} have done its work"

    @property
    def is_well(self) -> bool:
        """Whether there is nothing that a person has to look at. That rows were edited is told on the night of it."""
        is_edited = bool(self.changed and (self.since is None or self.since.changed))
        is_other = self.taken.rows or self.unsettled or any(one.rows for one in self.differing)
        is_told = is_edited or is_other or self.cautions
        return self.exit_code == 0 and not is_told

    def count(self, status: str) -> int:
        """How many rows have this status."""
        return sum(counted.rows for counted in self.counts if counted.status == status)

    @property
    def headline(self) -> str:
        """How many rows came to what, in one line."""
        said = "".join(f"; {each}" for each in counted_words(self.named))
        return f"{self.input}: {number_of(self.rows, 'row')} in {duration_of(self.seconds)}: {self._words()}{said}"

    def to_json(self) -> str:
        """One JSON object, on one line; the counts as an object."""
        fields = msgspec.to_builtins(self)
        fields["counts"] = {counted.status: counted.rows for counted in self.counts}
        return msgspec.json.encode(fields).decode()

    def to_text(self) -> str:
        """A few lines for a person."""
        return "\n".join(self._lines())

    @property
    def is_quiet(self) -> bool:
        """Whether there was nothing new, and nothing but notes for a person to look at."""
        is_all_old = self.carried == self.rows and not (self.since and (self.since.new or self.since.left))
        return self.is_well and is_all_old and not self.changed

    def _lines(self) -> Iterator[str]:
        if self.is_quiet:
            nothing = f"nothing new: {self.carried} carried over ({self._words()})" if self.rows else "nothing to do"
            report = f"; report: {self.report}" if self.report else ""
            yield f"{self.input}: {nothing}; output: {self.output}{report}"
            yield from self._note_lines()
            return
        yield self.headline
        yield from self._since_lines()
        yield from self._held_lines()
        yield from self._elsewhere_lines()
        for group in self.failures:
            yield f"  {group.rows} × {group.status}: {_line(group.error) or '(no message)'}  [{row_numbers(group)}]"
        if self.more_failures:
            yield f"  and {number_of(self.more_failures, 'row')} more that did not succeed"
        told: tuple[ColumnTotals | Differing, ...] = (*self.totals, *self.differing)
        for one in told:
            yield from (f"  {line}" for line in one.lines(writing_of(self.locale) or PLAIN))
        if self.stopped:
            yield f"  stopped early: {self.stopped}"
        if self.count("unknown"):
            yield f"  unknown: {self.lost}: look before you say --retry unknown"
            yield f"    what you find is said so: {self.resolving} --row N --as success --note …"
        yield from self._note_lines()
        if self.output:
            yield f"  output: {self.output}"
        if self.report:
            yield f"  report: {self.report}"

    def _note_lines(self) -> Iterator[str]:
        return (f"  note: {note}" for note in self.notes)

    def _since_lines(self) -> Iterator[str]:
        """What is different from the night before, or from an earlier batch of this night."""
        # Those that another file's rows hold up have a line of their own, which warns of that very option.
        advice = " (--retry changed runs them again)" if self.changed > self.taken.rows else ""
        changed = f", {self._edited()}{advice}" if self.changed else ""
        if self.since is None:
            if self.carried and (changed or not self.named):
                yield f"  {self.carried} carried over from an earlier batch{changed}"
            return
        told = self.since
        yield (
            f"  since {local_time(told.started)}: {told.new} new, {told.changed} edited, {told.left} left the sheet; "
            f"{self.carried} carried over{changed}"
        )

    def _held_lines(self) -> Iterator[str]:
        if self.parked.rows:
            yield (
                f"  parked: {number_of(self.parked.rows, 'row')} retried on as many nights as --retry-limit allows: "
                f"edit them, or raise it  [{row_numbers(self.parked)}]"
            )
        if self.duplicates.rows:
            yield (
                f"  duplicates: {number_of(self.duplicates.rows, 'row')} not sent because of --unique; "
                f"--allow-duplicates sends them, so that the same may run twice  [{row_numbers(self.duplicates)}]"
            )

    def _elsewhere_lines(self) -> Iterator[str]:
        """What other sheets of the same journal have to do with this one."""
        if self.taken.rows:
            yield (
                f"  not sent: {number_of(self.taken.rows, 'row')}, counted as edited above: another file had the same "
                "key with other values, and that ran. Look whether these are other rows: --retry changed starts them, "
                f"and one that was only edited then runs twice  [{row_numbers(self.taken)}]"
            )
        for sheet in self.unsettled:
            rows = f"{number_of(sheet.rows, 'row')} not started, unknown or still going" if sheet.rows else "cut off"
            yield f"  left behind: {sheet.input}: {rows}; run it again (--date, or the file as INPUT)"

    def _edited(self) -> str:
        return f"{self.changed} of them edited since {'it' if self.changed == 1 else 'they'} ran"

    def _words(self) -> str:
        words = ", ".join(f"{counted.rows} {counted.status}" for counted in self.counts)
        return words or "nothing to do"


def exit_code_for(counts: Iterable[Count], stopped: ExitCode | None) -> ExitCode:
    """The code for a batch that came to this (README, *Exit codes*): 130/143, then 5, 4, 3."""
    if stopped is not None:
        return stopped
    codes = {SUCCESS: ExitCode.OK, UNKNOWN: ExitCode.SOME_UNKNOWN}
    return worst(codes.get(counted.status, ExitCode.SOME_FAILED) for counted in counts if counted.rows)


def sorted_counts(counts: Iterable[Count]) -> tuple[Count, ...]:
    """The counts in the order in which people want to read them; words we don't know come last."""
    order = {status: place for place, status in enumerate(STATUSES)}
    return tuple(sorted(counts, key=lambda counted: (order.get(counted.status, len(order)), counted.status)))


def number_of(number: int, noun: str, ending: str = "s") -> str:
    """`1 row`, `2 rows`; `ending` makes the noun more than one."""
    return f"{number} {noun if number == 1 else noun + ending}"


def _line(message: str) -> str:
    """A message as one line that a person reads; `--json` and the output have it whole."""
    words, half = " ".join(message.split()), LONGEST_MESSAGE // 2
    # What it is begins a message, and what to do about it ends one: names of files stand between.
    return words if len(words) <= LONGEST_MESSAGE else f"{words[:half]} … {words[-half:]}"


def row_numbers(group: Failures | HeldRows) -> str:
    """`row 2`, or `rows 2, 3, …` where there are more."""
    more = ", …" if group.rows > len(group.numbers) else ""
    return f"row{'s' if group.rows > 1 else ''} {', '.join(map(str, group.numbers))}{more}"


def duration_of(seconds: float) -> str:
    """`1.2 s`, `3 min 7 s`, `2 h 5 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
