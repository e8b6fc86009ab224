"""Observers of a batch: a bar on a terminal, plain lines for cron, or nothing."""

from __future__ import annotations

import atexit
import os
import stat
import sys
import threading
import time
from collections import deque
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING, Literal

import msgspec

from batch_runner.errors import printable
from batch_runner.log import json_line

if TYPE_CHECKING:
    from typing import Never, TextIO

    from tqdm import tqdm

    from batch_runner.log import Form


LINE_EVERY = 30.0
"""Seconds between two plain lines."""
FIRST_LINE = 1.0
"""Seconds until the first: a batch of under a second says nothing."""


MOST_HELD = 1_000
"""Lines that are kept back at most."""


_WRITING = threading.Lock()
"""Lines come from several threads: of the log, of worker processes."""


class Tally(msgspec.Struct):
    """How far a batch is: rows in all, rows done, and of these how many succeeded; runs in flight now.

    `others` are done and came to another status, so many to each; `left running` are those that we stopped following.
    `carried` of those that are done were carried over from an earlier batch, `changed` of these have other params now.
    """

    total: int
    done: int = 0
    success: int = 0
    failure: int = 0
    running: int = 0
    carried: int = 0
    changed: int = 0
    others: dict[str, int] = {}

    def ended(self, status: str) -> None:
        """A row is done."""
        self.done += 1
        if status in ("success", "failure"):
            self.success += status == "success"
            self.failure += status == "failure"
        else:
            name = f"left {status}" if status in ("queued", "running") else status
            self.others[name] = self.others.get(name, 0) + 1

    @property
    def words(self) -> str:
        """How many came to what, and how many are in flight."""
        others = "".join(f", {rows} {name}" for name, rows in self.others.items())
        return f"{self.success} success, {self.failure} failure{others}, {self.running} running"


GROUND = 10
"""Rows that have to end before there is ground for a forecast."""


class Forecast(msgspec.Struct, frozen=True):
    """How fast rows end, in rows a second, and within how many seconds the rest will: None without ground for it."""

    rate: float
    left: tuple[float, float] | None

    @classmethod
    def of(cls, tally: Tally, seconds: float) -> Forecast:
        """The pace of so many seconds. Rows that were carried over took no time, so they don't count.

        Ends are taken for a Poisson process, whose count has a deviation of its square root: the range holds 19 times
        in 20 while rows go on as they did.
        """
        ended, rest = tally.done - tally.carried, tally.total - tally.done
        rate = ended / max(seconds, 0.001)
        return cls(rate, cls.range_of(ended, rest, rate))

    @staticmethod
    def range_of(ended: int, rest: int, rate: float) -> tuple[float, float] | None:
        """Within how many seconds so many rows end, where so many have ended at this rate."""
        if ended < GROUND or rest <= 0:
            return None
        spread = 1.96 * sqrt(1 / ended + 1 / rest)
        return rest / rate / (1 + spread), rest / rate * (1 + spread)

    @property
    def words(self) -> str:
        """The rate and the range."""
        if self.left is None:
            return f"{self.rate:.1f} rows/s"
        first, last = (_clock(seconds) for seconds in self.left)
        return (
            f"{self.rate:.1f} rows/s, {first} left"
            if first == last
            else (f"{self.rate:.1f} rows/s, {first} to {last} left")
        )


class Listener:
    """A stream that a batch outlives: when nobody reads it, what is said is lost and the batch goes on.

    A pipe's reader leaves (`2>&1 | head`) or stops reading, a terminal is closed while the batch goes on in the
    background, or held (Ctrl-S).
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._writer = None if stream is None else _writer_of(stream)

    def write(self, text: str) -> int:
        """Write at once, as long as somebody listens; where that may last, leave it to a thread."""
        with _WRITING:
            if self._writer is not None and self._stream is not None:
                self._writer.add(text.encode(self._stream.encoding or "utf-8", "backslashreplace"))
            elif self._stream is not None:
                try:
                    self._stream.write(text)
                    self._stream.flush()
                except (OSError, ValueError):
                    self._stream = None
        return len(text)

    def flush(self) -> None:
        """What was written has been flushed."""

    def __getattr__(self, name: str) -> object:
        """All else that a bar asks of a stream: its encoding, its width."""
        return getattr(self._stream, name)


MOST_PENDING = 1_000
"""Pieces that wait for a reader at most; what comes then is dropped and counted."""
LAST_WAIT = 1.0
"""Seconds that the end of the program waits for a reader who takes nothing."""


class _Writer:
    """Writes to a pipe, a socket or a terminal in a thread of its own: its reader may be in no hurry."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._pending: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._dropped = 0
        self._is_gone = False
        self._thread: threading.Thread | None = None

    def add(self, piece: bytes) -> None:
        """Write it when those before it are written; where too many wait, drop it."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_all, name="standard error", daemon=True)
                self._thread.start()
                atexit.register(self.wait)
            if len(self._pending) >= MOST_PENDING:
                self._dropped += 1
            elif not self._is_gone:
                if self._dropped:
                    lost = f"… {self._dropped} lines before this one were dropped: nobody read them\n"
                    self._pending.append(lost.encode())
                    self._dropped = 0
                self._pending.append(piece)
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until all is written, for as long as somebody goes on reading."""
        with self._changed:
            while (left := len(self._pending)) and self._changed.wait_for(
                partial(self._has_less_than, left), LAST_WAIT
            ):
                pass

    def _has_less_than(self, left: int) -> bool:
        return len(self._pending) < left

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending)
                piece = memoryview(self._pending[0])
            try:
                while piece:
                    piece = piece[os.write(self._handle, piece) :]
            except OSError:
                self._is_gone = True
            with self._changed:
                self._pending.clear() if self._is_gone else self._pending.popleft()
                self._changed.notify_all()


_WRITERS: dict[tuple[int, int], _Writer] = {}
"""One for each descriptor, as long as it is of the same pipe: what several say comes in order."""


def _writer_of(stream: TextIO) -> _Writer | None:
    """Who writes to a stream whose reader could keep us waiting; None for a file, or what has no descriptor."""
    try:
        handle = stream.fileno()
        found = os.fstat(handle)
    except (OSError, ValueError, AttributeError):
        return None
    if sys.platform == "win32" and os.isatty(handle):  # a console takes letters, and bytes only in its own encoding
        return None
    if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode) or os.isatty(handle)):
        return None
    return _WRITERS.setdefault((handle, found.st_ino), _Writer(handle))


class Progress:
    """An observer that shows nothing; the others build on it. `form` is that of the log: then all is said so."""

    def __init__(self, form: Form = "text", stream: TextIO | None = None) -> None:
        self.form = form
        self._stream = Listener(stream or sys.stderr)

    def begin(self, tally: Tally) -> None:
        """The batch begins; `tally` is kept up to date by the batch."""

    def moved(self, tally: Tally) -> None:
        """A run started or a row is done."""

    def say(self, text: str) -> None:
        """A line for the person, of the log say, that must not break the bar. It is shown even where no progress is."""
        self._stream.write(f"{text}\n")

    def tell(self, sentence: str) -> None:
        """Say a sentence, in the form of the log."""
        self.say(printable(sentence) if self.form == "text" else json_line(sentence))

    def plan(self, sentence: str) -> None:
        """Say a plan with nothing in it that a person has to look at: all rows start. Not where no progress is."""

    def printed(self, line: str) -> None:
        """Say what a task printed, in the form of the log."""
        self.say(line if self.form == "text" else json_line("task printed", text=line))

    def release(self) -> None:
        """Show what was kept back, of which there is none here."""

    def end(self, tally: Tally) -> None:
        """The batch has ended."""


class HeldBack(Progress):
    """Keeps back what is said, the last so many lines of it, until it is known that somebody wants to hear it."""

    def __init__(self, form: Form = "text") -> None:
        super().__init__(form)
        self._lines: deque[str] = deque(maxlen=MOST_HELD)
        self._said = 0
        self._is_released = False

    def say(self, text: str) -> None:
        """Keep the line, or show it if they have been released."""
        if self._is_released:
            super().say(text)
        else:
            self._said += 1
            self._lines.append(text)

    def release(self) -> None:
        """Show what was kept back, and from now on all that is said."""
        self._is_released = True
        if self._said > len(self._lines):
            self.tell(f"… {self._said - len(self._lines)} lines before these were not kept")
        while self._lines:
            super().say(self._lines.popleft())


class Lines(Progress):
    """A plain line now and then, for logs and pipes."""

    def __init__(self, stream: TextIO, form: Form = "text") -> None:
        super().__init__(form, stream)
        self._began = time.monotonic()
        self._next = self._began + FIRST_LINE
        self._spoke = False
        self._plan: str | None = None

    def plan(self, sentence: str) -> None:
        """Say it before the first line."""
        self._plan = sentence

    def begin(self, tally: Tally) -> None:  # noqa: ARG002  a line comes when something has moved
        """Count the time of this batch from here: there may have been another before it."""
        self._began = time.monotonic()
        self._next = self._began + FIRST_LINE
        self._spoke = False

    def moved(self, tally: Tally) -> None:
        """Print a line if the last one is long enough ago."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + LINE_EVERY
            self._print(tally, now)

    def end(self, tally: Tally) -> None:
        """Print a last line if there were others."""
        if self._spoke:
            self._print(tally, time.monotonic())

    def _print(self, tally: Tally, now: float) -> None:
        self._spoke = True
        if self._plan is not None:
            self.tell(self._plan)
            self._plan = None
        pace = Forecast.of(tally, now - self._began)
        text = f"{tally.done}/{tally.total} done, {tally.words}, {pace.words}"
        self.say(text if self.form == "text" else _event(tally, pace))


_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
"""Without tqdm's own rate and forecast: it counts rows that were carried over, and says one time for certain."""


class Bar(Progress):
    """A tqdm bar: done/total, the counts, rate, and a forecast."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream=stream)
        self._bar: tqdm[Never] | None = None
        self._began = time.monotonic()

    def plan(self, sentence: str) -> None:
        """Say it above the bar."""
        self.tell(sentence)

    def begin(self, tally: Tally) -> None:
        """Draw the empty bar."""
        from tqdm import tqdm

        self._began = time.monotonic()
        self._bar = tqdm(total=tally.total, file=self._stream, bar_format=_BAR, dynamic_ncols=True, mininterval=0.2)
        self.moved(tally)

    def moved(self, tally: Tally) -> None:
        """Draw it anew; tqdm itself holds the frame rate."""
        if self._bar is not None:
            pace = Forecast.of(tally, time.monotonic() - self._began)
            self._bar.set_postfix_str(f"{tally.words}, {pace.words}", refresh=False)
            self._bar.update(tally.done - self._bar.n)

    def say(self, text: str) -> None:
        """Print the line above the bar."""
        from tqdm import tqdm

        tqdm.write(text, file=self._stream)

    def end(self, tally: Tally) -> None:
        """Leave the full bar standing."""
        self.moved(tally)
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()


def progress_for(wish: Literal["auto", "always", "never"], stream: TextIO | None, form: Form = "text") -> Progress:
    """The observer a person wants: `auto` is a bar on a terminal and lines elsewhere; `always` is a bar anywhere.

    Where there is no stream (a program without stderr has None for it), nothing is shown. A program that reads JSON
    lines is shown no bar, but events.
    """
    if wish == "never" or stream is None:
        return Progress(form)
    has_bar = form == "text" and (wish == "always" or stream.isatty())
    return Bar(stream) if has_bar else Lines(stream, form)


def _event(tally: Tally, pace: Forecast) -> str:
    """The same for a program: `rate` in rows a second, the forecast in seconds."""
    return json_line(
        "progress",
        done=tally.done,
        total=tally.total,
        success=tally.success,
        failure=tally.failure,
        other=sum(tally.others.values()),
        running=tally.running,
        rate=pace.rate,
        left_from=pace.left and pace.left[0],
        left_to=pace.left and pace.left[1],
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
