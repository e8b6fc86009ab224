"""Following a run in the task that waits for its end, where the pool only has a record of it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import anyio

from batch_runner.batch.poller import Following

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.batch.poller import Followed, Poller
    from batch_runner.service.protocol import Run


async def follow_to_its_end(
    poller: Poller, run: Run, on_status: Callable[[str], None], age: float | None = 0.0, within: float = inf
) -> Followed:
    """Look at the run whenever it is its turn, until there is no more to be learned."""
    give, turns = anyio.create_memory_object_stream[Following](1)
    with give, turns:
        poller.follow(run, on_status, give.send_nowait, age, within)
        while True:
            found = await poller.look(await turns.receive())
            if found is not None:
                return found
