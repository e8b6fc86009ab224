"""An XML part as UTF-8, whatever it was written in: only then are its bytes what they look like."""

from __future__ import annotations

import codecs
import re
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DECLARED = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z][A-Za-z0-9._-]*)[\"']")
_ENCODING = re.compile(r"(<\?xml[^>]*?\sencoding\s*=\s*)(?:\"[^\"]*\"|'[^']*')")
_UTF16 = (
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
"""How a part in UTF-16 begins (XML 1.0, appendix F)."""


def as_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The part's bytes in UTF-8, with its declaration mended. One that is UTF-8 already comes as it is.

    Raises `UnicodeError` or `LookupError` where the part isn't in the encoding that it names.
    """
    stream = iter(chunks)
    first = next(stream, b"")
    codec = _codec(first)
    if codec is None:
        yield first
        yield from stream
        return
    texts = codecs.iterdecode(chain([first], stream), codec)
    yield _ENCODING.sub(r'\1"UTF-8"', next(texts, ""), count=1).encode()
    for text in texts:
        yield text.encode()


def _codec(first: bytes) -> str | None:
    """The codec to read a part with; None for UTF-8 and what is part of it."""
    for mark, codec in _UTF16:
        if first.startswith(mark):
            return codec
    declared = _DECLARED.match(first)
    name = codecs.lookup(declared[1].decode()).name if declared else "utf-8"
    return None if name in ("utf-8", "ascii") else name
