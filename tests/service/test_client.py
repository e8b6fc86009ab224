"""What the client makes of the answers of a service, weird ones too; in process and in virtual time."""

from __future__ import annotations

import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio.testing
from over_httpx import OverHttpx

from batch_runner.errors import UsageError
from batch_runner.service.http import client as client_module
from batch_runner.service.http import response as body_module
from batch_runner.service.http.client import Client
from batch_runner.service.protocol import (
    LookFailed,
    Lost,
    RefusalScope,
    Refused,
    RunRequest,
    RunSeen,
    Signal,
    Started,
    StartRequest,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

KEY = "sk-1234567890"
BASE = "http://service.invalid/api/"
START = RunRequest(input_params={"File Name": "Ä b.pdf"})
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Service:
    """An ASGI app that gives one answer and keeps what it was asked."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.scope: dict[str, Any] = {}
        self.asked = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        while (message := await receive())["type"] == "http.request":
            self.asked += message["body"]
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[Client]:
    async with Client(BASE, KEY, OverHttpx(httpx.ASGITransport(app))) as client:
        yield client


async def start(status: int, body: bytes, headers: dict[str, str] | None = None) -> Started | Refused | Lost:
    async with client_of(Service(status, body, headers)) as client:
        return await client.start(StartRequest("invoice", START))


async def poll(status: int, body: bytes, headers: dict[str, str] | None = None) -> RunSeen | LookFailed:
    async with client_of(Service(status, body, headers)) as client:
        return await client.look("r1")


async def test_what_a_start_sends() -> None:
    """The path with the id quoted whole, the key, the body with what was asked for and no more."""
    service = Service(200, b'{"run_id": "r1", "status": "queued"}')
    async with client_of(service) as client:
        said = await client.start(StartRequest("my task/ä?#%", START))
    assert isinstance(said, Started)
    assert (said.run.run_id, said.run.status, bytes(said.run.result)) == ("r1", "queued", b"")
    assert service.scope["method"] == "POST"
    assert service.scope["raw_path"] == b"/api/v2/tasks/my%20task%2F%C3%A4%3F%23%25/run"
    assert json.loads(service.asked) == {"input_params": {"File Name": "Ä b.pdf"}}
    headers = dict(service.scope["headers"])
    assert headers[b"anchor-api-key"] == KEY.encode()
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"host"] == b"service.invalid"
    assert headers[b"content-length"] == str(len(service.asked)).encode()
    assert headers[b"user-agent"].startswith(b"batch-runner/")


async def test_what_a_poll_sends() -> None:
    """A GET without a body, with the key; the run comes back as it was told."""
    service = Service(200, b'{"run_id": "a/b", "status": "success", "result": {"total": 1.10}, "more": 1}')
    async with client_of(service) as client:
        said = await client.look("a/b")
    assert isinstance(said, RunSeen)
    assert bytes(said.run.result) == b'{"total": 1.10}'
    assert (service.scope["method"], service.asked) == ("GET", b"")
    assert service.scope["raw_path"] == b"/api/v2/tasks/runs/a%2Fb/status"
    assert dict(service.scope["headers"])[b"anchor-api-key"] == KEY.encode()


@pytest.mark.parametrize("identifier", ["", ".", "..", "x" * 5000])
async def test_ids_that_no_path_can_hold(identifier: str) -> None:
    """`..` would be a way up to another address: nothing is sent."""
    service = Service(200, b"{}")
    async with client_of(service) as client:
        refused, trouble = await client.start(StartRequest(identifier, START)), await client.look(identifier)
    assert isinstance(refused, Refused)
    assert (refused.scope, refused.status_code) == (RefusalScope.ROW, None)
    assert isinstance(trouble, LookFailed)
    assert not trouble.again
    assert service.scope == {}


async def test_text_that_is_none() -> None:
    """Half of a surrogate pair can't be sent: the row is refused, nothing is sent."""
    async with client_of(Service(200, b"{}")) as client:
        said = await client.start(StartRequest("invoice", RunRequest(input_params={"a": "\ud800"})))
    assert isinstance(said, Refused)
    assert said.scope is RefusalScope.ROW


@pytest.mark.parametrize(
    ("body", "run"),
    [
        (b'{"run_id": "r1"}', ("queued", b"", None)),
        (b'{"run_id": "r1", "status": null, "error": null, "result": null}', ("queued", b"", None)),
        (b'{"run_id": "r1", "status": "paused"}', ("paused", b"", None)),
        (b'{"run_id": "r1", "status": "success", "result": "text"}', ("success", b'"text"', None)),
        (b'{"run_id": "r1", "status": "success", "result": [1.10, 2e400]}', ("success", b"[1.10, 2e400]", None)),
        (b'{"run_id": "r1", "status": "success", "result": "\xff"}', ("success", b'"\xef\xbf\xbd"', None)),
        (b'{"run_id": "r1", "status": "success", "result": [NaN]}', ("success", b'["NaN"]', None)),
        (b'\xef\xbb\xbf{"run_id": "r1", "status": "queued"}', ("queued", b"", None)),
        (b'{"run_id": "r1", "status": "failure", "error": {"code": 7, "message": "no"}}', ("failure", b"", "no")),
        (b'{"run_id": "r1", "status": "failure", "error": {"code": 7}}', ("failure", b"", '{"code": 7}')),
        (b'{"run_id": "r1", "status": "failure", "error": 7, "result": 1.10}', ("failure", b"1.10", "7")),
        (b'{"run_id": "r1", "status": "queued", "session_id": 5}', ("queued", b"", None)),
    ],
)
async def test_runs_that_are_told_oddly(body: bytes, run: tuple[str, bytes, str | None]) -> None:
    """Unknown words and other types than documented are kept as they are, as text; never a crash."""
    said = await start(200, body)
    assert isinstance(said, Started)
    assert (said.run.status, bytes(said.run.result), said.run.error) == run


async def test_an_id_that_is_a_number() -> None:
    """An id is text from here on."""
    said = await start(201, b'{"run_id": 17, "status": "queued"}')
    assert isinstance(said, Started)
    assert said.run.run_id == "17"


NO_RUNS = [b"", b"null", b"[]", b"7", b'"r1"', b"{", b"{}", b'{"run_id": ""}', b'{"run_id": " "}', b'{"run_id": null}']
NO_RUNS += [b'{"run_id": {}}', b'{"run_id": true}', b"OK", HTML, b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000]


@pytest.mark.parametrize("body", NO_RUNS, ids=lambda body: repr(body[:20]))
async def test_answers_that_name_no_run(body: bytes) -> None:
    """After such an answer to a start a run may exist; after such an answer to a poll one asks again."""
    said = await start(200, body)
    assert isinstance(said, Lost)
    assert said.why.startswith("a run may exist: the service said 200 and told no run")
    seen = await poll(200, body)
    assert isinstance(seen, LookFailed)
    assert seen.again


@pytest.mark.parametrize("status", [302, 307, 400, 402, 403, 404, 409, 429, 500, 503])
async def test_a_body_that_names_a_run_is_a_run(status: int) -> None:
    """Whatever the status code says: a run that has its id may be paid for, so it is followed and never sent again."""
    body = b'{"run_id": "r1", "status": "running", "session_id": "s1", "error": {"code": 402, "message": "low"}}'
    said = await start(status, body, {"Location": "http://service.invalid/x", "Retry-After": "1"})
    assert isinstance(said, Started)
    assert (said.run.run_id, said.run.status, said.run.session_id) == ("r1", "running", "s1")
    seen = await poll(status, body)
    assert isinstance(seen, RunSeen)


async def test_an_errors_own_number_is_no_status_of_a_run() -> None:
    """`status` may be the error's own (RFC 9457): a start of it is queued, a look at it tells nothing."""
    body = b'{"run_id": "r1", "status": 409, "title": "Conflict"}'
    said = await start(409, body)
    assert isinstance(said, Started)
    assert said.run.status == "queued"
    assert isinstance(await poll(409, body), LookFailed)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_started_no_run(status: int) -> None:
    """The service is elsewhere and has done nothing: no redirect is followed, and the reason shows where to."""
    said = await start(status, b"", {"Location": "http://service.invalid/x"})
    assert isinstance(said, Refused)
    assert (said.scope, said.status_code) == (RefusalScope.UNCLEAR, status)
    assert "http://service.invalid/x" in said.why


async def test_the_key_as_an_id() -> None:
    """A service that sends the key back as a run's or session's id: it is kept nowhere, nothing starts twice."""
    ended = await start(200, json.dumps({"run_id": KEY, "status": "success", "session_id": f"s-{KEY}"}).encode())
    assert isinstance(ended, Started)
    assert KEY not in f"{ended.run.run_id} {ended.run.session_id}"
    going = await start(200, json.dumps({"run_id": KEY, "status": "queued"}).encode())
    assert isinstance(going, Lost)
    assert KEY not in going.why


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (rb'{"run_id": "r1\ud83d", "status": "queued"}', ("r1\ufffd", "queued", None)),
        (rb'{"run_id": "r1", "status": "queued\uDE00"}', ("r1", "queued\ufffd", None)),
        (rb'{"run_id": "r1", "status": "failure", "error": "cut \ud83d"}', ("r1", "failure", "cut \ufffd")),
        (rb'{"run_id": "r1", "status": "failure", "error": "\ud83d\ude00"}', ("r1", "failure", "\U0001f600")),
        (rb'{"run_id": "r1", "status": "failure", "error": "C:\\ud83d"}', ("r1", "failure", "C:\\ud83d")),
    ],
)
async def test_half_a_character_is_made_whole(body: bytes, told: tuple[str, str, str | None]) -> None:
    """A service that cuts a text inside an emoji: U+FFFD stands there, the run counts, other text stays."""
    said = await start(200, body)
    assert isinstance(said, Started)
    assert (said.run.run_id, said.run.status, said.run.error) == told


async def test_half_a_character_in_a_result() -> None:
    """Such a result can be read and written as any other."""
    said = await start(200, rb'{"run_id": "r1", "status": "success", "result": {"a": "x\udE00\ud83d\ude00"}}')
    assert isinstance(said, Started)
    assert json.loads(bytes(said.run.result)) == {"a": "x\ufffd\U0001f600"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": {"code": 422, "message": "File  Name\\n is missing"}}', ": File Name is missing"),
        (b'{"message": "no"}', ": no"),
        (b'{"error": "no"}', ": no"),
        (b'{"detail": [{"msg": "no"}]}', ": no"),
        (HTML, ": 502 Bad Gateway"),
        (b"<p>a &amp; b", ": a & b"),
        (b"plain", ": plain"),
        (b"", ""),
        (b'{"error": {"message": "key sk-1234567890 is unknown"}}', ": key <the API key> is unknown"),
        (b"x" * 1000, ": " + "x" * (client_module.MAX_REASON - 22) + "…"),
    ],
)
async def test_why(body: bytes, words: str) -> None:
    """The reason is one line with the service's own words, cut where it is endless, and never holds the key."""
    said, seen = await start(422, body), await poll(422, body)
    assert isinstance(said, Refused)
    assert isinstance(seen, LookFailed)
    assert said.why == seen.why == f"the service said 422{words}"
    assert (said.status_code, said.scope, seen.again) == (422, RefusalScope.ROW, False)


async def test_a_run_that_repeats_the_key() -> None:
    """It stands neither in the run's result nor in its error, which go into the journal and the output."""
    body = b'{"run_id": "r1", "status": "failure", "result": {"used": "sk-1234567890"}, "error": "bad sk-1234567890"}'
    for said in (await start(200, body), await poll(200, body)):
        assert isinstance(said, Started | RunSeen)
        assert (said.run.run_id, said.run.error) == ("r1", "bad <the API key>")
        assert bytes(said.run.result) == b'{"used": "<the API key>"}'


async def test_limits_come_along() -> None:
    """What an answer says about limits is told, whatever else it says."""
    headers = {"Retry-After": "7", "RateLimit": '"5-in-1min";r=0;t=7', "RateLimit-Policy": '"5-in-1min"; q=5; w=60'}
    signal = Signal(retry_after=7.0, remaining=0, reset=7.0, quota=5, window=60.0)
    said = await start(429, b"", headers)
    assert isinstance(said, Refused)
    assert (said.scope, said.signal) == (RefusalScope.LATER, signal)
    started = await start(200, b'{"run_id": "r1", "status": "queued"}', headers)
    assert isinstance(started, Started)
    assert started.signal == signal
    assert (await poll(429, b"", headers)) == LookFailed("the service said 429", 429, again=True, signal=signal)


async def test_another_run_than_asked_for() -> None:
    """A run of another id is not taken for the one asked for."""
    seen = await poll(200, b'{"run_id": "r2", "status": "success"}')
    assert isinstance(seen, LookFailed)
    assert seen.again
    assert seen.why == "the service told of another run, r2, when asked for r1"


async def test_an_answer_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends at a limit: a start is lost then, and a poll isn't repeated."""
    monkeypatch.setattr(body_module, "MAX_ANSWER", 1 << 20)
    body = b'{"run_id": "r1", "status": "success", "result": "' + b"x" * (1 << 20) + b'"}'
    assert "larger than 1 MiB" in str(await start(200, body))
    assert isinstance(await start(200, body), Lost)
    seen = await poll(200, body)
    assert isinstance(seen, LookFailed)
    assert not seen.again


async def test_an_answer_that_was_packed_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gzip is unpacked though it wasn't asked for, to the same limit, and half of it is no answer."""
    packed = gzip.compress(b'{"run_id": "r1", "status": "queued", "result": "' + b"x" * 2_000_000 + b'"}')
    gzipped = {"Content-Encoding": "gzip"}
    assert isinstance(await start(200, packed, gzipped), Started)
    assert "its end is missing" in str(await start(200, packed[:-10], gzipped))
    monkeypatch.setattr(body_module, "MAX_ANSWER", 1 << 20)
    assert "larger than 1 MiB" in str(await start(200, packed, gzipped))


async def test_a_result_of_ten_megabytes() -> None:
    """A large result is kept whole."""
    result = b'"' + b"x" * 10_000_000 + b'"'
    seen = await poll(200, b'{"run_id": "r1", "status": "success", "result": ' + result + b"}")
    assert isinstance(seen, RunSeen)
    assert bytes(seen.run.result) == result


async def test_a_service_that_breaks() -> None:
    """An exception out of an embedded service is a lost answer, not the end of the batch."""

    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise ConnectionRefusedError("its database")

    async with client_of(breaks) as client:
        assert isinstance(await client.start(StartRequest("invoice", START)), Lost)
        trouble = await client.look("r1")
    assert isinstance(trouble, LookFailed)
    assert trouble.again


def test_a_start_in_virtual_time() -> None:
    """Under trio's mock clock an hour of the service's passes at once."""
    service = Service(200, b'{"run_id": "r1", "status": "success"}')

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(3600)
        await service(scope, receive, send)

    async def main() -> float:
        async with client_of(slow) as client:
            assert isinstance(await client.start(StartRequest("invoice", START, answer_within=4000)), Started)
        return trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, clock=clock) == pytest.approx(3600, abs=1)


def test_the_key_is_in_no_repr() -> None:
    """A client can be logged without telling the key."""
    client = Client(BASE, KEY, OverHttpx(httpx.ASGITransport(Service(200, b""))))
    assert repr(client) == "Client('http://service.invalid/api')"
    assert KEY not in repr(client._requests.start(StartRequest("t", START)))


@pytest.mark.parametrize("key", ["a b", "a\nb", "a\r\nx: y", "schlüssel", "\ud800"])
def test_a_key_that_is_none(key: str) -> None:
    """A key that no header can hold is refused without being told."""
    with pytest.raises(UsageError) as raised:
        Client(BASE, key, OverHttpx(httpx.ASGITransport(Service(200, b""))))
    assert key not in str(raised.value)


BAD_ADDRESSES = [
    "",
    "service.invalid",
    "ftp://service.invalid",
    "http://",
    "http://u:p@service.invalid",
    "http://a/?b=c",
]


@pytest.mark.parametrize("address", [*BAD_ADDRESSES, "http://a/#b", "http://a:port/", "http://" + "x" * 70_000])
def test_an_address_that_is_none(address: str) -> None:
    """An address that can't be used is refused before anything is sent."""
    with pytest.raises(UsageError):
        Client(address, KEY, OverHttpx(httpx.ASGITransport(Service(200, b""))))


@pytest.mark.parametrize("status", [307, 403, 404])
async def test_a_key_that_is_sent_back_says_nothing_of_whose_a_refusal_is(status: int) -> None:
    """A firewall's page may show the request with its key; what we write in its place are no words of the service."""
    page = f"<html><title>Blocked: {KEY}</title></html>".encode()
    said = await start(status, page, {"Location": f"https://elsewhere.invalid/{KEY}"} if status == 307 else None)
    assert isinstance(said, Refused)
    assert KEY not in said.why
    assert said.scope is RefusalScope.UNCLEAR
