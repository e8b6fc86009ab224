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

    In what a run says a key of a few characters is left: it could be any part of it.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        is_sure = len(key) >= SHORTEST_SECRET
        spelled = "".join(map(_spellings, key))
        self._spelled = re.compile(f"({spelled})|{_ESCAPE}".encode()) if is_sure else None

    def over_words(self, text: str) -> str:
        """A sentence of ours without the key, which may be in it as the service has spelled it."""
        return self.over_text(text.replace(self._key, SECRET_MARK) if self._key else text)

    def over_text(self, text: str) -> str:
        """A text of a run without the key. It may be JSON itself."""
        if self._spelled is None:
            return text
        plain = text.replace(self._key, SECRET_MARK)
        return self.over_json(plain.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def over_json(self, data: bytes) -> bytes:
        """JSON without the key, whichever way it is escaped."""
        if self._spelled is None:
            return data
        if b"\\" not in data:
            return data.replace(self._key.encode(), SECRET_MARK.encode())
        return self._spelled.sub(_veiled, data)


def _veiled(found: re.Match[bytes]) -> bytes:
    return SECRET_MARK.encode() if found[1] else found[0]


def _spellings(character: str) -> str:
    """A pattern of all ways in which JSON may write a character."""
    code = rf"\\u(?i:{ord(character):04x})"
    plain = [] if character in '"\\' else [re.escape(character)]
    return "(?:" + "|".join([*plain, *([re.escape(f"\\{character}")] if character in _ESCAPED else []), code]) + ")"
