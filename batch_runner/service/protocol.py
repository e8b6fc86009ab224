"""What a batch asks of a service: three verbs, and what each can answer.

A service starts a run, looks at it, and stops it. No failure of the network or the service is raised: it is a value,
and each value says whether a run can exist. On that alone hangs whether a start may be sent again (DESIGN.md, "Never
twice, never lost"). Three services stand behind it: `http`, `local`, and a user's own.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Protocol, Self

import msgspec

from batch_runner.service.wire import (
    IDEMPOTENCY_FEATURE,
    ROW_FEATURE,
    STOP_FEATURE,
    WAIT_FEATURE,
    Health,
    Run,
    RunRequest,
)


class RunCertainty(Enum):
    """What the end of a start says about its run."""

    NO_RUN = "no run"
    MAYBE = "maybe a run"
    RUN = "a run"


class RefusalScope(Enum):
    """How far a refusal reaches."""

    LATER = "again"
    """It was never connected, or is limited now: the same start may be sent again, later."""
    ROW = "row"
    """This row is refused for good."""
    UNCLEAR = "row or task"
    """This row, or nothing more would work: what the next starts are answered tells."""
    TASK = "task"
    """Nothing more would work: the key, the credits or the task."""


class Signal(msgspec.Struct, frozen=True):
    """The limits that one answer tells; None where it tells nothing.

    `retry_after` and `reset` are seconds from now, `window` the length of the quota's window in seconds,
    `remaining` and `quota` numbers of starts. A `memory` says that it is a service of ours, which knows the starts of
    the last `memory_seconds` by their keys. `several`: answers of more than one memory have come from this address, so
    that none can be relied on.
    """

    retry_after: float | None = None
    remaining: int | None = None
    reset: float | None = None
    quota: int | None = None
    window: float | None = None
    memory: str | None = None
    memory_seconds: float = 0.0
    several: bool = False


NO_SIGNAL = Signal()


class StartRequest(msgspec.Struct, frozen=True):
    """One start: which task with what.

    `key` names it among all starts, so that it can be sent again and is still one run, where the service knows that.
    `row_number` is the row that it is for, as Excel shows it. With `run.sync` the answer may take `answer_within`
    seconds: give the longest run and a margin.
    """

    task_id: str
    run: RunRequest
    key: str | None = None
    row_number: int | None = None
    answer_within: float | None = None


class Started(msgspec.Struct, frozen=True):
    """The service has started a run (or, with `sync`, ended one)."""

    certainty: ClassVar = RunCertainty.RUN
    run: Run
    signal: Signal = NO_SIGNAL


class Refused(msgspec.Struct, frozen=True):
    """It is certain that no run was started. `status_code` is HTTP's word for why, None where no answer came."""

    certainty: ClassVar = RunCertainty.NO_RUN
    why: str
    status_code: int | None
    scope: RefusalScope
    signal: Signal = NO_SIGNAL


class Lost(msgspec.Struct, frozen=True):
    """A run may exist, and its id is not known."""

    certainty: ClassVar = RunCertainty.MAYBE
    why: str


class RunSeen(msgspec.Struct, frozen=True):
    """A run as it is now. `waited`: the service would have told its end sooner, so it may be asked again at once."""

    run: Run
    signal: Signal = NO_SIGNAL
    waited: bool = False


class LookFailed(msgspec.Struct, frozen=True):
    """A look that told nothing; `again` says whether another may tell more. The run may well go on.

    How often to look is the caller's budget.
    """

    why: str
    status_code: int | None
    again: bool
    signal: Signal = NO_SIGNAL


_decode_health = msgspec.json.Decoder(Health).decode


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a service said of itself a moment ago, beyond the API.

    `idempotency_seconds`: a start that was sent so long ago at most, with a key and while the service was the same
    `memory`, may be sent again with that key: it is one run. 0 is a promise too (a service that has just begun
    remembers from now on); None is none, and a key would say nothing. `row_number`: it wants to know the rows' numbers.
    `tells_ends`: a look may wait for the run's end. `stops`: it can stop a run. `several`: see `Signal`.
    """

    idempotency_seconds: float | None = None
    memory: str | None = None
    row_number: bool = False
    tells_ends: bool = False
    stops: bool = False
    several: bool = False

    @classmethod
    def read_from(cls, body: bytes) -> Self:
        """The capabilities that the body of an answer tells; none where it is anything else."""
        try:
            health = _decode_health(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return cls()
        seconds = health.idempotency_seconds
        remembers = IDEMPOTENCY_FEATURE in health.features and bool(health.memory) and seconds is not None
        return cls(
            idempotency_seconds=max(0.0, seconds or 0.0) if remembers else None,
            memory=health.memory if remembers else None,
            row_number=ROW_FEATURE in health.features,
            tells_ends=WAIT_FEATURE in health.features,
            stops=STOP_FEATURE in health.features,
        )

    def is_one_run(self, memory: str | None, age: float) -> bool:
        """Whether a start of `age` seconds ago can be sent again with its key, and is certainly not a second run.

        `memory` is what the service's `memory` was when it was sent.
        """
        remembers = self.idempotency_seconds is not None and memory == self.memory
        return remembers and 0 <= age < (self.idempotency_seconds or 0.0)


NO_CAPABILITIES = Capabilities()


class Service(Protocol):
    """Whoever runs tasks. All of it may be called many times at once."""

    async def start(self, request: StartRequest, /) -> Started | Refused | Lost:
        """Start one run, once. The caller has recorded its intent; a run that was told is recorded before any look."""

    async def look(self, run_id: str, /, wait: float = 0.0) -> RunSeen | LookFailed:
        """How the run is. With `wait` the answer may come as late as that many seconds, but at once when it has ended.

        A service that can't wait answers at once, with `waited` false.
        """

    async def stop(self, run_id: str, /) -> RunSeen | LookFailed:
        """End the run, and say how it is then. A run that has ended stays as it was; it may also go on for a moment."""

    async def capabilities(self) -> Capabilities:
        """What the service can do beyond starting and looking. Whatever goes wrong says: nothing."""
