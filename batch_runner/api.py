"""The wire types of the Tasks API v2, shared by client and service.

Source: the OpenAPI page of `POST /v2/tasks/{taskId}/run`, and the public guide for `sync`, `version` and
`identity_skip_validation`.
"""

from __future__ import annotations

import msgspec

KEY_HEADER = "anchor-api-key"

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
    `1.10`. Empty where there is none. `status` may be a word that this program doesn't know.
    """

    run_id: str
    status: str
    result: msgspec.Raw = msgspec.Raw(b"")
    error: str | None = None
    session_id: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the status is final."""
        return self.status in FINAL_STATUSES


class ErrorDetail(msgspec.Struct, frozen=True):
    """The inside of `ErrorResponse`; the code repeats the HTTP status."""

    code: int
    message: str


class ErrorResponse(msgspec.Struct, frozen=True):
    """The body of every answer that is not 200."""

    error: ErrorDetail
