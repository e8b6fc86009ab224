"""`batch-runner open` in a process of its own, and what is asked of it. Not a test module."""

from __future__ import annotations

import csv
import html
import re
import shlex
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx
from program import PATIENCE, start_program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

TASKS = """
import time
from pathlib import Path

def pay(params):
    if params.get("Amount", "").startswith("-"):
        raise ValueError("a credit note is not paid")
    return {"paid": params["Amount"], "to": params["Vendor"]}

def wait(params):
    while not Path("go").exists():
        time.sleep(0.05)
    return {"waited": params["Id"]}
"""


class Paged:
    """A page that is open: `address` is its first line, `http` a client that has its cookie."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address
        split = urlsplit(address)
        self.base, self.token = f"http://{split.netloc}", parse_qs(split.query)["token"][0]
        self.http = self.client()

    def enter(self) -> None:
        """Open the first address, as the browser does."""
        assert self.http.get(f"/?token={self.token}", follow_redirects=True).status_code == 200

    def client(self) -> httpx.Client:
        """One that nobody has let in yet."""
        return httpx.Client(base_url=self.base, timeout=PATIENCE, trust_env=False)

    def show(self, path: str, **query: str | list[str]) -> str:
        """The text of a screen, once all of it is there: on a busy machine a plan may come later than its sheet."""
        until = time.monotonic() + PATIENCE
        while True:
            answer = self.http.get(path, params=query or None)
            assert answer.status_code == 200, answer.text
            if "data-again" not in answer.text or time.monotonic() > until:
                return answer.text
            time.sleep(0.1)

    def send(self, path: str, **form: str) -> httpx.Response:
        """Send a form as a browser without script does; gives the screen that it leads to."""
        return self.http.post(path, data=form, headers={"Origin": self.base}, follow_redirects=True)

    def finish(self, answer: httpx.Response) -> str:
        """Look at a batch until it has ended; gives its screen."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            text = self.http.get(str(answer.url)).text
            if "Open <bdi>" in text or "It did not begin" in text or "There was nothing to do" in text:
                return text
            time.sleep(0.1)
        raise AssertionError(text)

    def end(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Send a signal and wait for the end; gives the exit code, and what else was said."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


def hidden_fields(text: str, action: str) -> dict[str, str]:
    """The fields of the form with this action, as they stand."""
    form = re.search(rf'<form action="{action}".*?</form>', text, re.DOTALL)
    assert form, text
    found = re.findall(r'<input[^>]*?name="([^"]*)"[^>]*?value="([^"]*)"', form[0])
    return {html.unescape(name): html.unescape(value) for name, value in found}


def commands_of(text: str) -> list[list[str]]:
    """The commands that a screen says do the same in a shell, word by word."""
    found = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", text.partition("<footer>")[2], re.DOTALL)
    return [shlex.split(html.unescape(command)) for command in found]


def plain(text: str) -> str:
    """What a person reads of a screen, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a result file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write_sheet(folder: Path, rows: int = 4) -> Path:
    """A sheet of a few payments beside its tasks; row 3 can't be paid."""
    (folder / "tasks.py").write_text(TASKS, "utf-8")
    lines = [f"{n:03},Vendor {n},{'-' if n == 2 else ''}{n}.50" for n in range(1, rows + 1)]
    path = folder / "list.csv"
    path.write_text("\n".join(["Id,Vendor,Amount", *lines]) + "\n", "utf-8")
    return path


@contextmanager
def paged(folder: Path, *options: object, **variables: str) -> Iterator[Paged]:
    """Open the page of a folder, or what `options` begin with, on a free port; killed at the end, if it still runs."""
    state = folder.parent / f"{folder.name}-state"
    process = start_program(
        "open", *(options or (folder,)), "--no-browser", cwd=folder, BATCH_RUNNER_STATE=str(state), **variables
    )
    with process:
        try:
            assert process.stdout is not None
            page = Paged(process, process.stdout.readline().strip())
            with page.http:
                page.enter()
                yield page
        finally:
            process.kill()
