"""A service of a user's own, behind the three verbs: a few lines, without HTTP and without ours. Not a test module."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.service.protocol import (
    Capabilities,
    LookFailed,
    RefusalScope,
    Refused,
    Run,
    RunSeen,
    Started,
)

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from batch_runner.service.protocol import StartRequest


class ThirdService:
    """Sleeps, echoes or fails, in the task group that it is given."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._runs: dict[str, Run] = {}
        self._ended: dict[str, anyio.Event] = {}
        self._keys: dict[str, tuple[str, StartRequest]] = {}
        self.starts: list[StartRequest] = []

    async def start(self, request: StartRequest) -> Started | Refused:
        """See Service."""
        self.starts.append(request)
        if request.task_id not in ("sleep_in_loop", "echo_in_loop", "fail_in_loop"):
            return Refused(f"I know no {request.task_id}", 404, RefusalScope.TASK)
        if request.key in self._keys:
            run_id, first = self._keys[request.key]
            if first != request:
                return Refused("the key is another start's", 422, RefusalScope.ROW)
            return Started(self._runs[run_id])
        run = Run(f"third-{len(self._runs)}", "running")
        if request.key is not None:
            self._keys[request.key] = (run.run_id, request)
        self._runs[run.run_id], self._ended[run.run_id] = run, anyio.Event()
        self._group.start_soon(self._work, run.run_id, request)
        return Started(run)

    async def look(self, run_id: str, wait: float = 0.0) -> RunSeen | LookFailed:
        """See Service."""
        if run_id not in self._runs:
            return LookFailed(f"I know no run {run_id}", 404, again=False)
        with anyio.move_on_after(wait):
            await self._ended[run_id].wait()
        return RunSeen(self._runs[run_id], waited=True)

    async def stop(self, run_id: str) -> RunSeen | LookFailed:
        """See Service."""
        if run_id in self._runs and not self._runs[run_id].has_ended:
            self._end(run_id, "cancelled")
        return await self.look(run_id)

    async def capabilities(self) -> Capabilities:
        """See Service."""
        return Capabilities(tells_ends=True, stops=True)

    async def _work(self, run_id: str, request: StartRequest) -> None:
        params = request.run.input_params
        if request.task_id == "sleep_in_loop":
            with anyio.move_on_after(float(params["seconds"])):
                await self._ended[run_id].wait()
            self._end(run_id, "success", {"slept": params["seconds"]})
        elif request.task_id == "echo_in_loop":
            self._end(run_id, "success", params)
        else:
            self._end(run_id, "failure", error="LookupError: no such customer")

    def _end(self, run_id: str, status: str, result: object = None, error: str | None = None) -> None:
        if not self._runs[run_id].has_ended:
            run = msgspec.structs.replace(self._runs[run_id], status=status, error=error)
            text = b"" if result is None else json.dumps(result, separators=(",", ":")).encode()
            self._runs[run_id] = run.with_result(text)
            self._ended[run_id].set()
