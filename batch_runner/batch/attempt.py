"""One try to start a row's run, and what the log says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.client.client import Lost, Refused

if TYPE_CHECKING:
    from batch_runner.log import Fact


class Attempt(msgspec.Struct, frozen=True):
    """`id` is the journal's, `row` the sheet's number of the row, `began` when its start went out (the loop's clock).

    `began` is None where that was an earlier batch. `may_be_replaced`: another attempt can take its place if its run
    never begins.
    """

    id: int
    row: int
    began: float | None = None
    may_be_replaced: bool = False

    def info(self, event: str, **facts: Fact) -> None:
        """Log an event of it, with the seconds since its start."""
        if log.hears_info():
            log.info(event, row=self.row, attempt=self.id, **facts, duration=self._seconds())

    def debug(self, event: str, **facts: Fact) -> None:
        """As `info`, for what only debug may hold."""
        if log.hears_debug():
            log.debug(event, row=self.row, attempt=self.id, **facts, duration=self._seconds())

    def no_run(self, answer: Refused | Lost) -> None:
        """Log a start that told no run: the service's own words may hold what a cell holds."""
        if isinstance(answer, Refused):
            self.info("start refused", code=answer.status_code, reach=answer.reach.name.lower())
        else:
            self.info("answer lost")
        self.debug("the answer", why=answer.why)

    def _seconds(self) -> float | None:
        return None if self.began is None else anyio.current_time() - self.began
