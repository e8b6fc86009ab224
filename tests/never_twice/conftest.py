"""Each scene is played three times: as told, with `--quiet`, and killed with SIGKILL at instants that are drawn."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from counted_nights import Scene
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KILLS = int(os.environ.get("KILLS", "1"))
"""How often each scene is played with kills; each time they are drawn anew."""
LONG = ["quiet", *(f"killed-{nth}" for nth in range(1, KILLS + 1))]
MODES = ["told", *(pytest.param(mode, marks=pytest.mark.long) for mode in LONG)]


@pytest.fixture(params=MODES)
def play(request: pytest.FixtureRequest, tmp_path: Path, impatient: None) -> Callable[[Service], Scene]:
    """A scene at a service of the test's own."""
    return lambda service: Scene(tmp_path / "work", service, str(request.param), request.node.name)


@pytest.fixture
def scene(play: Callable[[Service], Scene]) -> Iterator[Scene]:
    """A scene at a service where every run succeeds."""
    with on_a_socket(Service(looks=1)) as service:
        yield play(service)
