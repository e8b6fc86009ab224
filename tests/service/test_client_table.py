"""The table of what an error or a status says about a run: nothing is missing, and what it doesn't know is *maybe*."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest

from batch_runner.service.http import transport
from batch_runner.service.http.classify import (
    CERTAINTIES,
    advice_on,
    advice_on_error,
    certainty_of_error,
    certainty_of_status,
    may_poll_again,
    scope_of_status,
)
from batch_runner.service.protocol import NO_SIGNAL, RefusalScope, RunCertainty, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

LATER = Signal(retry_after=3.0)


def below(kind: type[Exception]) -> Iterator[type[Exception]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from below(sub)


def named(kind: type[Exception]) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def errors_of(library: str) -> set[type[Exception]]:
    """All exceptions of a library that are loaded; those of aiohttp's server are not a client's."""
    mine = {kind for kind in below(Exception) if kind.__module__.partition(".")[0] == library}
    return {kind for kind in mine if not kind.__module__.startswith("aiohttp.web") and not issubclass(kind, Warning)}


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
def test_no_exception_is_missing(library: str) -> None:
    """Every exception class of httpx and of aiohttp's client stands in the table, and no other."""
    assert {named(kind) for kind in errors_of(library)} == {
        name for name in CERTAINTIES if name.startswith(f"{library}.")
    }


def test_what_the_transport_raises_agrees() -> None:
    """Each error of aiohttp becomes an error of httpx that has the same fate by itself."""
    for kind in errors_of("aiohttp"):
        becomes = [to for fits, to, _ in transport._ERRORS if issubclass(kind, fits)]
        if becomes:
            assert CERTAINTIES[named(becomes[0])] is CERTAINTIES[named(kind)], kind


def test_an_error_of_the_system_alone_is_maybe() -> None:
    """A bare OSError of whatever kind is no proof that nothing was sent: an in-process service may have raised it."""
    kinds: set[type[Exception]] = {OSError, *below(OSError)}
    for kind in kinds - errors_of("aiohttp"):
        assert CERTAINTIES.get(named(kind), RunCertainty.MAYBE) is RunCertainty.MAYBE, kind
    assert certainty_of_error(ConnectionRefusedError()) is RunCertainty.MAYBE
    assert certainty_of_error(ssl.SSLCertVerificationError()) is RunCertainty.MAYBE


class ConnectError(Exception):
    """Not httpx's."""


class NewerConnectError(httpx.ConnectError):
    """Of a version to come."""


@pytest.mark.parametrize(
    "error", [ConnectError(), NewerConnectError("x"), RuntimeError(), ExceptionGroup("x", [OSError()])]
)
def test_what_the_table_does_not_know_is_maybe(error: Exception) -> None:
    """Neither a like name nor a like parent makes an unknown error a known one."""
    assert certainty_of_error(error) is RunCertainty.MAYBE


def test_aiohttp_decides_where_it_stands_behind() -> None:
    """A transport that calls a lost answer a connect timeout is seen through."""
    error = httpx.ConnectTimeout("as httpx-aiohttp says it")
    assert certainty_of_error(error) is RunCertainty.NO_RUN
    error.__cause__ = aiohttp.ServerDisconnectedError()
    assert certainty_of_error(error) is RunCertainty.MAYBE
    error.__cause__ = aiohttp.ConnectionTimeoutError()
    assert certainty_of_error(error) is RunCertainty.NO_RUN


@pytest.mark.parametrize("status", [200, 201, 202, 206])
def test_a_run(status: int) -> None:
    """Any 2xx is a run, if it names one."""
    assert certainty_of_status(status, NO_SIGNAL) is RunCertainty.RUN


@pytest.mark.parametrize(
    "status", [301, 302, 307, 308, 400, 401, 402, 403, 404, 405, 409, 410, 412, 413, 415, 422, 425, 429, 431, 451]
)
def test_a_no(status: int) -> None:
    """The service has said no: no run."""
    assert certainty_of_status(status, NO_SIGNAL) is RunCertainty.NO_RUN


@pytest.mark.parametrize("status", [100, 101, 300, 303, 304, 408, 420, 460, 499, 500, 501, 502, 504, 520, 529, 599])
def test_maybe(status: int) -> None:
    """What may come from a gateway behind which the start goes on, or isn't known, may have started a run."""
    assert certainty_of_status(status, LATER) is RunCertainty.MAYBE


def test_unavailable_is_a_no_only_where_it_says_until_when() -> None:
    """503 with Retry-After comes from a service that didn't take the start; without, from anyone."""
    assert certainty_of_status(503, LATER) is RunCertainty.NO_RUN
    assert certainty_of_status(503, NO_SIGNAL) is RunCertainty.MAYBE


def test_every_registered_refusal_is_decided() -> None:
    """Of all registered 4xx only a timeout of the request leaves open whether a run was started."""
    refusals = [status for status in HTTPStatus if 400 <= status < 500]
    assert [status for status in refusals if certainty_of_status(status, NO_SIGNAL) is not RunCertainty.NO_RUN] == [408]


def test_how_far_a_refusal_reaches() -> None:
    """Key and credits concern all rows; limits pass; a 403, a 404 or a redirect is unclear; the rest is a row's."""
    statuses = (301, 302, 307, 308, 400, 401, 402, 403, 404, 407, 409, 412, 422, 429, 503)
    reaches = {status: scope_of_status(status) for status in statuses}
    assert {status for status, reach in reaches.items() if reach is RefusalScope.TASK} == {401, 402, 407}
    assert {status for status, reach in reaches.items() if reach is RefusalScope.UNCLEAR} == {
        *(301, 302, 307, 308, 403, 404)
    }
    assert {status for status, reach in reaches.items() if reach is RefusalScope.LATER} == {429, 503}


@pytest.mark.parametrize(
    ("words", "reach"),
    [
        ("Task not found", RefusalScope.TASK),
        ("There is no task 'invoices'; there is invoice.", RefusalScope.TASK),
        ("The task 'invoice' has no version '7'; it has 1, which is the latest.", RefusalScope.TASK),
        ("Invalid API key", RefusalScope.TASK),
        ("Insufficient credits", RefusalScope.TASK),
        ("Forbidden", RefusalScope.UNCLEAR),
        ("Access denied | Ray ID 8a1", RefusalScope.UNCLEAR),
        ("Identity not found", RefusalScope.UNCLEAR),
        ("Task run failed: identity not found", RefusalScope.UNCLEAR),
        ("", RefusalScope.UNCLEAR),
    ],
)
@pytest.mark.parametrize("status", [403, 404])
def test_a_403_or_404_is_believed_where_it_says_so(status: int, words: str, reach: RefusalScope) -> None:
    """Words of the key, the credits or the task are believed at once, but not beside words of what a row has."""
    assert scope_of_status(status, f"the service said {status}: {words}") is reach


def test_which_polls_may_be_repeated() -> None:
    """A poll is given up on only where the service has said no for good; a fresh run may not be found yet."""
    assert all(may_poll_again(status) for status in (204, 302, 404, 408, 429, 500, 502, 503, 504, 599))
    assert not any(may_poll_again(status) for status in (400, 401, 402, 403, 410, 422))


ONE_ROWS_OWN = {400, 406, 409, *range(411, 419), *range(421, 427), 428, 431, 451}
MAY_BE_ONES_OWN = {403, 404, 405, 410, 301, 302, 307, 308}
EVERY_ROWS = {401, 402, 407}


@pytest.mark.parametrize("status", range(100, 600))
def test_each_status_by_a_table_of_its_own(status: int) -> None:
    """Which codes say surely that no run was started, whose refusal each is, and which polls may be repeated."""
    refusals = ONE_ROWS_OWN | MAY_BE_ONES_OWN | EVERY_ROWS | {429}
    surely = RunCertainty.NO_RUN if status in refusals else RunCertainty.MAYBE
    assert certainty_of_status(status, NO_SIGNAL) is (RunCertainty.RUN if 200 <= status < 300 else surely)
    if status in refusals:
        scope = RefusalScope.ROW if status in ONE_ROWS_OWN else RefusalScope.UNCLEAR
        scope = RefusalScope.TASK if status in EVERY_ROWS else RefusalScope.LATER if status == 429 else scope
        assert scope_of_status(status) is scope
    moved = {301, 302, 307, 308}
    assert may_poll_again(status) == (status == 404 or status not in refusals - {429} - moved)


def _caused_by(cause: Exception) -> httpx.ConnectError:
    error = httpx.ConnectError("no connection")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (aiohttp.ServerFingerprintMismatch(b"a", b"b", "host", 443), "SSL_CERT_FILE"),
        (aiohttp.ClientHttpProxyError(None, (), status=407), "HTTPS_PROXY"),  # type: ignore[arg-type]
        (aiohttp.ClientHttpProxyError(None, (), status=408), None),  # type: ignore[arg-type]
        (aiohttp.ClientResponseError(None, (), status=407), None),  # type: ignore[arg-type]
        (aiohttp.ClientError(), None),
    ],
)
def test_what_time_does_not_heal_has_its_advice(cause: Exception, advice: str | None) -> None:
    """An untrusted certificate and a proxy that wants a login: a person must act; all else is tried again."""
    found = advice_on_error(_caused_by(cause))
    assert (found is None) == (advice is None)
    assert advice is None or advice in str(found)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 402, 403, 404, 407])
def test_a_refusal_of_all_says_what_to_do(status: int) -> None:
    """Each has advice of its own kind, not the general one."""
    general = advice_on(499)
    assert advice_on(status) != general
    assert advice_on(None) == "then run the same command"
