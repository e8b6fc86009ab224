"""Two batches of one task run at the same time, each with a journal of its own: whoever comes second holds the row."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from counted_nights import Night
from killing import exit_code, start
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from pathlib import Path

ROWS = ("A-1", "A-2", "A-3", "A-4", "A-5", "A-6")


@pytest.mark.long
@pytest.mark.parametrize("quiet", [False, True], ids=["told", "quiet"])
def test_the_same_list_runs_in_two_folders(tmp_path: Path, *, quiet: bool) -> None:
    """From top to bottom in one, from bottom to top in the other: each row is started once, and held in the other.

    Neither journal is there when they begin.
    """
    with on_a_socket(Service(looks=1)) as service:
        nights = [Night(tmp_path / name, service, quiet=quiet) for name in "ab"]
        nights[0].sheet("in.csv", ROWS)
        nights[1].sheet("in.csv", ROWS[::-1])
        words = ("in.csv", "--rate", "4/s")
        children = [start(night.folder, ["run", *night.command(*words), *night.quiet]) for night in nights]
        assert {exit_code(child) for child in children} <= {0, 3}
        assert max(service.starts_of.values()) == 1
        held = [row["error"] for night in nights for row in night.rows("in.results.csv") if row["error"]]
        assert len(held) >= len(ROWS)
        assert all(error.startswith("ran on ") and "--same carries that over" in error for error in held)
        for night in nights:  # a row that both came to at the same moment was started by neither
            night.run("in.csv", code=(0, 3))
        assert service.starts_of == Counter(ROWS)
