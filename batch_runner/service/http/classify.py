"""What an error or an HTTP status says of a start: whether a run can exist, and whom a refusal concerns.

Whether a start may be sent again hangs on this alone: what is not in the table may have started a run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_runner.log import SECRET_MARK
from batch_runner.service.protocol import RefusalScope, RunCertainty

if TYPE_CHECKING:
    from batch_runner.service.protocol import Signal


CERTAINTIES: dict[str, RunCertainty] = {
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
        RunCertainty.NO_RUN,
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
        RunCertainty.MAYBE,
    ),
}
"""Of each error that a transport can raise: can a run exist? *No run* only where it is raised before the POST's first
byte leaves. A bare `OSError`, whatever its kind, is *maybe*: in process it may be the service's own."""

_MOVED = frozenset({301, 302, 307, 308})
"""The address is another: whoever answers so has done nothing with the start (RFC 9110, section 15.4). A 303 isn't one
of them: it shows where the answer to what was done is."""
_REFUSING_ALL = frozenset({401, 402, 407})
_REFUSING_SOME = frozenset({403, 404, 405, 410})
_REFUSING_ROW = frozenset({400, 406, 409, *range(411, 419), *range(421, 427), 428, 431, 451})
_REFUSING = _REFUSING_ALL | _REFUSING_SOME | _REFUSING_ROW

REFUSING_US = frozenset({401, 402})
"""The key or the account is refused: that reaches all rows, whether a start or a poll was answered so."""
TOO_MANY = 429
"""Too many starts in a time, or too many runs at once; the answer says which."""
BUSY = (TOO_MANY, 503)
"""The service wants fewer requests for now."""
MISSING = 404
"""No such run, or no such task."""
FORBIDDEN = 403
"""The same, where it says so or the next get it, too: a firewall's page may be one row's alone. Of a run's poll only if
it was started with this very key; an earlier run may be another account's."""


def certainty_of_error(error: Exception) -> RunCertainty:
    """Whether a run can exist after a start that ended in this error.

    Where aiohttp stands behind httpx, aiohttp's error decides: transports differ in what they make of it.
    """
    cause = error.__cause__
    judged = cause if cause is not None and type(cause).__module__.startswith("aiohttp.") else error
    kind = type(judged)
    return CERTAINTIES.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}", RunCertainty.MAYBE)


def certainty_of_status(status: int, signal: Signal) -> RunCertainty:
    """Whether a run can exist after a start that was answered so; *a run* holds if the answer names it."""
    if 200 <= status < 300:
        return RunCertainty.RUN
    if status == 429 or (status == 503 and signal.retry_after is not None):
        return RunCertainty.NO_RUN
    return RunCertainty.NO_RUN if status in _REFUSING | _MOVED else RunCertainty.MAYBE


_ONE_ROW = re.compile(r"\b(identity|session|profile|params?|parameters?|input|file)\b", re.IGNORECASE)
_EVERY_ROW = re.compile(
    r"\bapi[ _-]?key\b|\baccess[ _]token\b|\bcredentials?\b|\bun(authori[sz]ed|authenticated)\b|\bnot authori[sz]ed\b"
    r"|\bcredits?\b|\bbilling\b|\bpayment required\b|\bsubscription\b"
    r"|\b(no|no such|unknown|invalid) task\b|\btask[ _]not[ _]found\b"
    r"|\btask\b.{0,100}?\b(not found|not exist|doesn.t exist|no longer exists|deleted|has no version)\b",
    re.IGNORECASE,
)


def scope_of_status(status: int, words: str = "") -> RefusalScope:
    """How far a refusal with this status and these words reaches.

    A 403 or 404 may be one row's own (a firewall's page, an identity that is gone) or every row's. It is every row's
    where its words speak of the key, the credits or the task, and of nothing that a row has.
    """
    words = words.replace(SECRET_MARK, "")  # which stands for a key that was sent back, and is no word of the service
    if status in {429, 503}:
        return RefusalScope.LATER
    if status in _REFUSING_SOME | _MOVED:
        says_so = _EVERY_ROW.search(words) and not _ONE_ROW.search(words)
        return RefusalScope.TASK if says_so else RefusalScope.UNCLEAR
    return RefusalScope.TASK if status in _REFUSING_ALL else RefusalScope.ROW


def names_identity(words: str) -> bool:
    """Whether a refusal speaks of what the person chose for a row beside its params: its identity or its session."""
    return re.search(r"\b(identity|session|profile)\b", words, re.IGNORECASE) is not None


_PROXY_LOGIN = "put the proxy's user and password into HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT)"


def advice_on_error(error: Exception) -> str | None:
    """What a person must do about an error that time doesn't heal; None where the next try may do better."""
    cause = error.__cause__
    if type(cause).__name__ in ("ClientConnectorCertificateError", "ServerFingerprintMismatch"):
        return (
            "the service's certificate is not trusted: if your network has an authority of its own, name its file in "
            "SSL_CERT_FILE (batch-runner help network)"
        )
    if type(cause).__name__ == "ClientHttpProxyError" and getattr(cause, "status", None) == 407:
        return _PROXY_LOGIN
    return None


def may_poll_again(status: int) -> bool:
    """Whether a poll answered so may be answered otherwise later; a 404 may, for a run that was just started."""
    return status == 404 or status not in _REFUSING


_CONCURRENCY = re.compile(
    r"concurren|in flight|in-flight|simultan|parallel|already running|too many (active|running|open)"
)
_RATE = re.compile(r"per (second|minute|hour|day)|\brate\b|too many requests|quota")


def is_for_concurrency(why: str, signal: Signal) -> bool:
    """Whether a 429 is for too many runs in flight rather than for too many starts in a time.

    By its words if they tell, else by its numbers: a quota of which nothing is left, or that comes without a number
    left, is about time.
    """
    words = why.lower()
    if _CONCURRENCY.search(words):
        return True
    if signal.remaining is not None:
        return signal.remaining > 0
    return signal.quota is None and signal.window is None and not _RATE.search(words)


def advice_on(status: int | None) -> str:
    """What a person must do about a refusal that reaches the whole task."""
    advice = {
        401: "check the key in ANCHORBROWSER_API_KEY",
        402: "the account has no credits left: add some",
        FORBIDDEN: "the key may not run this task: check the key and the account",
        MISSING: "check --task and --service",
        407: _PROXY_LOGIN,
        **dict.fromkeys(_MOVED, "check --service: its address is another one"),
    }
    # Without a status the reason itself says what to do.
    told = "" if status is None else advice.get(status, "check --service and --task") + "; "
    return f"{told}then run the same command"
