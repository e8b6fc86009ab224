"""Whom the service lets in: by the host that was asked for, and by the key."""

from __future__ import annotations

import hmac
import ipaddress
import re
from typing import TYPE_CHECKING

from batch_runner.api import KEY_HEADER
from batch_runner.service.answers import error_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HEALTH = "/healthz"
"""The one path that needs no key: whoever watches over the service needn't be one who may use it."""

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d*)?")


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this very machine, whoever is asked."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class KeyDoor:
    """Lets nothing through that doesn't carry the key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        given = _header(scope, KEY_HEADER)
        if scope["type"] != "http" or scope["path"] == HEALTH or hmac.compare_digest(given, self._key):
            await self._app(scope, receive, send)
        else:
            how = "is wrong" if given else "is missing"
            await error_answer(401, f"The API key in the header {KEY_HEADER} {how}.")(scope, receive, send)


class LoopbackDoor:
    """Refuses a request that was made for another machine's name.

    A page in a browser could otherwise reach this port under a name of its own that resolves to 127.0.0.1. A service
    that listens for other machines has no such door: it can't know all its names, and asks for a key that no page has.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        host = _HOST.fullmatch(_header(scope, "host").decode("latin-1"))
        if scope["type"] != "http" or (host and is_loopback(host[1])):
            await self._app(scope, receive, send)
        else:
            answer = error_answer(400, "This service answers to this machine only, as localhost or 127.0.0.1.")
            await answer(scope, receive, send)


def _header(scope: Scope, name: str) -> bytes:
    value: bytes = dict(scope.get("headers", ())).get(name.encode(), b"")
    return value
