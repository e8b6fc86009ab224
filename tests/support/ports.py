"""Ports of 127.0.0.1 on which nobody listens, or nobody answers, and which nobody else is given."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def kept_port() -> Iterator[int]:
    """A port that is kept for as long as the block: who connects is refused, until whom it is kept for listens there.

    That has to be one who sets SO_REUSEADDR, as servers do. A port that is only found and let go may be another test's
    the next moment.
    """
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@contextmanager
def full_listener() -> Iterator[str]:
    """The URL of one who takes no connection: those that wait for it are as many as may."""
    with ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
