"""Texts that are longer than a cell of a workbook: cut there, whole beside the output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from systems import needs_posix

from batch_runner.fs import AtomicFile
from batch_runner.output.long_texts import LongTexts
from batch_runner.sheet.xlsx_append.xml_tokens import CELL_UNITS

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = ("run_id", "result")
MARK = " … [cut: the whole text is in in.long.jsonl]"


@pytest.fixture
def target(tmp_path: Path) -> AtomicFile:
    return AtomicFile(tmp_path / "in.results.xlsx", tmp_path / "in.results.xlsx", 0o640)


def units(text: str) -> int:
    """How long Excel thinks it is."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def kept(target: AtomicFile) -> list[dict[str, object]]:
    """The lines of the file beside the output."""
    return [json.loads(line) for line in (target.path.parent / "in.long.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("text", ["", "x" * CELL_UNITS, "é" * CELL_UNITS, "😀" * (CELL_UNITS // 2)])
def test_what_fits_is_left_alone(target: AtomicFile, text: str) -> None:
    """Up to 32,767 UTF-16 units a cell holds all, and no file is made."""
    with LongTexts(target) as long:
        assert long.fitted(2, HEADERS, ("r", text)) == ("r", text)
        assert long.put() == ()
    assert list(target.path.parent.iterdir()) == []


@pytest.mark.parametrize("text", ["x" * (CELL_UNITS + 1), "😀" * (CELL_UNITS // 2 + 1), "x" + "😀" * CELL_UNITS])
def test_what_is_too_long_is_cut_and_kept_whole(target: AtomicFile, text: str) -> None:
    """One unit more: the cell is full to the brim, says where the rest is, and ends in no half of a character."""
    with LongTexts(target) as long:
        run_id, cut = long.fitted(7, HEADERS, ("r", text))
        notes = long.put()
    assert run_id == "r"
    assert CELL_UNITS - 1 <= units(cut) <= CELL_UNITS
    assert cut.endswith(MARK)
    assert text.startswith(cut.removesuffix(MARK))
    assert kept(target) == [{"row": 7, "column": "result", "text": text}]
    assert notes == ("1 text was too long for a cell and cut; in.long.jsonl has the whole",)


def test_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    """It stands where the output really is, in a folder that was found writable, and is named with that."""
    (tmp_path / "real").mkdir()
    output = AtomicFile(tmp_path / "link.xlsx", tmp_path / "real" / "in.results.xlsx", 0o640)
    with LongTexts(output) as long:
        long.fitted(7, HEADERS, ("r", "x" * (CELL_UNITS + 1)))
        (note,) = long.put()
    assert note.endswith(f"cut; {tmp_path / 'real' / 'in.long.jsonl'} has the whole")
    assert [path.name for path in tmp_path.iterdir()] == ["real"]


@needs_posix
def test_several_rows_are_several_lines(target: AtomicFile) -> None:
    """Each text that was cut has its line with row and column; who may read the output may read them."""
    with LongTexts(target) as long:
        long.fitted(2, HEADERS, ("a" * 40_000, "b" * 40_000))
        long.fitted(3, HEADERS, ("short", "c"))
        long.fitted(4, HEADERS, ("d", "line\n" * 10_000))
        assert long.put()[0].startswith("3 texts were too long")
    assert [(line["row"], line["column"]) for line in kept(target)] == [(2, "run_id"), (2, "result"), (4, "result")]
    assert (target.path.parent / "in.long.jsonl").stat().st_mode & 0o777 == 0o640


def test_half_a_character_is_no_reason_to_fail(target: AtomicFile) -> None:
    """A lone surrogate, which JSON can spell and no file can hold, becomes a replacement sign in the file."""
    with LongTexts(target) as long:
        (cut,) = long.fitted(2, ("result",), ("\ud800" + "x" * 40_000,))
        long.put()
    assert units(cut) <= CELL_UNITS
    assert str(kept(target)[0]["text"])[1:] == "x" * 40_000


def test_left_without_being_put_nothing_stays(target: AtomicFile) -> None:
    """Where the output failed, no long texts are left behind."""
    with LongTexts(target) as long:
        long.fitted(2, HEADERS, ("r", "x" * 40_000))
    assert list(target.path.parent.iterdir()) == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(CELL_UNITS - 60, CELL_UNITS + 60), st.integers(0, 60))
def test_a_cell_is_never_overfull(target: AtomicFile, narrow: int, wide: int) -> None:
    """Whatever the mix of narrow and wide characters, the cell holds what it is given."""
    text = "x" * narrow + "😀" * wide
    with LongTexts(target) as long:
        (cut,) = long.fitted(2, ("result",), (text,))
    assert (cut == text) == (units(text) <= CELL_UNITS)
    assert units(cut) <= CELL_UNITS
