"""The key is kept out of what a service sends back, however JSON spells it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.log import SECRET_MARK, Redactor

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


def spelled(text: str, ways: list[int]) -> str:
    """A JSON string in which each character is written in one of its ways."""
    written = []
    for place, character in enumerate(text):
        way = ways[place % len(ways)]
        short = json.dumps(character)[1:-1]
        written.append([short, f"\\u{ord(character):04x}", f"\\u{ord(character):04X}", short.replace("/", "\\/")][way])
    return f'"{"".join(written)}"'


@given(KEYS, st.lists(st.integers(0, 3), min_size=1, max_size=40), st.text(max_size=5))
def test_no_spelling_passes(key: str, ways: list[int], around: str) -> None:
    """Whatever is escaped, the key isn't in the result, which is JSON still, with what stands around the key."""
    text = spelled(key, ways)
    assert json.loads(text) == key
    data = f'{{"a": {json.dumps(around)[:-1]}{text[1:]}}}'.encode()
    veiled = json.loads(Redactor(key).redact_json(data))["a"]
    assert veiled in (around + SECRET_MARK, (around + key).replace(key, SECRET_MARK))


@given(KEYS, st.lists(st.integers(0, 3), min_size=1, max_size=40), st.sampled_from(["", "\\", "C:\\", "{"]))
def test_no_text_passes_it(key: str, ways: list[int], before: str) -> None:
    """As it is, or spelled as in JSON: an error may be what is left of an object."""
    for text in (f"{before}{key}!", f"{{{spelled(key, ways)}}}"):
        assert Redactor(key).redact_text(text).count(SECRET_MARK) == 1
        assert Redactor(key).redact_words(text).count(SECRET_MARK) == 1


@pytest.mark.parametrize("key", ["", "1", "sk-1234"])
def test_a_short_key_takes_no_sense_away(key: str) -> None:
    """What could be any part of a result is left in it; in our own sentences even that is hidden."""
    veil = Redactor(key)
    assert veil.redact_json(b'{"a": "sk-1234"}') == b'{"a": "sk-1234"}'
    assert veil.redact_text("sk-1234") == "sk-1234"
    assert veil.redact_words(f"x{key}y") == (f"x{SECRET_MARK}y" if key else "xy")


@pytest.mark.parametrize("text", ["{}", '"C:\\\\u0061"', '"\\u00e9"'])
def test_what_has_no_key_is_not_copied(text: str) -> None:
    """A result may be as long as 64 MiB: what has no key in it is handed on as it is."""
    data = text.encode() * 3
    assert Redactor("secret-key-1234").redact_json(data) is data
