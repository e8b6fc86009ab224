"""What a service can do beyond the Tasks API, as its `GET /healthz` says: our own does, any other needn't have one."""

from __future__ import annotations

from typing import Self

import msgspec

from batch_runner.api import IDEMPOTENCY_FEATURE, ROW_FEATURE, Health

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
