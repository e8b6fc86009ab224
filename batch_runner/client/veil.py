"""Keeps the API key out of what a service sends back with it: it goes to the journal, the output and the log."""

from __future__ import annotations

import re

from batch_runner.log import SECRET_MARK, SHORTEST_SECRET

_ESCAPED = '"\\/'
"""Characters that JSON may write with a backslash before them (RFC 8259, section 7)."""

_ESCAPE = r"\\(?:u[0-9a-fA-F]{4}|.)"
"""An escape of any other character, taken as a whole: a key of digits is not looked for in the middle of one."""


class Veil:
    """Over one key, which is printable ASCII; one that is empty hides nothing.

    In a run's result and error a key of a few characters is left: it could be any part of them.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        is_sure = len(key) >= SHORTEST_SECRET
        spelled = "".join(map(_spellings, key))
        self._spelled = re.compile(f"({spelled})|{_ESCAPE}".encode()) if is_sure else None

    def over_words(self, text: str) -> str:
        """A sentence of ours without the key."""
        return text.replace(self._key, SECRET_MARK) if self._key else text

    def over_text(self, text: str | None) -> str | None:
        """A text of a run without the key."""
        return text.replace(self._key, SECRET_MARK) if text and self._spelled else text

    def over_json(self, data: bytes) -> bytes:
        """JSON without the key in its strings, whichever way they are escaped."""
        return self._spelled.sub(_veiled, data) if self._spelled else data


def _veiled(found: re.Match[bytes]) -> bytes:
    return SECRET_MARK.encode() if found[1] else found[0]


def _spellings(character: str) -> str:
    """A pattern of all ways in which JSON may write a character."""
    code = rf"\\u(?i:{ord(character):04x})"
    plain = [] if character in '"\\' else [re.escape(character)]
    return "(?:" + "|".join([*plain, *([re.escape(f"\\{character}")] if character in _ESCAPED else []), code]) + ")"
