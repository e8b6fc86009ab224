"""The wire types of the Tasks API v2, shared by client and service.

Source: the OpenAPI page of `POST /v2/tasks/{taskId}/run`, and the public guide for `sync`, `version` and
`identity_skip_validation`. What our own service adds to it (`Health`, two headers) is said in `features` and left out
towards any other.
"""

from __future__ import annotations

import re
from typing import Self

import msgspec

KEY_HEADER = "anchor-api-key"
IDEMPOTENCY_HEADER = "Idempotency-Key"
"""Names one start, so that it can be sent again and is still one run (draft-ietf-httpapi-idempotency-key-header)."""
ROW_HEADER = "batch-runner-row"
"""The number of the row that a start is for, as Excel shows it."""
MEMORY_HEADER = "batch-runner-memory"
"""With every answer of our own service: `memory` and `idempotency_seconds` of its `Health`, as `MEMORY;seconds=N`."""

IDEMPOTENCY_FEATURE = "idempotency-key"
ROW_FEATURE = "row-number"

_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\]){1,255})"')

FINAL_STATUSES = frozenset({"success", "failure", "timeout", "cancelled"})
"""A run with one of these has ended. Any other word, known or not, says that it goes on."""


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
    `1.10`. Empty where there is none. `status` may be a word that this program doesn't know. `never_began` is told by
    our own service only: the run has ended and nothing of it was done, so that another may be started in its place.
    """

    run_id: str
    status: str
    result: msgspec.Raw = msgspec.Raw(b"")
    error: str | None = None
    session_id: str | None = None
    never_began: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the status is final."""
        return self.status in FINAL_STATUSES

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


_decode = msgspec.json.Decoder(Health).decode


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What a service said of itself a moment ago.

    `idempotency_seconds`: a start that was sent so long ago at most, with a key and while the service was the same
    `memory`, may be sent again with that key: it is one run. 0 is a promise too (a service that has just begun
    remembers from now on); None is none, and a key would say nothing. `row_number`: it wants to know the rows' numbers.
    """

    idempotency_seconds: float | None = None
    memory: str | None = None
    row_number: bool = False

    @classmethod
    def said_in(cls, body: bytes) -> Self:
        """The features that the body of an answer tells; none where it is anything else."""
        try:
            health = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return cls()
        seconds = health.idempotency_seconds
        remembers = IDEMPOTENCY_FEATURE in health.features and bool(health.memory) and seconds is not None
        return cls(
            idempotency_seconds=max(0.0, seconds or 0.0) if remembers else None,
            memory=health.memory if remembers else None,
            row_number=ROW_FEATURE in health.features,
        )

    def is_one_run(self, memory: str | None, age: float) -> bool:
        """Whether a start of `age` seconds ago can be sent again with its key, and is certainly not a second run.

        `memory` is what the service's `memory` was when it was sent.
        """
        remembers = self.idempotency_seconds is not None and memory == self.memory
        return remembers and 0 <= age < (self.idempotency_seconds or 0.0)


NO_FEATURES = Features()
