"""Texts as inline strings: what is written is what is read back."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.sheet.xlsx_append.xml_tokens import fits, inline_string

ANY_TEXT = st.text(st.one_of(st.characters(), st.sampled_from("_xX005Fd\r\n\t \0\x1f\ufffe\ud800&<>]")))
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


def read_back(xml: str) -> str:
    """The text that Excel shows for an inline string: XML's own escapes undone, then those of ST_Xstring."""
    text = ElementTree.fromstring(f"<c>{xml}</c>").findtext("is/t") or ""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


@given(ANY_TEXT)
def test_any_text_comes_back(text: str) -> None:
    """Every character comes back but those that no XML can name: they become U+FFFD."""
    expected = re.sub("[\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    assert read_back(inline_string(text)) == expected


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a\x07b", "a_x0007_b"),
        ("a\rb", "a_x000D_b"),
        ("_x0041_", "_x005F_x0041_"),
        ("_x005F_x0041_", "_x005F_x005F_x005F_x0041_"),
        ("_x0041\x07", "_x005F_x0041_x0007_"),
        ("_x41_", "_x41_"),
        ("\ufffe\uffff\ud83d", "\ufffd\ufffd\ufffd"),
        ("a<b>&c", "a&lt;b&gt;&amp;c"),
        ("=1+1", "=1+1"),
    ],
)
def test_escapes(text: str, written: str) -> None:
    """Control characters are `_xHHHH_`, and what looks like such an escape has its `_` escaped."""
    assert inline_string(text) == f"<is><t>{written}</t></is>"


@pytest.mark.parametrize("text", [" a", "a ", "a\n", "a\nb", "a\tb", "a  b", "\u00a0a", "a" * 99 + " "])
def test_space_that_matters_is_preserved(text: str) -> None:
    """Where blanks begin, end or follow each other, or lines break, the text says that they count."""
    assert inline_string(text) == f'<is><t xml:space="preserve">{text}</t></is>'


def test_a_plain_text_is_written_plainly() -> None:
    """One blank between words needs no mark."""
    assert inline_string("one word", "x:") == "<x:is><x:t>one word</x:t></x:is>"


def test_what_a_cell_holds_counts_in_utf16_units() -> None:
    """An emoji is two of the 32,767 units."""
    assert fits("x" * 32_767)
    assert fits("😀" * 16_383 + "x")
    assert not fits("x" * 32_768)
    assert not fits("😀" * 16_384)
