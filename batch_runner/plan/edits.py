"""What was sent for a row, and which columns differ since, though a journal holds hashes only. Pure."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from batch_runner.outcomes import ERROR, FAILED, NOT_STARTED, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


ALMOST: Final = "almost"
"""What a new row is held for that is almost one which ran."""
HALF = 4
"""Bytes that stand for a column's name, and as many for the text below it."""


class Attempt(msgspec.Struct, frozen=True):
    """One try to start a run, as recorded.

    `night` is the batch that its night began with, `memory` that of the service which knew its start by its key. `sent`
    is the hash of the very texts, where `params` is that of their values; `bare` as in `Entry`.
    """

    id: int
    batch: int
    params: bytes
    status: str
    run_id: str | None
    has_ended: bool
    night: int = 0
    intended_at: str = ""
    conflict: bytes | None = None
    claim: bytes | None = None
    memory: str | None = None
    cells: bytes | None = None
    sent: bytes | None = None
    ended_at: str = ""
    bare: bytes | None = None

    @property
    def was_withdrawn(self) -> bool:
        """Whether certainly no run was started, or none that began."""
        return self.status == NOT_STARTED and self.run_id is None

    @property
    def made_no_run(self) -> bool:
        """Whether that is certain although it stands: the service refused it for good."""
        return self.run_id is None and self.status in (NOT_STARTED, ERROR)

    @property
    def was_lost(self) -> bool:
        """Whether nothing is known of what came of it; only another batch's attempt can be asked."""
        return self.run_id is None and not self.has_ended

    @property
    def is_going(self) -> bool:
        """Whether it made a run whose end is not known yet."""
        return self.run_id is not None and not self.has_ended

    @property
    def may_have_run(self) -> bool:
        """Whether what it was sent for may not run once more unasked: it succeeded, goes on, or nobody knows."""
        return not self.was_withdrawn and not self.made_no_run and self.outcome not in FAILED

    @property
    def outcome(self) -> str:
        """Its status, with a lost answer named as such."""
        return UNKNOWN if self.was_lost else self.status


def cells_of(named: Mapping[str, str]) -> bytes:
    """What stands for these texts in a journal."""
    return b"".join(sorted(_hash_name(name) + _hash(text) for name, text in named.items()))


def cell_of(cells: bytes, name: str) -> bytes | None:
    """What stands for the text of one column."""
    starts = (at for at in range(0, len(cells), 2 * HALF) if cells[at : at + HALF] == _hash(name))
    return next((cells[at + HALF : at + 2 * HALF] for at in starts), None)


def values_of(cells: bytes) -> bytes:
    """What stands for the texts whatever their columns are called."""
    texts = (cells[at + HALF : at + 2 * HALF] for at in range(0, len(cells), 2 * HALF))
    return sha256(b"".join(sorted(texts))).digest()[: 2 * HALF]


def differing(cells: bytes | None, named: Mapping[str, str], ignored: Iterable[str] = ()) -> tuple[str, ...] | None:
    """The columns whose texts are others than those that `cells` stand for; those that are gone as "".

    None where that can't be told, since nobody kept the cells.
    """
    if not cells or not named:
        return None
    starts = range(0, len(cells), 2 * HALF)
    before = {cells[at : at + HALF]: cells[at + HALF : at + 2 * HALF] for at in starts}
    skipped = {_hash_name(name) for name in ignored}
    names = {_hash_name(name): name for name in named}
    others = [n for key, n in names.items() if key not in skipped and before.get(key) != _hash(named[n])]
    return (*others, *("" for _ in before.keys() - names.keys() - skipped))


@lru_cache(maxsize=1024)
def _hash_name(name: str) -> bytes:
    return _hash(name)


def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()[:HALF]
