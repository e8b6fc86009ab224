"""A start whose answer was lost, against our own service: it is asked for by its key, and is one run."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from ports import kept_port
from program import PATIENCE, run_program, start_program
from scripted_server import Connection, serving
from served import served, wait_until

from batch_runner.journal.view import JournalView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TASK = """
from pathlib import Path

async def pay(params):
    with Path(__file__).with_name("paid.txt").open("a") as paid:
        paid.write(params["Row"] + "\\n")
    return params["Row"]
"""
ROWS = 30


class LossyProxy:
    """Passes requests on to a service, and loses of a row's start what `loses(row, times)` says."""

    def __init__(self, target: int, loses: Callable[[str, int], str]) -> None:
        self.url = ""
        self.starts: Counter[str] = Counter()
        self._target = target
        self._loses = loses

    async def script(self, connection: Connection) -> None:
        while request := await connection.request():
            lost = ""
            if request.startswith(b"POST "):
                row = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]["Row"]
                self.starts[row] += 1
                lost = self._loses(row, self.starts[row])
            if lost == "request":
                return
            answer = await self._passed_on(request)
            if lost == "answer":
                return
            if lost == "held":
                await anyio.sleep_forever()
            await connection.send(answer)

    async def _passed_on(self, request: bytes) -> bytes:
        async with await anyio.connect_tcp("127.0.0.1", self._target) as stream:
            await stream.send(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            return b"".join([part async for part in stream])


@contextmanager
def lossy(url: str, loses: Callable[[str, int], str]) -> Iterator[LossyProxy]:
    """The proxy before a service, in a thread of its own."""
    proxy = LossyProxy(int(url.rpartition(":")[2]), loses)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(proxy.script)) as server:
        proxy.url = server.url
        yield proxy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Row\n" + "".join(f"r{row}\n" for row in range(ROWS)))
    return tmp_path


def command(url: str, *options: str) -> tuple[str, ...]:
    return ("run", "in.csv", "--task", "pay", "--service", url, "--json", "--poll-rate", "1000/s", *options)


def paid(folder: Path) -> list[str]:
    path = folder / "paid.txt"
    return sorted(path.read_text().split()) if path.exists() else []


def all_but_one_ended(folder: Path) -> bool:
    """Whether the journal has the ends of all rows but the one whose answer is held."""
    journal = folder / "pay.journal.db"
    if len(paid(folder)) < ROWS or not journal.exists():
        return False
    with JournalView.open(journal) as view:
        return any(count.status == "success" and count.rows == ROWS - 1 for count in view.counts(1))


def counts(done: Any) -> dict[str, int]:
    found: dict[str, int] = json.loads(done.stdout)["counts"]
    return found


@pytest.mark.long
def test_lost_answers_are_asked_for(folder: Path) -> None:
    """A third of the answers is lost, once or twice, delivered or not: every row succeeds, and each is one run."""

    def loses(row: str, times: int) -> str:
        number = int(row[1:])
        return ("answer", "request")[number % 2] if number % 3 == 1 and times <= 1 + number % 2 else ""

    with served(folder, "--tasks", str(folder / "task.py")) as service, lossy(service.url, loses) as proxy:
        done = run_program(*command(proxy.url), cwd=folder)
    assert (done.returncode, counts(done)) == (0, {"success": ROWS}), done.stderr
    assert paid(folder) == sorted(f"r{row}" for row in range(ROWS))
    assert proxy.starts["r1"] == 3
    assert proxy.starts["r4"] == 2


@pytest.mark.long
def test_a_killed_batch_asks_the_next_night(folder: Path) -> None:
    """kill -9 while the answer is awaited: the same command learns what came of it, and nothing runs twice."""

    def loses(row: str, times: int) -> str:
        return "held" if row == "r7" and times == 1 else ""

    with served(folder, "--tasks", str(folder / "task.py")) as service, lossy(service.url, loses) as proxy:
        process = start_program(*command(proxy.url, "--concurrency", "2"), cwd=folder)
        wait_until(lambda: all_but_one_ended(folder))
        process.kill()
        process.communicate(timeout=PATIENCE)
        done = run_program(*command(proxy.url), cwd=folder)
    assert (done.returncode, counts(done)) == (0, {"success": ROWS}), done.stderr
    assert paid(folder) == sorted(f"r{row}" for row in range(ROWS))
    assert proxy.starts["r7"] == 2


@pytest.mark.long
def test_another_memory_knows_nothing(folder: Path) -> None:
    """A service with other runs behind the same address: the row stays unknown, and isn't started there."""

    def loses(row: str, times: int) -> str:
        return "held" if row == "r7" and times == 1 else ""

    tasks = ("--tasks", str(folder / "task.py"))
    with kept_port() as port, lossy(f"http://127.0.0.1:{port}", loses) as proxy:
        with served(folder, *tasks, "--runs", "first.db", port=port):
            process = start_program(*command(proxy.url, "--concurrency", "2"), cwd=folder)
            wait_until(lambda: all_but_one_ended(folder))
            process.kill()
            process.communicate(timeout=PATIENCE)
        with served(folder, *tasks, "--runs", "second.db", port=port):
            done = run_program(*command(proxy.url), cwd=folder)
    assert done.returncode == 4, done.stderr
    assert counts(done)["unknown"] >= 1
    assert paid(folder) == sorted(f"r{row}" for row in range(ROWS))
    assert proxy.starts["r7"] == 1


@pytest.mark.long
def test_a_forgotten_key_is_not_sent_again(folder: Path) -> None:
    """A start that is older than the service's memory stays unknown."""

    def loses(row: str, times: int) -> str:
        return "held" if row == "r7" and times == 1 else ""

    tasks = ("--tasks", str(folder / "task.py"), "--keep", "3s")
    with served(folder, *tasks) as service, lossy(service.url, loses) as proxy:
        process = start_program(*command(proxy.url, "--concurrency", "2"), cwd=folder)
        wait_until(lambda: all_but_one_ended(folder))
        process.kill()
        process.communicate(timeout=PATIENCE)
        time.sleep(3)
        done = run_program(*command(proxy.url), cwd=folder)
    assert done.returncode == 4, done.stderr
    assert proxy.starts["r7"] == 1
    assert Counter(paid(folder)).most_common(1)[0][1] == 1


def two_nights(
    folder: Path, lost: set[str], *options: str, runs: str = "second.db", anchor: bool = False
) -> tuple[Any, Counter[str]]:
    """Killed while the answers of these rows are awaited; then the same sheet and a row more, on this memory.

    Gives the second batch, and how often each row was sent. `anchor`: that batch is given the address as Anchor's.
    """
    tasks = ("--tasks", str(folder / "task.py"))
    rows = [f"r{row}" for row in range(ROWS)]

    def others_ended() -> bool:
        journal = folder / "pay.journal.db"
        if len(paid(folder)) < ROWS or not journal.exists():
            return False
        with JournalView.open(journal) as view:
            return any(count.status == "success" and count.rows == ROWS - len(lost) for count in view.counts(1))

    def loses(row: str, times: int) -> str:
        return "held" if row in lost and times == 1 else ""

    with kept_port() as port, lossy(f"http://127.0.0.1:{port}", loses) as proxy:
        with served(folder, *tasks, "--runs", "first.db", port=port):
            process = start_program(*command(proxy.url, "--concurrency", str(len(lost) + 1)), cwd=folder)
            wait_until(others_ended)
            process.kill()
            process.communicate(timeout=PATIENCE)
        (folder / "in.csv").write_text("Row\n" + "\n".join([*rows, "new"]) + "\n")
        said = {"ANCHORBROWSER_BASE_URL": proxy.url, "ANCHORBROWSER_API_KEY": "none-is-wanted"} if anchor else {}
        with served(folder, *tasks, "--runs", runs, port=port):
            done = run_program(*command("anchor" if anchor else proxy.url, *options), cwd=folder, **said)
    return done, proxy.starts


@pytest.mark.long
def test_a_person_may_have_it_sent_all_the_same(folder: Path) -> None:
    """`--retry unknown` sends a row anew whose service has forgotten its key; once, and not again in the same night."""
    done, starts = two_nights(folder, {"r7"}, "--retry", "unknown", "--retry-wait", "0")
    assert (done.returncode, counts(done)) == (0, {"success": ROWS + 1})
    assert starts["r7"] == 2


@pytest.mark.long
def test_rows_that_nobody_can_be_asked_for_are_no_news(folder: Path) -> None:
    """However many they are, they neither stop the batch nor count as its failures: the rest of the sheet is sent."""
    lost = {f"r{row}" for row in range(12)}
    done, starts = two_nights(folder, lost, "--canary", "1")
    assert (done.returncode, counts(done)) == (4, {"success": ROWS - 11, "unknown": 12}), done.stderr
    assert starts["new"] == 1
    assert {starts[row] for row in lost} == {1}


@pytest.mark.long
def test_without_its_key_nothing_is_asked(folder: Path) -> None:
    """The same address as `--service anchor`, which is sent no keys: the start would be another one there."""
    done, starts = two_nights(folder, {"r7"}, runs="first.db", anchor=True)
    assert (done.returncode, counts(done)) == (4, {"success": ROWS, "unknown": 1}), done.stderr
    assert starts["r7"] == 1


@pytest.mark.long
def test_a_service_that_says_nothing_is_not_asked(folder: Path) -> None:
    """Towards any other service a lost answer is `unknown` at once, as ever: one POST, and no request beside."""
    requests: list[bytes] = []

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            requests.append(request.partition(b" HTTP")[0])
            return

    (folder / "in.csv").write_text("Row\nr1\n")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(script)) as server:
        done = run_program(*command(server.url), cwd=folder)
    assert (done.returncode, counts(done)) == (4, {"unknown": 1})
    assert requests == [b"POST /v2/tasks/pay/run"]


@pytest.mark.long
@pytest.mark.parametrize("is_served", [False, True], ids=["in this program", "over a socket"])
def test_the_number_of_the_row_reaches_the_task(folder: Path, is_served: bool) -> None:
    """`context.row` is what Excel shows, whoever runs the task."""
    (folder / "task.py").write_text("def pay(params, context):\n    return context.row\n")
    with served(folder, "--tasks", str(folder / "task.py")) as service:
        how = ("pay", "--service", service.url) if is_served else ("task.py:pay",)
        run_program("run", "in.csv", "--task", *how, cwd=folder)
    with (folder / "in.results.csv").open(newline="") as file:
        results = [int(row["result"]) for row in csv.DictReader(file)]
    assert results == list(range(2, ROWS + 2))
