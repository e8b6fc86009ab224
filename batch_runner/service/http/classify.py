"""What an error or an HTTP status says of a start: whether a run can exist, and whom a refusal concerns.

Whether a start may be sent again hangs on this alone: what is not in the table may have started a run.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_runner.service.http.rate_limit import Signal


class Fate(Enum):
    """What the end of a start's POST says about its run."""

    NO_RUN = "no run"
    MAYBE = "maybe a run"
    RUN = "a run"


FATES: dict[str, Fate] = {
    **dict.fromkeys(
        (
            *("httpx.ConnectError", "httpx.ConnectTimeout", "httpx.PoolTimeout", "httpx.ProxyError"),
            *("httpx.InvalidURL", "httpx.UnsupportedProtocol"),
            *("aiohttp.ClientConnectorError", "aiohttp.ClientConnectorDNSError", "aiohttp.UnixClientConnectorError"),
            *("aiohttp.ClientSSLError", "aiohttp.ClientConnectorSSLError", "aiohttp.ClientConnectorCertificateError"),
            *("aiohttp.ServerFingerprintMismatch", "aiohttp.ConnectionTimeoutError"),
            *("aiohttp.ClientProxyConnectionError", "aiohttp.ClientHttpProxyError"),
            *("aiohttp.InvalidURL", "aiohttp.InvalidUrlClientError", "aiohttp.NonHttpUrlClientError"),
        ),
        Fate.NO_RUN,
    ),
    **dict.fromkeys(
        (
            *("httpx.HTTPError", "httpx.RequestError", "httpx.TransportError", "httpx.TimeoutException"),
            *("httpx.ReadTimeout", "httpx.WriteTimeout", "httpx.NetworkError", "httpx.ReadError", "httpx.WriteError"),
            *("httpx.CloseError", "httpx.ProtocolError", "httpx.LocalProtocolError", "httpx.RemoteProtocolError"),
            *("httpx.DecodingError", "httpx.TooManyRedirects", "httpx.HTTPStatusError", "httpx.CookieConflict"),
            *("httpx.StreamError", "httpx.StreamConsumed", "httpx.StreamClosed"),
            *("httpx.ResponseNotRead", "httpx.RequestNotRead"),
            *("aiohttp.ClientError", "aiohttp.ClientConnectionError", "aiohttp.ClientConnectionResetError"),
            *("aiohttp.ClientOSError", "aiohttp.ClientPayloadError", "aiohttp.UploadAbortedError"),
            *("aiohttp.ServerConnectionError", "aiohttp.ServerDisconnectedError"),
            *("aiohttp.ServerTimeoutError", "aiohttp.SocketTimeoutError"),
            *("aiohttp.ClientResponseError", "aiohttp.ContentTypeError", "aiohttp.TooManyRedirects"),
            *("aiohttp.RedirectClientError", "aiohttp.InvalidUrlRedirectClientError"),
            *("aiohttp.NonHttpUrlRedirectClientError", "aiohttp.WSServerHandshakeError", "aiohttp.WSMessageTypeError"),
            *("aiohttp.HttpProcessingError", "aiohttp.BadHttpMessage", "aiohttp.HttpBadRequest"),
            *("aiohttp.BadHttpMethod", "aiohttp.BadStatusLine", "aiohttp.LineTooLong", "aiohttp.InvalidHeader"),
            *("aiohttp.InvalidURLError", "aiohttp.PayloadEncodingError", "aiohttp.ContentEncodingError"),
            *("aiohttp.TransferEncodingError", "aiohttp.ContentLengthError", "aiohttp.DecompressSizeError"),
            *("aiohttp.EofStream", "aiohttp.TooManyMembersError", "aiohttp.LookupError"),
            *("aiohttp.WebSocketError", "aiohttp.WSHandshakeError"),
            *("builtins.OSError", "builtins.ConnectionError", "builtins.ConnectionResetError"),
            *("builtins.ConnectionAbortedError", "builtins.ConnectionRefusedError", "builtins.BrokenPipeError"),
            *("builtins.TimeoutError", "ssl.SSLError", "ssl.SSLCertVerificationError", "ssl.SSLEOFError"),
            *("ssl.SSLSyscallError", "ssl.SSLZeroReturnError", "ssl.SSLWantReadError", "ssl.SSLWantWriteError"),
            *("socket.gaierror", "socket.herror"),
        ),
        Fate.MAYBE,
    ),
}
"""Of each error that a transport can raise: can a run exist? *No run* only where it is raised before the POST's first
byte leaves. A bare `OSError`, whatever its kind, is *maybe*: in process it may be the service's own."""

_REFUSING_ALL = frozenset({401, 402, 403, 404, 405, 407, 410})
_REFUSING_ROW = frozenset({400, 406, 409, *range(411, 419), *range(421, 427), 428, 431, 451})
_REFUSING = _REFUSING_ALL | _REFUSING_ROW

REFUSING_US = frozenset({401, 402})
"""The key or the account is refused: that reaches all rows, whether a start or a poll was answered so."""
FORBIDDEN = 403
"""The same of a run that was started with this very key; an earlier one may be another account's, and alone in that."""


class Reach(Enum):
    """How far a refusal reaches."""

    AGAIN = "again"
    """It was never connected, or is limited now: the same start may be sent again, later."""
    ROW = "row"
    """This row is refused for good."""
    TASK = "task"
    """Nothing more would work: the key, the credits or the task."""


def fate_of_error(error: Exception) -> Fate:
    """Whether a run can exist after a start that ended in this error.

    Where aiohttp stands behind httpx, aiohttp's error decides: transports differ in what they make of it.
    """
    cause = error.__cause__
    judged = cause if cause is not None and type(cause).__module__.startswith("aiohttp.") else error
    kind = type(judged)
    return FATES.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}", Fate.MAYBE)


def fate_of_status(status: int, signal: Signal) -> Fate:
    """Whether a run can exist after a start that was answered so; *a run* holds if the answer names it."""
    if 200 <= status < 300:
        return Fate.RUN
    if status == 429 or (status == 503 and signal.retry_after is not None):
        return Fate.NO_RUN
    return Fate.NO_RUN if status in _REFUSING else Fate.MAYBE


def reach_of_status(status: int) -> Reach:
    """How far a refusal with this status reaches."""
    if status in {429, 503}:
        return Reach.AGAIN
    return Reach.TASK if status in _REFUSING_ALL else Reach.ROW


def may_poll_again(status: int) -> bool:
    """Whether a poll answered so may be answered otherwise later; a 404 may, for a run that was just started."""
    return status == 404 or status not in _REFUSING
