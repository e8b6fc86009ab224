"""Nights of the real program over sheets in a folder; the starts are counted at the service. Not a test module."""

from __future__ import annotations

import csv
import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from killing import Moment
from killing import run as run_killed
from openpyxl import Workbook, load_workbook
from program import run_program
from systems import KILLED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from remembering_service import Service

OPEN_ITEMS = ("A-1", "A-2", "A-3", "A-4")
BEFORE_THE_OUTPUT = ("intent commit", "send", "run-id commit", "poll", "outcome commit")
AFTER_THE_LAST_RUN = ("output", "check", "note of the output", "index of outputs", "last commit")
WRITES = ("fsync", "rename")
Table = list[list[str]]


class Night:
    """Runs the program on sheets in a folder, with `check` before each run, and knows what was started."""

    def __init__(self, folder: Path, service: Service, *, quiet: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.service = service
        self.quiet = ("--quiet",) if quiet else ()
        self.key: tuple[str, ...] = ("--key", "Row")
        self.said = ""
        self.held = 0

    def sheet(self, name: str, rows: tuple[str, ...] = OPEN_ITEMS, amount: str = "10") -> str:
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text("Row,Amount\n" + "".join(f"{row},{amount}\n" for row in rows))
        return name

    def command(self, *words: str) -> list[str]:
        """The words of a command over a sheet, but for the first."""
        where = ("--task", "pay", "--service", self.service.url, "--poll-rate", "1000/s", "--concurrency", "1")
        key = () if "--key" in words else self.key
        return [*where, *key, *words]

    def call(self, command: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run_program(command, *self.command(*words), cwd=self.folder, **variables)

    def run(self, *words: str, code: int | Iterable[int] = 0, **variables: str) -> list[str]:
        """Which rows were started; `check` has told how many."""
        before = len(self.service.starts)
        checked = self.call("check", *(word for word in words if word != "--quiet"), "--json", **variables)
        done = self.call("run", *words, *self.quiet, **variables)
        codes = (code,) if isinstance(code, int) else tuple(code)
        assert done.returncode in codes, done.stdout + done.stderr
        self.said = done.stdout + done.stderr
        started = self.service.starts[before:]
        assert (checked.returncode == 2) == (done.returncode == 2), checked.stderr
        if checked.returncode != 2:
            pages = json.loads(checked.stdout)
            plans = [page["plan"] for page in pages.get("batches", [pages])]
            assert sum(plan["start"] + plan["retried"] for plan in plans) == len(started)
            self.held = sum(plan["held"] for plan in plans)
        return started

    def status(self, *words: str) -> str:
        return run_program("status", *words, cwd=self.folder).stdout

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))

    def statuses(self, name: str) -> list[str]:
        return [row["status"] for row in self.rows(name)]


class Scene(Night):
    """Nights as somebody has them who isn't careful; played as told, with `--quiet`, or killed at drawn instants.

    What is expected stands beside each night: which rows start in it, its exit code, and what a person has to hear,
    with `--quiet`, too. A killed night is run again until it ends; then no row was started that isn't expected, none
    more often, and one that was not is `unknown`.
    """

    def __init__(self, folder: Path, service: Service, mode: str, seed: str) -> None:
        super().__init__(folder, service, quiet=mode == "quiet")
        self.mode = mode
        self.seed = seed
        self.is_killed = mode.startswith("killed")
        self._chance = random.Random(f"{mode} {seed}")
        self._kills = 0

    def beside(self, name: str) -> Scene:
        """The same person in another folder."""
        return Scene(self.folder.with_name(name), self.service, self.mode, f"{self.seed} {name}")

    def night(
        self,
        *words: str,
        starts: Sequence[str] = (),
        code: int = 0,
        hears: Sequence[str] = (),
        held: int | None = None,
        **variables: str,
    ) -> None:
        """One night. Without a word for her, and with every row well, `--quiet` says nothing at all."""
        if self.is_killed and not variables:
            self._killed_night(words, starts, code)
            return
        started = self.run(*words, code=code, **variables)
        assert sorted(started) == sorted(starts), self.said
        for sentence in hears:
            assert sentence in self.said, f"{sentence!r} is not in: {self.said}"
        if self.quiet and code == 0 and not hears:
            assert not self.said, f"--quiet says: {self.said}"
        assert held is None or self.held == held

    def _killed_night(self, words: tuple[str, ...], starts: Sequence[str], code: int) -> None:
        before = len(self.service.starts)
        died = run_killed(self.folder, ["run", *self.command(*words)], self._draw(bool(starts)))
        if died == KILLED:
            self._kills += 1
            self._settle()
            self.run(*words, code=(code, 4))
        else:
            assert died in (code, 4)
        started = Counter(self.service.starts[before:])
        assert started <= Counter(starts), started
        assert (Counter(starts) - started).total() <= self._kills

    def _settle(self) -> None:
        """Wait for what was on its way to the service when the program was killed."""
        seen = -1
        while seen < (seen := len(self.service.starts)):
            time.sleep(0.1)

    def _draw(self, has_starts: bool) -> Moment:
        """When the night is killed: the moment may not come."""
        boundaries = (*(BEFORE_THE_OUTPUT * 2 if has_starts else ()), *AFTER_THE_LAST_RUN, *WRITES)
        boundary = self._chance.choice(boundaries)
        nth = self._chance.randint(1, 3) if boundary in (*BEFORE_THE_OUTPUT, *WRITES) else 1
        return Moment(self._chance.choice(("before", "after")), boundary, nth)

    def shows(self, name: str, *statuses: str) -> None:
        """What stands in an output, from top to bottom; after a kill a row whose answer was lost is `unknown`."""
        table = self.read(name)
        place = [header.lower() for header in table[0]].index("status")
        found = [row[place] for row in table[1:]]
        if self.is_killed and len(found) == len(statuses):
            lost = [place for place, status in enumerate(found) if status == "unknown" != statuses[place]]
            assert len(lost) <= self._kills
            found = [statuses[place] if place in lost else status for place, status in enumerate(found)]
        assert found == list(statuses)

    def read(self, name: str) -> Table:
        """Every cell of a sheet."""
        path = self.folder / name
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return list(csv.reader(file))
        page = load_workbook(path).active
        assert page is not None
        return [["" if cell is None else str(cell) for cell in row] for row in page.iter_rows(values_only=True)]

    def write(self, name: str, table: Sequence[Sequence[str]]) -> str:
        """A sheet as a person's program saves it; gives its name."""
        path = self.folder / name
        if path.suffix == ".csv":
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows(table)
            return name
        book = Workbook()
        assert book.active is not None
        for row in table:
            book.active.append(list(row))
        book.save(path)
        return name

    def rekey(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Give the journal of the task another key."""
        return run_program("rekey", "pay.journal.db", *words, cwd=self.folder)
