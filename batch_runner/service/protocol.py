"""What a batch asks of a service: three verbs, what each can answer, and the wire types of the Tasks API v2.

A service starts a run, looks at it, and stops it. No failure of the network or the service is raised: it is a value,
and each value says whether a run can exist. On that alone hangs whether a start may be sent again (DESIGN.md, "Never
twice, never lost"). Three services stand behind it: `http`, `local`, and a user's own.

Source of the wire types, which client and service share: the OpenAPI page of `POST /v2/tasks/{taskId}/run`, and the
public guide for `sync`, `version` and `identity_skip_validation`. What our own service adds to it (`Health`, some
headers) is said in `Health.features` and left out towards any other.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from enum import Enum
from typing import ClassVar, Protocol, Self

import anyio
import msgspec

from batch_runner.outcomes import ENDED

KEY_HEADER = "anchor-api-key"
IDEMPOTENCY_HEADER = "Idempotency-Key"
"""Names one start, so that it can be sent again and is still one run (draft-ietf-httpapi-idempotency-key-header)."""
ROW_HEADER = "batch-runner-row"
"""The number of the row that a start is for, as Excel shows it."""
MEMORY_HEADER = "batch-runner-memory"
"""With every answer of our own service: `memory` and `idempotency_seconds` of its `Health`, as `MEMORY;seconds=N`."""

PREFER_HEADER = "Prefer"
"""`wait=N` on the status endpoint of our own service: answer when the run has ended, or after N seconds (RFC 7240)."""
APPLIED_HEADER = "preference-applied"

IDEMPOTENCY_FEATURE = "idempotency-key"
ROW_FEATURE = "row-number"
WAIT_FEATURE = "wait"
STOP_FEATURE = "stop"

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')


class RunRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The body of `POST /v2/tasks/{taskId}/run`. What was not asked for is not sent."""

    input_params: dict[str, str]
    identity_id: str | None = None
    session_id: str | None = None
    cleanup_sessions: bool = True
    sync: bool = False
    version: str | None = None
    identity_skip_validation: bool = False


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run as the service tells it (`TaskRunStatusV2Response`).

    `result` is the JSON text as it came, whatever its type: it is never decoded and encoded again, so `1.10` stays
    `1.10`. Empty where there is none. `status` may be a word that this program doesn't know.

    Only our own service tells the last two, of a run that has ended. `never_began`: nothing of it was done, so that
    another may be started in its place. `cut_off`: how far it had come is not known.
    """

    run_id: str
    status: str
    result: msgspec.Raw = msgspec.Raw(b"")
    error: str | None = None
    session_id: str | None = None
    never_began: bool = False
    cut_off: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the status is final. Any other word, known or not, says that it goes on."""
        return self.status in ENDED

    def with_result(self, result: msgspec.Raw | bytes) -> Run:
        """The same with this JSON text as its result; with none where that is empty."""
        return msgspec.structs.replace(self, result=msgspec.Raw(result)) if bytes(result) else self


class ErrorDetail(msgspec.Struct, frozen=True):
    """The inside of `ErrorResponse`; the code repeats the HTTP status."""

    code: int
    message: str


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of every answer that is not 200."""

    error: ErrorDetail


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The body of our own service's `GET /healthz`.

    `status` is `ok`, `stopping`, or `trouble`: then no run can be started, and `trouble` says why.
    `idempotency_seconds` is how far back every key is known, None where that can't be promised. `memory` names what
    knows them: another one may stand behind the same address tomorrow, and knows nothing of the keys that were sent
    today.
    """

    status: str
    trouble: str | None = None
    version: str = ""
    features: tuple[str, ...] = ()
    idempotency_seconds: float | None = None
    memory: str | None = None
    queued: int = 0
    running: int = 0


def quoted(key: str) -> str:
    """An idempotency key as its header has it: a string of Structured Fields (RFC 9651, section 3.3.3).

    Raises `ValueError` for one that is empty, longer than 255 characters, or not all printable ASCII.
    """
    text = key.replace("\\", r"\\").replace('"', r"\"")
    if not _QUOTED.fullmatch(f'"{text}"'):
        raise ValueError("an idempotency key is 1 to 255 characters of printable ASCII")
    return f'"{text}"'


def unquoted(field: str) -> str | None:
    """The idempotency key in a header's value; None where that is no such string."""
    found = _QUOTED.fullmatch(field.strip())
    return re.sub(r"\\(.)", r"\1", found[1]) if found else None


LARGE = 1 << 20
"""Bytes from which on an answer lies in a file until it is its turn: several at once would need too much memory."""
large_turn: ContextVar[anyio.Lock | None] = ContextVar("large_turn", default=None)
"""Whose turn it is to have a large answer in memory, among those who start and follow runs."""


def let_next_be_large() -> None:
    """The task that calls this is done with its last answer, should that have been a large one."""
    turn = large_turn.get()
    if turn is not None and turn.locked() and turn.statistics().owner == anyio.get_current_task():
        turn.release()


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
