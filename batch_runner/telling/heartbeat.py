"""Pings by the convention of healthchecks.io: URL/start, URL, URL/fail, each a POST with a few lines of text.

Source: https://healthchecks.io/docs/http_api/. The parameter `rid` ties an end to its start; services that don't know
it pass it over. `/fail` is used, not `/EXIT_STATUS`, since every service of this kind knows it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from batch_runner import log
from batch_runner.client.proxies import environment_proxy
from batch_runner.job.secrets import masked

if TYPE_CHECKING:
    from threading import Event

Signal = Literal["start", "success", "fail"]

TIMEOUT = 10.0
"""Seconds for each step of a ping: the connection, the request, the answer."""
PAUSES = (1.0, 2.0)
"""Seconds between two tries, of which there is one more than pauses."""


class Heartbeat:
    """The pings of one batch. Raises `ValueError` for a URL that can't be pinged; it is not in the message."""

    def __init__(self, url: str) -> None:
        if not _is_web_address(url):
            raise ValueError("not a web address; it begins with https:// or http://")
        self._url = urlsplit(url)
        self._run = f"rid={uuid4()}"
        self._name = masked(url)

    def __repr__(self) -> str:
        return f"Heartbeat({self._name!r})"

    def ping(self, signal: Signal, text: str, until: Event | None = None) -> None:
        """Ping, and try again a few times, but not when `until` has happened. Failing is an event of the log."""
        for pause in (*PAUSES, None):
            trouble, may_pass = self._try(signal, text)
            if trouble is None:
                log.debug("heartbeat sent", signal=signal, url=self._name)
                return
            if pause is None or not may_pass or _is_over(pause, until):
                break
        log.warning(f"the heartbeat could not be sent: {trouble}", signal=signal, url=self._name)

    def _try(self, signal: Signal, text: str) -> tuple[str | None, bool]:
        """What went wrong, None for nothing, and whether that may pass."""
        url = self._url_for(signal)
        try:
            with self._client(url) as client, client.stream("POST", url, content=text.encode()) as answer:
                status = answer.status_code
        except httpx.HTTPError as error:
            return type(error).__name__, True
        if answer.is_success:
            return None, False
        moved = "; it leads elsewhere, where it is not followed" if answer.is_redirect else ""
        return f"the answer was {status}{moved}", status == 429 or status >= 500

    def _url_for(self, signal: Signal) -> httpx.URL:
        """The signal goes at the path's end, before a query (`…/slug?create=1`)."""
        path, query = self._url.path, self._url.query
        if signal != "success":
            path = f"{path.rstrip('/')}/{signal}"
        query = f"{query}&{self._run}" if query else self._run
        return httpx.URL(self._url._replace(path=path, query=query, fragment="").geturl())

    def _client(self, url: httpx.URL) -> httpx.Client:
        """As the client of the service: proxies from the environment, no redirects, no `.netrc`."""
        proxy = environment_proxy(url.scheme, url.host, url.port)
        tls = httpx.create_ssl_context() if url.scheme == "https" else False
        return httpx.Client(proxy=proxy, verify=tls, timeout=TIMEOUT, trust_env=False, follow_redirects=False)


def _is_web_address(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def _is_over(pause: float, until: Event | None) -> bool:
    """Pause; True if what the pings wait for has happened meanwhile."""
    if until is not None:
        return until.wait(pause)
    time.sleep(pause)
    return False
