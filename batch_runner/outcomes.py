"""The statuses that a row can have, and what each of them means. No other list of them stands anywhere.

The first six are the API's words; a service may say others, which are kept as they are.
"""

from __future__ import annotations

from typing import Final

SUCCESS: Final = "success"
FAILURE: Final = "failure"
TIMEOUT: Final = "timeout"
CANCELLED: Final = "cancelled"
RUNNING: Final = "running"
QUEUED: Final = "queued"
ERROR: Final = "error"
"""No run was started, and the row's error says why."""
UNKNOWN: Final = "unknown"
"""A start was sent and its answer lost: a run may exist."""
NOT_STARTED: Final = "not_started"
"""The batch stopped before the row's turn."""
STARTING: Final = "starting"
"""A start is under way; stands in journals only."""

ENDED = frozenset({SUCCESS, FAILURE, TIMEOUT, CANCELLED})
"""A run that has ended, in the API's words."""
GOING = (RUNNING, QUEUED)
"""A run that has not ended."""
FAILED = (FAILURE, TIMEOUT, CANCELLED, ERROR)
"""The row is done and did not succeed: what `--retry` may name."""
STATUSES = (SUCCESS, *FAILED, UNKNOWN, *GOING, NOT_STARTED)
"""All of them, in the order in which people want to read them."""
RESOLVED = (SUCCESS, FAILURE, CANCELLED, NOT_STARTED)
"""What a person may find that an unknown row came to; with `not_started` no run exists, and the next batch sends it."""
RETRY_WORDS = (*FAILED, UNKNOWN, "changed", "all")
"""What `--retry` takes."""
KINDS = {
    SUCCESS: "good",
    **dict.fromkeys(FAILED, "bad"),
    UNKNOWN: "unsure",
    **dict.fromkeys((*GOING, STARTING), "going"),
    NOT_STARTED: "idle",
}


def kind_of(status: str) -> str:
    """What a status is to a person, as pages colour it; a word of the service's that we don't know is unsure."""
    return KINDS.get(status, "unsure")
