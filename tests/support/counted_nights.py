"""Nights of the real program over sheets in a folder; the starts are counted at the service. Not a test module."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from program import run_program

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from remembering_service import Service

OPEN_ITEMS = ("A-1", "A-2", "A-3", "A-4")


class Night:
    """Runs the program on sheets in a folder, with `check` before each run, and knows what was started."""

    def __init__(self, folder: Path, service: Service, *, quiet: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.service = service
        self.quiet = ("--quiet",) if quiet else ()

    def sheet(self, name: str, rows: tuple[str, ...] = OPEN_ITEMS, amount: str = "10") -> str:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text("Row,Amount\n" + "".join(f"{row},{amount}\n" for row in rows))
        return name

    def call(self, command: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        where = ("--task", "pay", "--service", self.service.url, "--poll-rate", "1000/s", "--concurrency", "1")
        key = () if "--key" in words else ("--key", "Row")
        return run_program(command, *where, *key, *words, cwd=self.folder, **variables)

    def run(self, *words: str, code: int = 0, **variables: str) -> list[str]:
        """Which rows were started; `check` has told how many."""
        before = len(self.service.starts)
        checked = self.call("check", *(word for word in words if word != "--quiet"), "--json", **variables)
        done = self.call("run", *words, *self.quiet, **variables)
        assert done.returncode == code, done.stdout + done.stderr
        self.said = done.stdout + done.stderr
        started = self.service.starts[before:]
        if checked.returncode != 2:
            pages = json.loads(checked.stdout)
            plans = [page["plan"] for page in pages.get("batches", [pages])]
            assert sum(plan["start"] + plan["retried"] for plan in plans) == len(started)
            self.held = sum(plan["held"] for plan in plans)
        else:
            assert code == 2
        return started

    def status(self, *words: str) -> str:
        return run_program("status", *words, cwd=self.folder).stdout

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))

    def statuses(self, name: str) -> list[str]:
        return [row["status"] for row in self.rows(name)]
