"""The whole program beside its peers: CPU seconds for one POST per row, journal and output included for ours.

Run: `python tests/benchmarks/bench_program.py [ROWS]` (20,000). GNU parallel with curl and newman do the first 1,000
rows; they are installed first where apt-get and npm are there, and left out with a word where they aren't. The service
is a process of its own that answers at once; its time isn't counted. Read the ratios: the seconds are the machine's.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from instant_service import instant_service
from measured import apart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PEER_ROWS = 1_000
IN_FLIGHT = 64
COLUMNS = 12

BARE_POOL = """
import csv, sys, aiohttp, anyio
async def main(path, url, workers):
    send, receive = anyio.create_memory_object_stream(0)
    async def work(receive, session):
        async with receive:
            async for row in receive:
                async with session.post(url, json={"input_params": row}) as answer:
                    await answer.read()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, anyio.create_task_group() as pool, send:
        for _ in range(workers):
            pool.start_soon(work, receive.clone(), session)
        receive.close()
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                await send.send(row)
anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def write_sheet(path: Path, rows: int) -> None:
    """A sheet of distinct texts."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([f"Column {number}" for number in range(COLUMNS)])
        writer.writerows([f"value {row} {number}" for number in range(COLUMNS)] for row in range(rows))


def cpu_of(command: Sequence[str], folder: Path, stdin: Path | None = None) -> float:
    """CPU seconds, user and system, of a command and all its children."""
    before = os.times()
    with (stdin or Path(os.devnull)).open() as source:
        subprocess.run(
            command,
            cwd=folder,
            env=apart(folder),
            stdin=source,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def ours(folder: Path, url: str, rows: int, in_flight: int = IN_FLIGHT) -> float:
    """`batch-runner run` on a fresh sheet of so many rows."""
    for path in folder.glob("sheet*"):
        path.unlink()
    write_sheet(folder / "sheet.csv", rows)
    options = ["--task", "t", "--service", url, "--concurrency", str(in_flight), "--progress", "never"]
    return cpu_of([sys.executable, "-m", "batch_runner", "run", "sheet.csv", *options], folder)


def bare_pool(folder: Path, url: str, rows: int) -> float:
    """An anyio pool over aiohttp that only POSTs: no journal, no output, no answers read."""
    write_sheet(folder / "bare.csv", rows)
    return cpu_of([sys.executable, "-c", BARE_POOL, "bare.csv", f"{url}/v2/tasks/t/run", str(IN_FLIGHT)], folder)


def gnu_parallel(folder: Path, url: str, rows: int) -> float:
    """GNU parallel starting one curl per row."""
    bodies = folder / "bodies.jsonl"
    bodies.write_text("".join(f"{json.dumps({'input_params': {'Row': str(row)}})}\n" for row in range(rows)))
    post = f"curl -s -H 'Content-Type: application/json' -d {{}} {url}/v2/tasks/t/run"
    return cpu_of(["parallel", "--will-cite", f"-j{IN_FLIGHT}", post], folder, stdin=bodies)


def newman(folder: Path, url: str, rows: int) -> float:
    """Newman with one iteration per row; it sends one request at a time."""
    item = {
        "name": "start",
        "request": {
            "method": "POST",
            "url": f"{url}/v2/tasks/t/run",
            "header": [{"key": "Content-Type", "value": "application/json"}],
            "body": {"mode": "raw", "raw": '{"input_params": {"Column 0": "{{Column 0}}"}}'},
        },
    }
    schema = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
    collection = {"info": {"name": "bench", "schema": schema}, "item": [item]}
    (folder / "collection.json").write_text(json.dumps(collection))
    write_sheet(folder / "rows.csv", rows)
    command = [str(folder / "node_modules" / ".bin" / "newman"), "run", "collection.json", "-d", "rows.csv"]
    return cpu_of([*command, "--reporters", "json", "--reporter-json-export", os.devnull], folder)


def install(folder: Path) -> dict[str, Callable[[Path, str, int], float]]:
    """The peers that can be had here."""
    peers: dict[str, Callable[[Path, str, int], float]] = {}
    if shutil.which("parallel") is None and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-qy", "parallel", "curl"], stdout=subprocess.DEVNULL, check=False)
    if shutil.which("parallel") and shutil.which("curl"):
        peers["GNU parallel + curl"] = gnu_parallel
    if shutil.which("npm"):
        subprocess.run(["npm", "install", "--silent", "newman"], cwd=folder, stdout=subprocess.DEVNULL, check=False)
    if (folder / "node_modules" / ".bin" / "newman").exists():
        peers["newman"] = newman
    return peers


def report(name: str, seconds: float, rows: int, our_row: float) -> None:
    """One line: seconds, milliseconds a row, and how many times ours that is."""
    row = seconds / rows
    print(f"{name:28} {rows:>9,} rows {seconds:8.2f} s CPU {row * 1000:8.3f} ms/row {row / our_row:7.2f} × ours")


def main() -> None:
    """Print the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name, instant_service() as url:
        folder = Path(name)
        peers = install(folder)
        whole = ours(folder, url, rows)
        report("batch-runner", whole, rows, whole / rows)
        report("bare anyio + aiohttp pool", bare_pool(folder, url, rows), rows, whole / rows)
        for in_flight in (16, 1000):
            report(f"batch-runner, {in_flight} in flight", ours(folder, url, rows, in_flight), rows, whole / rows)
        few = ours(folder, url, PEER_ROWS)
        report("batch-runner", few, PEER_ROWS, few / PEER_ROWS)
        for peer, measure in peers.items():
            report(peer, measure(folder, url, PEER_ROWS), PEER_ROWS, few / PEER_ROWS)


if __name__ == "__main__":
    main()
