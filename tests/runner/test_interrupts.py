"""Ctrl-C, SIGTERM and SIGHUP, whenever they come: every row has its status, and the output is there in time."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from ping_server import PingServer, ping_server
from program import PATIENCE, interrupt, run_program, start_program
from served import wait_until

from batch_runner.batch.pool import MOST_ROWS
from batch_runner.batch.stop import Signals
from batch_runner.errors import Interrupted, Terminated
from batch_runner.journal.view import JournalView
from batch_runner.runner.connect import ENDED_WITH_US

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

TASKS = """
import pathlib, time
import anyio

HERE = pathlib.Path(__file__).parent

async def long(params):
    with (HERE / "begun.txt").open("a") as file:
        file.write(params["Row"] + "\\n")
    while not (HERE / "go").exists():
        await anyio.sleep(0.02)
    return {}

def at_work(params):
    with (HERE / "begun.txt").open("a") as file:
        file.write(params["Row"] + "\\n")
    while not (HERE / "go").exists():
        time.sleep(0.02)

async def quick(params):
    with (HERE / "begun.txt").open("a") as file:
        file.write(params["Row"] + "\\n")
    return {}
"""
COMMAND = ("run", "in.csv", "--task", "task.py:long")
EVERY = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASKS)
    return tmp_path


@pytest.fixture
def pings() -> Iterator[PingServer]:
    with ping_server(lambda _: 200) as server:
        yield server


def sheet(path: Path, rows: int, name: str = "r") -> None:
    path.write_text("Row,Amount\n" + "".join(f"{name}{row},{row}.50\n" for row in range(rows)))


def statuses(folder: Path, name: str = "in.results.csv") -> Counter[str]:
    """How many rows of an output have which status; `queued` counts as running."""
    with (folder / name).open(newline="") as file:
        return Counter(record["status"].replace("queued", "running") for record in csv.DictReader(file))


def counted(told: dict[str, Any]) -> Counter[str]:
    """The same of a summary."""
    counts = Counter(told["counts"])
    counts["running"] += counts.pop("queued", 0)
    return counts


def begun(folder: Path) -> list[str]:
    path = folder / "begun.txt"
    return path.read_text().split() if path.exists() else []


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), EVERY)
def test_runs_longer_than_the_grace(folder: Path, number: signal.Signals, code: int) -> None:
    """1,000 rows whose runs don't end: the grace does, every row has a status, all totals add up, and it goes on."""
    sheet(folder / "in.csv", 1000)
    process = start_program(
        *COMMAND, "--concurrency", "3", "--total", "Amount", "--report", "r.html", "--json", cwd=folder
    )
    wait_until(lambda: len(begun(folder)) == 3)
    process.send_signal(number)
    returncode, out, err = ended(process)
    assert returncode == code, err
    assert statuses(folder) == {"running": 3, "not_started": 997}
    told = json.loads(out)
    assert counted(told) == {"running": 3, "not_started": 997}
    assert told["totals"][0]["sums"][0]["difference"] in (0, "0", "0.00")
    assert "bug of ours" not in (folder / "r.html").read_text()
    with (folder / "in.results.csv").open(newline="") as file:
        why = {record["error"] for record in csv.DictReader(file) if record["status"] in ("queued", "running")}
    assert why == {ENDED_WITH_US}
    assert ENDED_WITH_US in run_program("status", "in.results.csv", cwd=folder).stdout
    (folder / "go").touch()
    assert run_program(*COMMAND, "--concurrency", "50", cwd=folder).returncode == 4
    assert statuses(folder) == {"unknown": 3, "success": 997}
    assert len(begun(folder)) == 1000


def with_all_it_started(pid: int) -> Iterator[int]:
    """The process and its children, and theirs."""
    yield pid
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    for child in listed.stdout.split():
        yield from with_all_it_started(int(child))


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_a_signal_for_every_process(folder: Path) -> None:
    """A service manager or a shutdown tells workers, too: what ends in time is recorded as it ended."""
    sheet(folder / "in.csv", 6)
    arguments = ("run", "in.csv", "--task", "task.py:at_work", "--workers", "2", "--concurrency", "2")
    with start_program(*arguments, cwd=folder) as process:
        wait_until(lambda: len(begun(folder)) == 2)
        processes = list(with_all_it_started(process.pid))
        assert len(processes) == 3
        for pid in processes:
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
        (folder / "go").touch()
        code, _, _ = ended(process)
    assert (code, statuses(folder)) == (143, {"success": 2, "not_started": 4})


@pytest.mark.long
def test_a_shutdown_leaves_five_seconds(folder: Path) -> None:
    """20,000 rows, few of them placed when SIGTERM comes: output and summary are there, no row is empty."""
    sheet(folder / "in.csv", 20_000)
    process = start_program(*COMMAND, "--json", cwd=folder)
    wait_until(lambda: len(begun(folder)) == 5)
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    assert (code, counted(json.loads(out))) == (143, {"running": 5, "not_started": 19_995})
    assert statuses(folder) == {"running": 5, "not_started": 19_995}


@pytest.mark.long
def test_a_shutdown_on_the_second_night(folder: Path) -> None:
    """Rows that ended the night before keep their outcomes in the output, though SIGTERM came before they were met."""
    sheet(folder / "in.csv", 3000)
    (folder / "go").touch()
    assert run_program(*COMMAND, "--rows", "2500-2600", "--concurrency", "50", cwd=folder).returncode == 0
    (folder / "go").unlink()
    (folder / "in.results.csv").unlink()
    process = start_program(*COMMAND, "--json", cwd=folder)
    wait_until(lambda: len(begun(folder)) == 106)
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    assert code == 143
    if json.loads(out)["output"] is None:  # on a busy machine there is no time for it, and nothing false is written
        assert not (folder / "in.results.csv").exists()
    else:
        assert statuses(folder) == {"running": 5, "success": 101, "not_started": 2894}


@pytest.mark.soak
@pytest.mark.long
def test_a_shutdown_on_the_second_night_of_a_long_sheet(folder: Path) -> None:
    """100,000 rows, of which some ran: in five seconds there is an output with their outcomes, or it is put off."""
    sheet(folder / "in.csv", MOST_ROWS)
    (folder / "go").touch()
    assert run_program(*COMMAND, "--rows", "90000-90099", "--concurrency", "50", cwd=folder).returncode == 0
    (folder / "go").unlink()
    (folder / "in.results.csv").unlink()
    process = start_program(*COMMAND, "--json", cwd=folder)
    wait_until(lambda: len(begun(folder)) == 105)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    took = time.monotonic() - began
    told = json.loads(out)
    assert code == 143
    if told["output"] is None:
        assert any("the same command goes on and writes it" in note for note in told["notes"])
        assert not (folder / "in.results.csv").exists()
    else:
        assert statuses(folder) == {"running": 5, "success": 100, "not_started": MOST_ROWS - 105}
    assert took < 10, "five on an idle machine; tests run side by side"


@pytest.mark.soak
@pytest.mark.long
def test_more_rows_than_a_shutdown_has_time_for(folder: Path) -> None:
    """No output then, which is said; the journal is whole, and the same command goes on and writes it."""
    rows = MOST_ROWS + 1
    sheet(folder / "in.csv", rows)
    process = start_program(*COMMAND, "--json", cwd=folder)
    wait_until(lambda: len(begun(folder)) == 5)
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    told = json.loads(out)
    assert (code, told["output"], counted(told)) == (143, None, {"running": 5, "not_started": rows - 5})
    assert any("the same command goes on and writes it" in note for note in told["notes"])
    assert not (folder / "in.results.csv").exists()
    with JournalView.open(folder / "task.py-long.journal.db") as journal:
        assert [batch.exit_code for batch in journal.batches()] == [143]
    (folder / "go").touch()
    assert run_program(*COMMAND, "--limit", "100", cwd=folder).returncode == 4
    assert statuses(folder) == {"unknown": 5, "success": 95, "": rows - 100}


@pytest.mark.long
def test_the_canaries_are_cut_off(folder: Path) -> None:
    """An interrupt while only the canaries run: the others are not waited with for ever, and not started."""
    sheet(folder / "in.csv", 300)
    process = start_program(*COMMAND, "--canary", "2", cwd=folder)
    wait_until(lambda: len(begun(folder)) == 2)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == 143
    assert statuses(folder) == {"running": 2, "not_started": 298}


SLOW = """
import pathlib, sys, time
from batch_runner.cli import main
from batch_runner.report import notify
from batch_runner.{module} import {owner}
notify.HURRIED_PATIENCE = 120  # two seconds are too few for a ping where this machine is busy
original = {owner}.{name}
calls = []

def slowly(*arguments, **named):
    result = original(*arguments, **named)
    calls.append(1)
    if len(calls) == {nth}:
        pathlib.Path("there").touch()
        until = time.monotonic() + 170
        while not pathlib.Path("on").exists() and time.monotonic() < until:
            time.sleep(0.01)
    return result

{owner}.{name} = slowly
main(sys.argv[1:])
"""


def start_slowly(folder: Path, where: str, nth: int, *arguments: str) -> subprocess.Popen[str]:
    """Start the program, and wait until it waits after the nth call of `module:owner.name`, which `signalled` ends."""
    module, _, path = where.partition(":")
    owner, _, name = path.partition(".")
    code = SLOW.format(module=module, owner=owner, name=name, nth=nth)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until((folder / "there").exists)
    return process


def signalled(folder: Path, process: subprocess.Popen[str], number: int) -> tuple[int, str, str]:
    process.send_signal(number)
    time.sleep(0.2)
    (folder / "on").touch()
    return ended(process)


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), EVERY)
def test_while_the_first_sheet_is_read(folder: Path, pings: PingServer, number: signal.Signals, code: int) -> None:
    """Before anything was sent it ends at once with its code, one sentence and `/fail`; with `--json`, its object."""
    sheet(folder / "in.csv", 3)
    url = f"{pings.url}/u"
    process = start_slowly(folder, "fs:AtomicFile.prepare", 1, *COMMAND, "--json", "--heartbeat", url)
    returncode, out, err = signalled(folder, process, number)
    assert returncode == code
    said = [line for line in err.splitlines() if "still counting what there is to do" not in line]  # it takes its time
    assert said == ["batch-runner: interrupted before anything was sent; run the same command"]
    assert json.loads(out)["exit_code"] == code
    assert pings.paths == ["/u/start", "/u/fail"]
    assert begun(folder) == []


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), EVERY)
def test_while_the_next_sheet_is_opened(folder: Path, pings: PingServer, number: signal.Signals, code: int) -> None:
    """Output, summary and `/fail` as at any other time; what was not reached goes on with the same command."""
    (folder / "inbox").mkdir()
    for name in ("a", "b"):
        sheet(folder / "inbox" / f"{name}.csv", 2, name)
    words = ["run", "inbox/*.csv", "--task", "task.py:quick", "--json", "--heartbeat", f"{pings.url}/u"]
    opened_before = 2  # both were looked over
    process = start_slowly(folder, "fs:AtomicFile.prepare", opened_before + 2, *words)
    wait_until((folder / "inbox" / "a.results.csv").exists)
    returncode, out, _ = signalled(folder, process, number)
    told = json.loads(out)
    assert (returncode, told["exit_code"]) == (code, code)
    assert statuses(folder / "inbox", "a.results.csv") == {"success": 2}
    assert statuses(folder / "inbox", "b.results.csv") == {"not_started": 2}
    assert [batch["exit_code"] for batch in told["batches"]] == [0, code]
    assert pings.paths == ["/u/start", "/u/fail"]


@pytest.mark.long
@pytest.mark.parametrize("where", ["output.output:Output.write", "report.notify:Notifier.hears"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_end_is_told(folder: Path, pings: PingServer, number: signal.Signals, where: str) -> None:
    """A batch that is complete keeps its code, its output, its summary and its ping."""
    sheet(folder / "in.csv", 3)
    words = ["run", "in.csv", "--task", "task.py:quick", "--json", "--heartbeat", f"{pings.url}/u"]
    process = start_slowly(folder, where, 1, *words)
    returncode, out, _ = signalled(folder, process, number)
    assert (returncode, json.loads(out)["exit_code"]) == (0, 0)
    assert statuses(folder) == {"success": 3}
    assert pings.paths == ["/u/start", "/u"]


@pytest.mark.long
def test_the_second_leaves_at_once_whenever_it_comes(folder: Path) -> None:
    """Also while the end is told."""
    sheet(folder / "in.csv", 3)
    process = start_slowly(folder, "report.notify:Notifier.hears", 1, "run", "in.csv", "--task", "task.py:quick")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[:2] == (143, "")


def test_nohup_is_heeded(folder: Path) -> None:
    """Who had SIGHUP ignored wants the batch to go on when the terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Terminated)])
def test_signals_are_given_back(number: signal.Signals, error: type[Exception]) -> None:
    """Before a batch the first one raises; afterwards whoever had them has them again."""
    before = signal.getsignal(number)
    with pytest.raises(error), Signals():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_signal_that_came_early_is_heard(backend: str) -> None:
    """One that came after the sheet was opened, and before anybody waited for it, isn't lost."""

    async def wait(signals: Signals) -> int:
        with anyio.fail_after(60):
            return await signals.first()

    with Signals() as signals, signals.handed_over():
        signal.raise_signal(signal.SIGTERM)
        assert anyio.run(wait, signals, backend=backend) == 143


@pytest.mark.long
def test_the_interrupt_is_told_once(folder: Path) -> None:
    """The sentence that says what goes on, and how to leave at once."""
    sheet(folder / "in.csv", 3)
    process = start_program(*COMMAND, cwd=folder)
    wait_until(lambda: len(begun(folder)) == 3)
    interrupt(process, signal.SIGINT, folder / "go")
    assert process.wait(PATIENCE) == 0
    process.communicate()
