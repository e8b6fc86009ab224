"""How a run ends: a status, a result and a sentence, made of what the task returned or raised."""

from __future__ import annotations

import json

import msgspec

RESULT_LIMIT = 16 * 1024 * 1024
"""Bytes of JSON that one result may have; a larger one is a failure."""

_ERROR_LIMIT = 2_000
"""Characters of an error that are kept."""


class TaskFailed(Exception):  # noqa: N818  a task raises it to say how its run ends
    """Raised by a task to end its run as `failure` with exactly this sentence (no type of exception before it)."""


class TaskCancelled(Exception):  # noqa: N818  as above
    """Raised by a task to end its run as `cancelled`; its text is the run's error."""


class Ending(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """The end of a run. `status` is a final one, `result` JSON text (empty unless it is `success`).

    `is_last` says that the worker process ended with it: it had no memory left, so the next run would suffer for it.
    `never_began`: nothing of the task was done.
    """

    status: str
    result: msgspec.Raw = msgspec.Raw(b"")
    error: str | None = None
    is_last: bool = False
    never_began: bool = False


def success(result: object) -> Ending:
    """The ending of a function that returned: any JSON value may come; what isn't one makes it a failure."""
    try:
        text = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return failure(f"The task's result can't be written as JSON: {_one_line(error)}")
    if len(text) > RESULT_LIMIT:
        return failure(f"The task's result is {len(text)} bytes of JSON, and {RESULT_LIMIT} is the limit.")
    return Ending("success", msgspec.Raw(text))


def failure(sentence: str) -> Ending:
    """A run that failed, and why."""
    return Ending("failure", error=sentence)


def not_begun(sentence: str, status: str = "failure") -> Ending:
    """A run of which nothing was done, and why."""
    return Ending(status, error=sentence, never_began=True)


def out_of_memory() -> Ending:
    """A run that needed more than its worker process may have, or than earlier runs have left of that."""
    return Ending("failure", error="The task needed more memory than a worker process may have.", is_last=True)


def timed_out(seconds: float) -> Ending:
    """A run that was stopped because its time was up."""
    return Ending("timeout", error=f"The run was stopped after {seconds:g} s, the time limit for one run.")


def raised(error: BaseException) -> Ending:
    """The ending of a function that raised: its type and text, on one line."""
    if isinstance(error, TaskCancelled):
        return Ending("cancelled", error=_one_line(error) or "The task cancelled its run.")
    if isinstance(error, TaskFailed):
        return failure(_one_line(error) or "The task failed.")
    return failure(f"{type(error).__name__}: {_one_line(error)}".removesuffix(": "))


def _one_line(error: BaseException) -> str:
    """The text of an exception, of which not even `str()` can be trusted: it is the user's code."""
    try:
        text = str(error)
    except Exception as worse:  # noqa: BLE001  any exception of a foreign __str__ says the same: there is no text
        text = f"(its text can't be had: {type(worse).__name__})"
    return " ".join(text.encode(errors="replace").decode().split())[:_ERROR_LIMIT]
