"""Which columns of a row differ from those that were sent, though a journal holds hashes only. Pure."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


ALMOST: Final = "almost"
"""What a new row is held for that is almost one which ran."""
HALF = 4
"""Bytes that stand for a column's name, and as many for the text below it."""


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
