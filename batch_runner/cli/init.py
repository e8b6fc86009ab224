"""`init`: a short job file for a sheet, its columns filled in; and what runs a job every night."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path, PurePath
from subprocess import list2cmdline
from typing import TYPE_CHECKING, Final

import click
import msgspec

from batch_runner.errors import SheetError, UsageError, reason_of
from batch_runner.fs import have_temporary_folder
from batch_runner.job.job import Job
from batch_runner.job.options import options, toml
from batch_runner.rows.amounts import EITHER, Amount, read_amount
from batch_runner.rows.keys import KeyFinder
from batch_runner.rows.source import Source
from batch_runner.units import problem_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


SKIP: Final = "skip"
_DECIMALS = re.compile(r"[.,][0-9]{1,2}\b")
_PADDED = re.compile(r"[^0-9]*0[0-9]")
_AMOUNT_WORDS = re.compile(
    r"amount|total|sum|net|gross|price|betrag|preis|brutto|montant|prix|importe|precio|importo|bedrag|kwota|valor",
    re.IGNORECASE,
)


class Seen(msgspec.Struct, frozen=True):
    """What a sheet shows of itself: its columns, those whose values are all different, those that hold amounts.

    `hidden` says that it has hidden rows, about which a job must say something.
    """

    sheet: str | None
    header_row: int
    columns: tuple[str, ...]
    different: tuple[str, ...]
    amounts: tuple[str, ...]
    hidden: bool
    key: tuple[str, ...] = ()
    """The column, or the two, by which a row would be known."""


class _Column:
    """What the texts of one column have in common so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_different = True
        """Every row has a text, and no two have the same."""
        self._seen: set[int] = set()
        self._numbers = self._texts = self._decimals = 0

    def add(self, text: str) -> None:
        if self.is_different:
            known = hash(text)
            self.is_different = bool(text) and known not in self._seen
            self._seen.add(known)
        if text:
            amount = read_amount(text)
            self._texts += 1
            self._numbers += amount == EITHER or (isinstance(amount, Amount) and not _PADDED.match(text))
            self._decimals += bool(isinstance(amount, Amount) and (amount.currency or _DECIMALS.search(text)))

    @property
    def is_amount(self) -> bool:
        """Amounts only, some with decimals or a currency, or under a header that speaks of money."""
        return 0 < self._texts == self._numbers and bool(self._decimals or _AMOUNT_WORDS.search(self.name))


def look(path: Path, sheet: str | None) -> Seen:
    """Read a sheet once. Raises `SheetError` and `UsageError` where it can't be used, and not only for hidden rows."""
    try:
        return _look(Job(input=str(path), sheet=sheet), hidden=False)
    except SheetError:
        try:
            return _look(Job(input=str(path), sheet=sheet, hidden=SKIP), hidden=True)
        except SheetError:
            pass
        raise


def write(path: Path, text: str) -> None:
    """Write a new file. Raises `UsageError` where there is one already, or none can be made."""
    if problem := problem_of_name(path):
        raise UsageError(f"{path}: {problem}; name another with -o")
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path}: there is such a file already, which is kept; name another with -o") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be written: {reason_of(error)}; name another with -o") from None


def job_file(sheet: Path, folder: Path, seen: Seen, said: dict[str, object]) -> str:
    """The text of a job file that is to lie in `folder`; `said` are the options that a person named.

    Raises `UsageError` for a path that no text can hold.
    """
    relative = os.path.relpath(sheet, folder)
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{relative!r}: the name holds bytes that are no text; rename the file") from None
    return "\n".join([*_head(sheet, seen), f"input = {toml(relative)}", *_lines(seen, said)]) + "\n"


def _lines(seen: Seen, said: dict[str, object]) -> Iterator[str]:
    """The options that most jobs need; a proposal that nobody has agreed to yet has a `#` before it."""
    if seen.hidden:
        yield f"hidden = {toml(SKIP)}  # the sheet has hidden or filtered-out rows: skip or include them"
    proposed: dict[str, tuple[object, str]] = {
        "sheet": (None, ""),
        "task": ("TASK_ID", "invoice, FILE.py:FUNCTION, or the id of a task of the service"),
        "service": ("anchor", "who runs it; without this line, this program itself"),
        "columns": (seen.columns[:5], "send only these"),
        "key": (seen.key or seen.columns[:1], "what makes a row the same row tomorrow"),
        "report": ("{stem}.report.html", "a page for people"),
        "retry": (["failure", "timeout"], "start these again the next night"),
        "deadline": ("06:00", "start nothing later than that"),
    }
    for name, (value, why) in proposed.items():
        if name in said:
            yield f"{name} = {toml(said[name])}"
        elif value:
            yield f"# {name} = {toml(value)}  # {why}"
    if seen.amounts:
        yield f"total = {toml(seen.amounts)}  # added up by currency and outcome"


def ask(seen: Seen, said: dict[str, object]) -> dict[str, object]:
    """What was said, and at a terminal what a person answers to the rest: an empty answer leaves it open."""
    proposals = {"task": "invoice", "key": ",".join(seen.key), "columns": ""}
    questions = {
        "task": "The task to run (invoice, FILE.py:FUNCTION, or an id of the service)",
        "key": f"The columns that make a row the same row tomorrow, of {', '.join(seen.columns)}",
        "columns": "The columns to send (none: all)",
    }
    for name in [name for name in questions if name not in said]:
        answer = click.prompt(questions[name], default=proposals[name], err=True).strip()
        if answer:
            said = {**said, name: options()[name].read(answer)}
    return said


def _look(job: Job, *, hidden: bool) -> Seen:
    have_temporary_folder(job.input_path.absolute().parent)
    with Source(job, Path(tempfile.gettempdir())) as source:
        columns = [(column.index, _Column(column.name)) for column in source.layout.own]
        finder = KeyFinder(source.layout.own)
        for row in source.chosen():
            finder.add(row.texts)
            for index, column in columns:
                column.add(row.texts[index])
        amounts = tuple(column.name for _, column in columns if column.is_amount)
        different = tuple(c.name for _, c in columns if source.total > 1 and c.is_different and not c.is_amount)
        return Seen(
            sheet=source.sheet.name,
            header_row=source.sheet.header_row,
            columns=tuple(column.name for _, column in columns),
            different=different,
            amounts=amounts,
            hidden=hidden,
            key=finder.found or different[:1],
        )


def _head(sheet: Path, seen: Seen) -> Iterator[str]:
    where = f", sheet {toml(seen.sheet)}" if seen.sheet else ""
    headers = f"whose headers stand in row {seen.header_row}" if seen.header_row else "which has no headers"
    yield "# A job for batch-runner: check THIS_FILE shows what it would do, run THIS_FILE does it."
    yield "# A line that begins with # counts for nothing. batch-runner help jobs lists all other options."
    yield f"# The columns of {toml(sheet.name)}{where}, {headers}: {', '.join(map(toml, seen.columns))}"


def what_runs(job: Path, kind: str) -> str:
    """What a person installs so that a job runs every night at 02:15: `kind` is how. It is printed, never installed."""
    place = job.absolute()
    name = re.sub(r"[^A-Za-z0-9]+", "-", place.stem).strip("-") or "nightly"
    return _KINDS[kind](place, f"batch-runner-{name}")


def _command(job: Path, *, quiet: bool = False) -> str:
    program = shutil.which("batch-runner") or f"{shlex.quote(sys.executable)} -m batch_runner"
    return f"{program} run {shlex.quote(str(job))}{' --quiet' if quiet else ''}"


def _cron(job: Path, _name: str) -> str:
    line = _command(job, quiet=True).replace("%", r"\%")
    return (
        "# For crontab -e. It prints, and cron sends mail, only if something is not well.\n"
        "# The API key stands in /etc/batch-runner.env (mode 600): ANCHORBROWSER_API_KEY=…\n"
        f"15 2 * * *  set -a; [ ! -r /etc/batch-runner.env ] || . /etc/batch-runner.env; set +a; {line}"
    )


def _systemd(job: Path, name: str) -> str:
    command = _command(job).replace("%", "%%")
    folder = str(job.parent).replace("%", "%%")
    return f"""# /etc/systemd/system/{name}.service
[Unit]
Description=batch-runner: {job.name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart={command}
User={getpass.getuser()}
# The API key stands there as one line (mode 600): ANCHORBROWSER_API_KEY=…
EnvironmentFile=-/etc/batch-runner.env
StateDirectory=batch-runner
Environment=BATCH_RUNNER_STATE=%S/batch-runner
UMask=0077
KillMode=mixed
TimeoutStopSec=30
ProtectSystem=strict
ReadWritePaths="{folder}"
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
NoNewPrivileges=yes
CapabilityBoundingSet=
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged

# /etc/systemd/system/{name}.timer
[Unit]
Description=batch-runner every night: {job.name}

[Timer]
OnCalendar=*-*-* 02:15
Persistent=true

[Install]
WantedBy=timers.target

# Then: systemctl daemon-reload && systemctl enable --now {name}.timer"""


def _container(job: Path, name: str) -> str:
    return f"""# Containerfile, in the folder of the program's own pyproject.toml
FROM docker.io/library/python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir /src && useradd --create-home runner
USER runner
WORKDIR /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["batch-runner"]
CMD ["run", {toml(f"/data/{job.name}")}]

# Build it once:
#   podman build -t batch-runner .
# Run it every night, on the folder that holds the job, its sheets and its journal. With docker, leave out --userns.
# /etc/batch-runner.env has the API key; a task of your own that needs none runs without --env-file.
#   podman run --rm --name {name} --read-only --tmpfs /tmp --cap-drop=all --security-opt=no-new-privileges \\
#     --userns=keep-id --user "$(id -u):$(id -g)" --stop-timeout 30 --env-file /etc/batch-runner.env \\
#     -e BATCH_RUNNER_STATE=/data/.batch-runner -v {shlex.quote(f"{job.parent}:/data")} batch-runner"""


def _windows(job: Path, name: str) -> str:
    if sys.platform == "win32":
        program = shutil.which("batch-runner")
        return windows_lines(job, name, [program] if program else [sys.executable, "-m", "batch_runner"])
    return windows_lines(job, name)


def windows_lines(job: PurePath, name: str, program: Sequence[str] = ()) -> str:
    """Lines for PowerShell. The scheduler's own settings end a task after three days, and a laptop's on battery.

    Without `program`, PowerShell finds it. Raises `UsageError` for what the scheduler would replace: `%NAME%`.
    """
    if re.search("%.+%", str(job)):
        raise UsageError(f"{job}: the Task Scheduler takes what stands between two % for a variable; rename it")
    log_file = job.with_suffix(".log")
    words = [*program[1:], "run", str(job), "--log-file", str(log_file)]
    found = _quoted(program[0]) if program else "(Get-Command batch-runner.exe).Source"
    return f"""# In PowerShell, as the user that runs it. The API key stands in a file that only this user can read:
$key = "$env:LOCALAPPDATA\\batch-runner\\key.txt"
if (-not (Test-Path $key)) {{ New-Item -ItemType File -Force $key | Out-Null }}
icacls $key /inheritance:r /grant:r "${{env:USERDOMAIN}}\\${{env:USERNAME}}:F" | Out-Null
notepad $key  # one line, and save it
[Environment]::SetEnvironmentVariable('ANCHORBROWSER_API_KEY_FILE', $key, 'User')

$action = New-ScheduledTaskAction -Execute {found} `
  -Argument {_quoted(list2cmdline(words))} `
  -WorkingDirectory {_quoted(str(job.parent))}
$trigger = New-ScheduledTaskTrigger -Daily -At 02:15
$settings = New-ScheduledTaskSettingsSet -StartWhenAvailable -MultipleInstances IgnoreNew `
  -ExecutionTimeLimit ([TimeSpan]::Zero) -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
Register-ScheduledTask -TaskName {_quoted(name)} -Action $action -Trigger $trigger -Settings $settings
# It runs while this user is logged on. To run it at any time, let the last line ask for the password, as administrator:
#   … -User "$env:USERDOMAIN\\$env:USERNAME" -Password (Get-Credential $env:USERNAME).GetNetworkCredential().Password
# How it ended: (Get-ScheduledTaskInfo {_quoted(name)}).LastTaskResult, one of the program's exit codes."""


def _quoted(text: str) -> str:
    """A text for PowerShell, to the letter: to it, the quotes of typographers are quotes, too."""
    return "'" + re.sub("['‘’‚‛]", lambda found: found[0] * 2, text) + "'"


_KINDS: dict[str, Callable[[Path, str], str]] = {
    "systemd": _systemd,
    "cron": _cron,
    "container": _container,
    "windows": _windows,
}
