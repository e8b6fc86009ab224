"""A night with every fault there is, over a real socket; `tests/benchmarks/soak_faults.py` is the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from faulty_night import faulty_night
from faulty_service import EXPECTED, FAULTS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
@pytest.mark.soak
def test_every_status_is_true_and_no_row_is_started_twice(tmp_path: Path) -> None:
    """Each row ends as the service knows it to have ended, with its own run; no second start."""
    faulty_night(tmp_path, 2_000)


def test_every_fault_has_its_truth() -> None:
    """The service's faults and the expectations name the same."""
    assert set(FAULTS) == set(EXPECTED)
