"""A call on its way to a worker and back: what is sent for it, and what has become of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from batch_runner import log
from batch_runner.service import endings
from batch_runner.service.cluster.parcel import NOT_REPEATED

if TYPE_CHECKING:
    from batch_runner.service.cluster.parcel import Errand
    from batch_runner.service.endings import Ending

MOST_LOSSES = 3
"""How often a repeatable call is sent again after it was lost."""

WORKER_LOST = "its Dask worker was lost"


class Way:
    """One call from the moment that it is to be sent."""

    def __init__(self, errand: Errand) -> None:
        self.errand = errand
        self.ending: Ending | None = None
        self.has_ended = anyio.Event()
        self.is_wanted = True
        self.is_sent = False
        """Whether Dask has had it, so that it may have begun."""
        self.goes_alone = False
        """Whether it was in a parcel that took its workers down: no other call is to go with it again."""
        self.scope: anyio.CancelScope | None = None
        """That of the parcel which it is in."""
        self._losses = 0
        self._lost_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for its end."""
        return self.is_wanted and self.ending is None

    @property
    def told(self) -> Ending:
        """Its ending, once it has ended."""
        assert self.ending is not None
        return self.ending

    @property
    def may_share(self) -> bool:
        """Whether other calls may be in a parcel with it."""
        return self.errand.call.repeatable and not self.goes_alone

    def may_share_with(self, other: Way) -> bool:
        """Whether it may be in a parcel with that one: calls of the same task."""
        return self.may_share and self.errand.call.source == other.errand.call.source

    def end(self, ending: Ending) -> None:
        """It has ended so; what may have run before is said."""
        if self._lost_by is not None and self.errand.call.repeatable:
            context = self.errand.call.context
            log.warning(f"may have run twice: {self._lost_by}", row=context.row, run_id=context.run_id)
        self.ending = ending
        self.has_ended.set()

    def fail(self, sentence: str) -> None:
        """It ends as `failure`."""
        self.end(endings.failure(sentence))

    def recall(self, why: str) -> None:
        """It is to be begun again, though it may have run if Dask has had it."""
        if self.is_sent:
            self._lost_by = why

    def lose(self, why: str) -> None:
        """It may have run, in part or to its end: it ends with that, but for one that is to be repeated."""
        self._losses += 1
        if self._losses > MOST_LOSSES or not self.errand.call.repeatable:
            self.fail(f"worker lost: {why}; {NOT_REPEATED}.")
        else:
            self.recall(why)

    def give_up(self, why: str) -> None:
        """Wait no longer for a cluster that is not there."""
        if not self.is_open:
            return
        if self.is_sent or self._lost_by is not None:
            self.fail(f"worker lost: {why} while it was under way; {NOT_REPEATED}.")
        else:
            self.end(endings.not_begun(f"It was not begun: {why}."))
        if self.scope is not None:
            self.scope.cancel()
