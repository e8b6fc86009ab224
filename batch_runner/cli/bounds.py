"""What bounds all batches of a night together, however many sheets it has."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import anyio

from batch_runner.limits.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.job.job import Job


class Bounds:
    """One deadline, counted from when this is made, and one pace of starts, for batches that run one after another.

    `command` is the same for all of them where there are several: what they do is done in one night. It is that of the
    night which they go on with, if there is one.
    """

    def __init__(self, job: Job, command: str = "") -> None:
        self.command = command
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
