"""A service with every fault there is, each row its own, on a port of 127.0.0.1: `faulty_service.py [PORT RECORD]`.

It prints its port first. When its standard input closes it prints, as JSON, how often it started a run for which row,
for rows that were started more than once, and how many starts there were; then it ends.

With a file for its record it may be killed, too: each start is written there before it is answered, and read from there
by the next one on that port. SIGUSR1 begins an outage, in which starts are taken and not answered; SIGUSR2 ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

STARTS: Counter[int] = Counter()
ASKED: Counter[int] = Counter()
POLLS: Counter[int] = Counter()
RECORD = (
    os.open(sys.argv[2], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    if __name__ == "__main__" and len(sys.argv) > 2
    else None
)
OUTAGE = asyncio.Event()

FAULTS = (
    "none", "queued", "500", "closed", "429", "503", "422", "failure", "html", "strange", "cut", "307", "large",
    "extra", "half",
)  # fmt: skip
"""What befalls a row: the one at `row % len(FAULTS)`."""

EXPECTED = {
    "none": "success",
    "queued": "success",
    "500": "unknown",
    "closed": "unknown",
    "429": "success",
    "503": "success",
    "422": "error",
    "failure": "failure",
    "html": "unknown",
    "strange": "success",
    "cut": "unknown",
    "307": "error",
    "large": "success",
    "extra": "success",
    "half": "success",
}
"""The truth about a row that this befalls, with one start each."""


def fault_of(row: int) -> str:
    return FAULTS[row % len(FAULTS)]


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            _, _, length = head.lower().partition(b"content-length:")
            whole = end + 4 + int(length.split(b"\r\n")[0] or 0)
            if len(self._data) < whole:
                return
            body = self._data[end + 4 : whole]
            self._data = self._data[whole:]
            if head.startswith(b"POST"):
                self._start(int(json.loads(body)["input_params"]["Row"]))
            elif OUTAGE.is_set():
                self._transport.close()
            elif b"/status" not in head:
                self._answer(404, b"{}")
            else:
                self._poll(int(head.split(b"/status")[0].rpartition(b"_")[2]))

    def _start(self, row: int) -> None:
        ASKED[row] += 1
        fault = fault_of(row)
        if fault in ("429", "503") and ASKED[row] == 1:
            self._answer(
                int(fault), b'{"error":{"code":429,"message":"too many requests per minute"}}', b"Retry-After: 0\r\n"
            )
        elif fault == "422":
            self._answer(422, b'{"error":{"code":422,"message":"row %d is wrong"}}' % (row % 3))
        elif fault == "307":
            self._answer(307, b"", b"Location: /elsewhere\r\n")
        else:
            STARTS[row] += 1
            if RECORD is not None:
                os.write(RECORD, f"{row} {'lost' if OUTAGE.is_set() else 'told'} {time.time()}\n".encode())
            if OUTAGE.is_set():
                self._transport.close()
            else:
                self._started(row, fault)

    def _started(self, row: int, fault: str) -> None:
        done = b'{"run_id":"run_%d","status":"success","result":{"row":%d}}' % (row, row)
        queued = b'{"run_id":"run_%d","status":"queued"}' % row
        bodies = {
            "queued": queued,
            "strange": queued,
            "failure": b'{"run_id":"run_%d","status":"failure","error":"no such invoice"}' % row,
            "html": b"<html><title>Bad gateway</title></html>",
            "large": done[:-1] + b',"more":"' + b"x" * 20_000 + b'"}',
            "half": done[:-2] + b',"more":"\\ud83d"}}',
        }
        if fault == "500":
            self._answer(500, b'{"error":{"code":500,"message":"Failed to run task"}}')
        elif fault == "closed":
            self._transport.close()
        elif fault == "cut":
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + done[:20])
            self._transport.close()
        else:
            self._answer(200, bodies.get(fault, done))
            if fault == "extra":
                self._answer(200, done)

    def _poll(self, row: int) -> None:
        """A strange one goes backwards, breaks, and has words of its own before it ends."""
        POLLS[row] += 1
        number = POLLS[row] if fault_of(row) == "strange" else 9
        if number == 1:
            self._answer(500, b"oops")
        elif number == 2:
            self._answer(200, b'{"run_id":"run_%d","status":"paused","cost":3}' % row)
        elif number == 3:
            self._answer(200, b"not json")
        else:
            self._answer(200, b'{"run_id":"run_%d","status":"success","result":{"row":%d}}' % (row, row))

    def _answer(self, status: int, body: bytes, headers: bytes = b"") -> None:
        head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % (status, len(body))
        self._transport.write(head + headers + b"\r\n" + body)


class Recorded(NamedTuple):
    """A run that was started; `is_lost`: in an outage, so that nobody was told."""

    row: int
    is_lost: bool
    at: float


def read_record(file: Path) -> list[Recorded]:
    """All starts that are recorded."""
    lines = (line.split() for line in file.read_text().splitlines())
    return [Recorded(int(row), told == "lost", float(at)) for row, told, at in lines]


async def main() -> None:
    loop = asyncio.get_running_loop()
    if sys.platform != "win32":
        loop.add_signal_handler(signal.SIGUSR1, OUTAGE.set)
        loop.add_signal_handler(signal.SIGUSR2, OUTAGE.clear)
    if RECORD is not None:
        STARTS.update(start.row for start in read_record(Path(sys.argv[2])))
    port = int(sys.argv[1]) if RECORD is not None else 0
    server = await loop.create_server(_Connection, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    twice = {row: count for row, count in STARTS.items() if count > 1}
    print(json.dumps({"starts": STARTS.total(), "twice": twice}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
