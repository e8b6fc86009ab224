"""What several test files ask for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from disks import mounted

from batch_runner.polling import schedule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of the real program; files that test on another, or on two, have a fixture of their own."""
    return "asyncio"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at runs every few milliseconds: those of the tests' services end at once."""
    for name, value in (("FIRST_LOOK", 0.002), ("BETWEEN", 0.005), ("PRICE", 0.0)):
        monkeypatch.setattr(schedule, name, value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a disk of 2 MiB."""
    with mounted(tmp_path / "disk", "2m") as folder:
        yield folder
