"""How a run ends: a status, a result and a sentence, made of what the task returned or raised."""

from __future__ import annotations

import inspect
import json
import reprlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast, get_type_hints

import msgspec
import msgspec.inspect

RESULT_LIMIT = 60 * 1024 * 1024
"""Bytes of JSON that one result may have; a larger one is cut. So it fits in an answer that a client reads."""

_ERROR_LIMIT = 2_000
"""Characters of an error that are kept."""


class TaskFailed(Exception):  # noqa: N818  a task raises it to say how its run ends
    """Raised by a task to end its run as `failure` with exactly this sentence (no type of exception before it)."""


class TaskCancelled(Exception):  # noqa: N818  as above
    """Raised by a task to end its run as `cancelled`; its text is the run's error."""


class RunEnd(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """The end of a run. `status` is a final one, `result` JSON text (empty unless it is `success`).

    `is_last` says that the worker process ended with it: it had no memory left, so the next run would suffer for it.
    `never_began`: nothing of the task was done. `cut_off`: how far it had come is not known. `cant_load`: the process
    that was to run it can't import the task, so nothing of it was done there.
    """

    status: str
    result: msgspec.Raw = msgspec.Raw(b"")
    error: str | None = None
    is_last: bool = False
    never_began: bool = False
    cut_off: bool = False
    cant_load: bool = False


def success(result: object) -> RunEnd:
    """The ending of a function that returned.

    Its work is done, so whatever it gives is a success: what can't be JSON stands there as text, with a note.
    """
    text: bytes | None = None
    try:
        text = _as_json(result)
    except MemoryError:
        pass  # there is room again when this exception, and what its frames hold, is gone
    except (TypeError, ValueError, RecursionError) as error:
        note = f"The task's result can't be written as JSON, so it stands here as text: {_one_line(error)}"
        return RunEnd("success", msgspec.Raw(_as_text(result)), note)
    if text is None:
        note = "The task's result needs more memory than a worker process may have: its first part stands here as text."
        return RunEnd("success", msgspec.Raw(_as_text(result)), note, is_last=True)
    if len(text) <= RESULT_LIMIT:
        return RunEnd("success", msgspec.Raw(text))
    limit = f"The task's result is {len(text)} bytes of JSON, and {RESULT_LIMIT} is the limit"
    note = f"{limit}: its first part stands here as text."
    return RunEnd("success", msgspec.Raw(_as_text(text[: RESULT_LIMIT // 8].decode(errors="ignore"))), note)


def _as_json(result: object) -> bytes:
    """JSON of plain values, and of all that msgspec and pydantic know: dataclasses, dates, Decimals, models."""
    try:
        return json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except TypeError:
        plain = msgspec.to_builtins(result, str_keys=True, enc_hook=_model)
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _model(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # pydantic's
    if dump is None:
        raise TypeError(f"{type(value).__name__} is of no type that JSON has")
    return dump(mode="json")


_SHOWN = reprlib.Repr()
_SHOWN.maxlevel = 20
_SHOWN.maxdict = _SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxset = 1_000
_SHOWN.maxstring = _SHOWN.maxother = 100_000


def _as_text(result: object) -> bytes:
    """What a person can see of it, as a JSON text. Not even `repr()` can be trusted: it may be the user's code."""
    try:
        text = result if isinstance(result, str) else _SHOWN.repr(result)
    except Exception as error:  # noqa: BLE001  as above: any exception says the same
        text = f"(its text can't be had: {type(error).__name__})"
    whole = text[: RESULT_LIMIT // 8].encode(errors="surrogatepass").decode(errors="replace")
    return json.dumps(whole, ensure_ascii=False).encode()


def unfit_result(function: object) -> str | None:
    """The type that a function says it returns, if no value of it can be JSON; None where one may, or it is silent.

    A subclass of the type may be another matter, but then that is what the function should say.
    """
    try:
        returned = get_type_hints(cast("Any", function)).get("return", Any)
        return _unfit(msgspec.inspect.type_info(returned), 0)
    except Exception:  # noqa: BLE001  an annotation is the user's code: what can't be read says nothing
        return None


_PLAIN = (str, int, float, list, tuple, dict)


def _unfit(info: msgspec.inspect.Type, depth: int) -> str | None:
    """The first type in it that every value has, and that nothing can encode."""
    if isinstance(info, msgspec.inspect.CustomType):
        kind = info.cls
        is_open = kind is object or inspect.isabstract(kind) or getattr(kind, "_is_protocol", False)
        can_be = (
            issubclass(kind, _PLAIN)
            or hasattr(kind, "model_dump")
            or (is_open and not issubclass(kind, Iterator | AsyncIterator))
        )
        return None if can_be else kind.__qualname__
    fields = getattr(info, "fields", ()) if depth < 20 else ()
    found = (_unfit(field.type, depth + 1) for field in fields if getattr(field, "required", False))
    return next(filter(None, found), None)


def failure(sentence: str) -> RunEnd:
    """A run that failed, and why."""
    return RunEnd("failure", error=sentence)


def cut_off(sentence: str, *, repeatable: bool) -> RunEnd:
    """A run that may have been done, in part or to its end; one that is repeatable has simply failed."""
    return RunEnd("failure", error=sentence, cut_off=not repeatable)


def not_begun(sentence: str, status: str = "failure") -> RunEnd:
    """A run of which nothing was done, and why."""
    return RunEnd(status, error=sentence, never_began=True)


def out_of_memory() -> RunEnd:
    """A run that needed more than its worker process may have, or than earlier runs have left of that."""
    return RunEnd("failure", error="The task needed more memory than a worker process may have.", is_last=True)


def timeout(seconds: float) -> RunEnd:
    """A run that was stopped because its time was up."""
    return RunEnd("timeout", error=f"The run was stopped after {seconds:g} s, the time limit for one run.")


def exception(error: BaseException) -> RunEnd:
    """The ending of a function that raised: its type and text, on one line."""
    if isinstance(error, TaskCancelled):
        return RunEnd("cancelled", error=_one_line(error) or "The task cancelled its run.")
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
