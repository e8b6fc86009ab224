"""The wire types of the Tasks API v2, shared by client and service.

Source: the OpenAPI page of `POST /v2/tasks/{taskId}/run`, and the public guide for `sync`, `version` and
`identity_skip_validation`. What our own service adds to it (`Health`, some headers) is said in `Health.features` and
left out towards any other.
"""

from __future__ import annotations

import re

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
APPLIED_HEADER = "Preference-Applied"

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
