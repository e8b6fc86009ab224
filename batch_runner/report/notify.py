"""People and services are told how a batch went.

Source: https://healthchecks.io/docs/http_api/. The parameter `rid` ties an end to its start; services that don't know
it pass it over. `/fail` is used, not `/EXIT_STATUS`, since every service of this kind knows it.

apprise is imported by the first notice that is made. Whatever it says of itself is kept out of our log: it names URLs.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from batch_runner import log
from batch_runner.errors import ExitCode, UsageError, exit_code_of, printable, quote_words
from batch_runner.job.validation import fill_variables, is_filled, mask
from batch_runner.outcomes import FAILED
from batch_runner.report.summary import number_of, row_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from threading import Event
    from types import ModuleType, TracebackType

    import httpx

    from batch_runner.job.config import NotifyConfig
    from batch_runner.report.summary import Summary


MOST_GROUPS = 5
"""Groups of failures that are told of each batch."""
MOST_BATCHES = 20
"""Batches that are told of one by one."""

_ENDS = {
    ExitCode.OK: "Every row succeeded, or there was nothing to do.",
    ExitCode.BUG: "A bug of batch-runner ended it; please report it. What was sent is recorded: {goes_on}",
    ExitCode.REFUSED: "Nothing was sent: the command, the job or the sheet is wrong. "
    "The same command with check instead of run says what is wrong.",
    ExitCode.SOME_FAILED: "Some rows did not succeed: look at status and error in the output and fix them. "
    "Then {again}",
    ExitCode.SOME_UNKNOWN: "Some rows are unknown: their work may have been done. A person must look where that would "
    "show (the service, the bank, the books), and say what was found, as below; the next batch carries it over.",
    ExitCode.STOPPED: "It stopped early: its summary says why. Mended, {goes_on}",
    ExitCode.JOURNAL_BUSY: "Another batch holds the journal. When that has ended, {goes_on}",
    ExitCode.INTERRUPTED: "It was interrupted; {goes_on}",
    ExitCode.TERMINATED: "It was told to end; {goes_on}",
}


class Ending(msgspec.Struct, frozen=True):
    """How a command ended: its code, its INPUT, and what its batches came to, each with its report if it has one."""

    exit_code: int
    source: str
    summaries: Sequence[tuple[Summary, str | None]] = ()

    @property
    def is_success(self) -> bool:
        """Whether all is well: every row succeeded, or there was nothing to do. An interrupted batch is not well."""
        return self.exit_code == ExitCode.OK

    @property
    def title(self) -> str:
        """One line: the input, and in a few words what it came to."""
        words = ", ".join(f"{rows} {status}" for status, rows in self._counts().items())
        nothing = "nothing to do" if self.is_success else "failed"
        text = f"batch-runner: {self.source}: {words or nothing} (exit {self.exit_code})"
        return _sendable(" ".join(text.split()))

    @property
    def body(self) -> str:
        """A few lines: what to do, and what each batch came to."""
        return _sendable("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        yield _ENDS[ExitCode(self.exit_code)].format(goes_on=self._going_on(), again=self._again())
        for summary, report in self.summaries[:MOST_BATCHES]:
            yield ""
            yield from _told(summary, report)
        if len(self.summaries) > MOST_BATCHES:
            yield f"and {len(self.summaries) - MOST_BATCHES} more batches"
        yield ""
        yield f"on {socket.gethostname()}"

    def _going_on(self) -> str:
        return f"the same command goes on{self._command('')}"

    def _again(self) -> str:
        """How rows that did not succeed are run again."""
        retry = ",".join(status for status in FAILED if status in self._counts())
        words = f"--retry {retry}"
        return f"the same command with {words} runs them again{self._command(words)}" if retry else self._going_on()

    def _command(self, words: str) -> str:
        """The command, to be pasted, where a job file holds all that was said: flags are known to a crontab only."""
        if not self.source.lower().endswith(".toml"):
            return ""
        return f": batch-runner run {quote_words([self.source])} {words}".rstrip()

    def _counts(self) -> dict[str, int]:
        """How many rows of all batches have which status."""
        counts: dict[str, int] = {}
        for summary, _ in self.summaries:
            for counted in summary.counts:
                counts[counted.status] = counts.get(counted.status, 0) + counted.rows
        return counts


def _sendable(text: str) -> str:
    """Names of files may hold bytes that are no text; what a service says may hold what a program would obey."""
    return printable(text.encode("utf-8", "backslashreplace").decode())


def _told(summary: Summary, report: str | None) -> Iterator[str]:
    yield summary.headline
    if summary.changed:
        yield f"  edited since they ran, and not run again: {number_of(summary.changed, 'row')}"
    for group in summary.failures[:MOST_GROUPS]:
        yield f"  {group.rows} × {group.status} ({row_numbers(group)})"
    told = sum(group.rows for group in summary.failures[:MOST_GROUPS])
    more = sum(group.rows for group in summary.failures) + summary.more_failures - told
    if more:
        yield f"  and {number_of(more, 'row')} more that did not succeed"
    if summary.count("unknown"):
        journal = quote_words([str(Path(summary.journal).absolute())])
        yield f"  unknown: batch-runner resolve {journal} --row N --as success|failure|not_started --note …"
    if summary.output:
        yield f"  output: {summary.output}"
    if report:
        yield f"  report: {report}"


T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that the end of the program waits for those who are told."""
HURRIED_PATIENCE = 2.0
"""The same when the program has been told to end."""
LOOK = 0.1
"""Seconds between two looks at that."""


class Notifier:
    """Tells of what happens in its block: that it began, and how it ended. Nothing of it ever raises or lasts long.

    What is wrong with the wishes is raised by `check` only, so that whoever can be told is told of that, too.
    """

    def __init__(
        self, wishes: NotifyConfig, environ: Mapping[str, str], is_hurried: Callable[[], bool] | None = None
    ) -> None:
        self._wishes = wishes
        self._is_hurried = is_hurried or (lambda: False)
        self._environ = environ
        self._problems: list[str] = []
        self._summaries: list[tuple[Summary, str | None]] = []
        self._code: int = ExitCode.OK
        self._ending: Ending | None = None
        self._begun, self._over = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        beats = self._make("heartbeat", [wishes.heartbeat] if wishes.heartbeat else [], lambda url, _: Heartbeat(url))
        self._heartbeat = next(beats, None)
        urls = wishes.notify if wishes.notify_when != "never" else ()
        self._notices = tuple(self._make("notify", urls, partial(Notice, is_public=wishes.is_public)))

    def check(self) -> None:
        """Raises `UsageError` with a line for each wish that can't be fulfilled."""
        if self._problems:
            raise UsageError("\n".join(dict.fromkeys(self._problems)))

    def begins(self) -> None:
        """The log is open, so that it can say what becomes of the telling."""
        self._begun.set()

    def hears(self, summary: Summary, report: str | None = None) -> None:
        """A batch has ended so, and has written this report."""
        self._summaries.append((summary, report))

    def ends(self, exit_code: int) -> int:
        """The block ends with this exit code (where it raises, with the error's); returns it."""
        self._code = exit_code
        return exit_code

    def __enter__(self) -> Self:
        if self._heartbeat is not None:
            self._beside(partial(self._beat, self._heartbeat))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = self._code if error is None else _code_of(error)
        self._ending = Ending(code, self._wishes.source, self._summaries)
        log.info("ended", exit_code=code, error=kind.__name__ if kind else None)
        if error is not None:
            log.debug("ended", why=str(error))
        self._over.set()
        self._begun.set()
        if self._wishes.notify_when == "always" or not self._ending.is_success:
            for notice in self._notices:
                self._beside(partial(notice.send, self._ending))
        began = time.monotonic()
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() - began < self._patience():
                thread.join(LOOK)
        if any(thread.is_alive() for thread in self._threads):
            log.warning(f"not all were told of the end within {self._patience():.0f} s; the program ends without them")

    def _patience(self) -> float:
        return HURRIED_PATIENCE if self._is_hurried() else PATIENCE

    def _beat(self, heartbeat: Heartbeat) -> None:
        self._begun.wait()
        heartbeat.ping("start", "", until=self._over)
        self._over.wait()
        if self._ending is not None:
            signal: Signal = "success" if self._ending.is_success else "fail"
            heartbeat.ping(signal, f"{self._ending.title}\n\n{self._ending.body}")

    def _beside(self, tell: Callable[[], None]) -> None:
        """Do it in a thread of its own, which the program doesn't wait for when it ends; the log keeps its batch."""
        thread = threading.Thread(target=copy_context().run, args=(_attempt, tell), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _make(self, option: str, urls: Sequence[str], make: Callable[[str, str], T]) -> Iterator[T]:
        """What can be made of the URLs; what is wrong with the others goes among the problems."""
        for url in urls:
            try:
                yield make(fill_variables(url, self._environ), url)
            except ValueError as error:
                self._problems.append(f"{option}: {error}")


def _attempt(tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception as error:  # noqa: BLE001  whatever those who are told do, the batch has its own end
        log.warning(f"telling failed: {type(error).__name__}")


def _code_of(error: BaseException) -> ExitCode:
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return exit_code_of(error) if isinstance(error, Exception) else ExitCode.BUG


Signal = Literal["start", "success", "fail"]

TIMEOUT = 10.0
"""Seconds for each step of a ping: the connection, the request, the answer."""
PAUSES = (1.0, 2.0)
"""Seconds between two tries, of which there is one more than pauses."""


class Heartbeat:
    """The pings of one batch. Raises `ValueError` for a URL that can't be pinged; it is not in the message."""

    def __init__(self, url: str) -> None:
        if not _is_web_address(url):
            raise ValueError("not a web address; it begins with https:// or http://")
        self._url = urlsplit(url)
        self._run = f"rid={uuid4()}"
        self._name = mask(url)

    def __repr__(self) -> str:
        return f"Heartbeat({self._name!r})"

    def ping(self, signal: Signal, text: str, until: Event | None = None) -> None:
        """Ping, and try again a few times, but not when `until` has happened. Failing is an event of the log."""
        for pause in (*PAUSES, None):
            trouble, may_pass = self._try(signal, text)
            if trouble is None:
                log.debug("heartbeat sent", signal=signal, url=self._name)
                return
            if pause is None or not may_pass or _is_over(pause, until):
                break
        log.warning(f"the heartbeat could not be sent: {trouble}", signal=signal, url=self._name)

    def _try(self, signal: Signal, text: str) -> tuple[str | None, bool]:
        """What went wrong, None for nothing, and whether that may pass."""
        import httpx

        url = self._url_for(signal)
        try:
            with self._client(url) as client, client.stream("POST", url, content=text.encode()) as answer:
                status = answer.status_code
        except httpx.HTTPError as error:
            return type(error).__name__, True
        if answer.is_success:
            return None, False
        moved = "; it leads elsewhere, where it is not followed" if answer.is_redirect else ""
        return f"the answer was {status}{moved}", status == 429 or status >= 500

    def _url_for(self, signal: Signal) -> httpx.URL:
        """The signal goes at the path's end, before a query (`…/slug?create=1`)."""
        import httpx

        path, query = self._url.path, self._url.query
        if signal != "success":
            path = f"{path.rstrip('/')}/{signal}"
        query = f"{query}&{self._run}" if query else self._run
        return httpx.URL(self._url._replace(path=path, query=query, fragment="").geturl())

    def _client(self, url: httpx.URL) -> httpx.Client:
        """As the client of the service: proxies from the environment, no redirects, no `.netrc`."""
        import httpx

        from batch_runner.service.http.transport import environment_proxy

        proxy = environment_proxy(url.scheme, url.host, url.port)
        tls = httpx.create_ssl_context() if url.scheme == "https" else False
        return httpx.Client(proxy=proxy, verify=tls, timeout=TIMEOUT, trust_env=False, follow_redirects=False)


def _is_web_address(url: str) -> bool:
    import httpx

    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def _is_over(pause: float, until: Event | None) -> bool:
    """Pause; True if what the pings wait for has happened meanwhile."""
    if until is not None:
        return until.wait(pause)
    time.sleep(pause)
    return False


class Notice:
    """One address that is told. `said` is its URL as somebody said it, `url` with the environment's parts filled in.

    With `is_public` a URL that holds secrets, none of them from the environment, is refused. Raises `ValueError`.
    """

    def __init__(self, url: str, said: str, *, is_public: bool) -> None:
        apprise = _apprise()
        self._name = mask(url)
        self._service = apprise.Apprise.instantiate(url)
        if not self._service:
            raise ValueError(f"{self._name}: apprise doesn't understand this URL; github.com/caronc/apprise lists them")
        if is_public and not is_filled(said) and self._service.url(privacy=True) != self._service.url():
            raise ValueError(
                f"{self._name}: it holds a secret, which doesn't belong where others can read it; put the URL into a "
                "variable of the environment, and write ${NAME}"
            )
        self._apprise = apprise.Apprise()
        self._apprise.add(self._service)

    def __repr__(self) -> str:
        return f"Notice({self._name!r})"

    def send(self, ending: Ending) -> None:
        """Send it; failing is an event of the log."""
        kind = "success" if ending.is_success else "failure"
        if self._apprise.notify(title=ending.title, body=ending.body, notify_type=kind, body_format="text"):
            log.debug("people told", url=self._name)
        else:
            log.warning("people could not be told: the service did not take it", url=self._name)


def _apprise() -> ModuleType:
    try:
        import apprise
    except ModuleNotFoundError:
        raise ValueError("that needs the apprise library: pip install apprise") from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return apprise
