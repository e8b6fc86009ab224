"""Answers of the service: JSON, and refusals as the Tasks API has them."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from batch_runner.api import ErrorDetail, ErrorResponse


def json_answer(status_code: int, value: msgspec.Struct) -> Response:
    """A struct as JSON."""
    return Response(msgspec.json.encode(value), status_code, media_type="application/json")


def error_answer(status_code: int, sentence: str) -> Response:
    """An ErrorResponse; its code is the HTTP status."""
    return json_answer(status_code, ErrorResponse(ErrorDetail(status_code, sentence)))
