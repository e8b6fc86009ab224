"""What was true when a start began to wait in line may not be when its turn comes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest
from nights import Fault, night, numbered

from batch_runner.service.local.store_file import open_runs
from batch_runner.service.protocol import IDEMPOTENCY_FEATURE, MEMORY_HEADER, Run, RunRequest, StartRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def forgetful(seconds: float) -> Callable[[ASGIApp], ASGIApp]:
    """A service of ours that promises to know each start by its key for so long only."""

    def within(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            async def promising(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = [(name, value) for name, value in message["headers"] if name != b"content-length"]
                    promise = (MEMORY_HEADER.lower().encode(), f"M;seconds={seconds}".encode())
                    message = {**message, "headers": [*headers, promise]}
                elif scope["path"] == "/healthz":
                    promised = {"features": [IDEMPOTENCY_FEATURE], "idempotency_seconds": seconds, "memory": "M"}
                    health = json.loads(message["body"]) | promised
                    message = {**message, "body": json.dumps(health).encode()}
                await send(message)

            await app(scope, receive, promising)

        return answer

    return within


@pytest.mark.parametrize(("seconds", "status", "starts"), [(30.0, "unknown", 1), (3600.0, "success", 2)])
def test_a_lost_start_that_waited_in_line_is_asked_about_again(
    tmp_path: Path, seconds: float, status: str, starts: int
) -> None:
    """Its next turn comes after a minute (--rate): a service that has forgotten it by then would start a second run."""

    def loses(row: str, earlier: int) -> Fault | None:
        return Fault(500, taken=True) if row == "2" and not earlier else None

    found = night(tmp_path, numbered(2, Seconds="1"), loses, within=forgetful(seconds), rate="1/min", concurrency=1)
    assert found.statuses == ["success", status]
    assert sum(post.row == "2" for post in found.front.posts) == starts


@pytest.mark.parametrize("never_began", [True, False])
def test_serve_remembers_that_a_run_never_began(tmp_path: Path, never_began: bool) -> None:
    """Though it was about to: whoever asks after a restart hears it as before, for such a row may be sent again."""
    path = tmp_path / "runs.db"

    async def first() -> None:
        with open_runs(path, 3600.0) as store:
            request = StartRequest("pay", RunRequest(input_params={"Row": "1"}))
            run = Run("run_1", "queued")
            await store.queued(run, request)
            await store.running("run_1")
            await store.ended(Run("run_1", "cancelled", error="stopped", never_began=never_began))

    async def later() -> Run | None:
        with open_runs(path, 3600.0) as store:
            return store.tell("run_1")

    anyio.run(first)
    found = anyio.run(later)
    assert found is not None
    assert (found.status, found.never_began) == ("cancelled", never_began)
