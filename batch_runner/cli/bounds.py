"""What bounds all batches of a night together, however many sheets it has."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from batch_runner.limits.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.job.job import Job


class Bounds:
    """One deadline, counted from when this is made, and one pace of starts, for batches that run one after another.

    `command` is a word of its own where there are `many` of them: what they do is done in one night.
    """

    def __init__(self, job: Job, *, many: bool = False) -> None:
        self.command = uuid4().hex if many else ""
        self._deadline = job.deadline_from(datetime.now().astimezone())
        self._began = time.monotonic()
        self.pace = Pace(job.start_rate)

    def past_deadline(self) -> Callable[[], bool] | None:
        """Asks both clocks whether the deadline has passed; None if there is none. Made where a batch begins."""
        deadline = self._deadline
        if deadline is None:
            return None
        began = anyio.current_time() - (time.monotonic() - self._began)
        return lambda: deadline.passed(datetime.now().astimezone(), anyio.current_time() - began)
