"""Who is told what and when: the heartbeat from the first moment, people at the end, both beside the batch."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from batch_runner import log
from batch_runner.errors import ExitCode, UsageError, exit_code_of
from batch_runner.job.secrets import filled
from batch_runner.telling.message import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from batch_runner.job.settings import Wishes
    from batch_runner.summary import Summary
    from batch_runner.telling.heartbeat import Heartbeat, Signal
    from batch_runner.telling.notices import Notice

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds that the end of the program waits for those who are told."""


class Telling:
    """Tells of what happens in its block: that it began, and how it ended. Nothing of it ever raises or lasts long.

    What is wrong with the wishes is raised by `check` only, so that whoever can be told is told of that, too.
    """

    def __init__(self, wishes: Wishes, environ: Mapping[str, str]) -> None:
        self._wishes = wishes
        self._environ = environ
        self._problems: list[str] = []
        self._summaries: list[tuple[Summary, str | None]] = []
        self._code: int = ExitCode.OK
        self._ending: Ending | None = None
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._heartbeat = self._heartbeat_of(wishes)
        self._notices = self._notices_of(wishes)

    def check(self) -> None:
        """Raises `UsageError` with a line for each wish that can't be fulfilled."""
        if self._problems:
            raise UsageError("\n".join(dict.fromkeys(self._problems)))

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
        if self._wishes.notify_when == "always" or not self._ending.is_success:
            for notice in self._notices:
                self._beside(partial(notice.send, self._ending))
        self._wait()

    def _beat(self, heartbeat: Heartbeat) -> None:
        heartbeat.ping("start", "", until=self._over)
        self._over.wait()
        if self._ending is not None:
            signal: Signal = "success" if self._ending.is_success else "fail"
            heartbeat.ping(signal, f"{self._ending.title}\n\n{self._ending.body}")

    def _beside(self, tell: Callable[[], None]) -> None:
        """Do it in a thread of its own, which the program doesn't wait for when it ends; the log keeps its batch."""
        thread = threading.Thread(target=copy_context().run, args=(_attempted, tell), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            log.warning(f"not all were told of the end within {PATIENCE:.0f} s; the program ends without them")

    def _heartbeat_of(self, wishes: Wishes) -> Heartbeat | None:
        if not wishes.heartbeat:
            return None
        from batch_runner.telling.heartbeat import Heartbeat

        return next(self._made("heartbeat", [wishes.heartbeat], lambda url, _: Heartbeat(url)), None)

    def _notices_of(self, wishes: Wishes) -> tuple[Notice, ...]:
        if not wishes.notify or wishes.notify_when == "never":
            return ()
        from batch_runner.telling.notices import Notice

        return tuple(self._made("notify", wishes.notify, partial(Notice, is_public=wishes.is_public)))

    def _made(self, option: str, urls: Sequence[str], make: Callable[[str, str], T]) -> Iterator[T]:
        """What can be made of the URLs; what is wrong with the others goes among the problems."""
        for url in urls:
            try:
                yield make(filled(url, self._environ), url)
            except ValueError as error:
                self._problems.append(f"{option}: {error}")


def _attempted(tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception as error:  # noqa: BLE001  whatever those who are told do, the batch has its own end
        log.warning(f"telling failed: {type(error).__name__}")


def _code_of(error: BaseException) -> ExitCode:
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return exit_code_of(error) if isinstance(error, Exception) else ExitCode.BUG
