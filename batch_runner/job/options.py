"""The options of a job: one table for flags, environment and job files; and where each value came from.

And what runs a job every night.
"""

from __future__ import annotations

import getpass
import json
import re
import shlex
import shutil
import sys
from difflib import get_close_matches
from functools import cache
from subprocess import list2cmdline
from textwrap import wrap
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError
from batch_runner.job.job import Job
from batch_runner.job.validation import SECRETIVE, OptionKind, hints_of, kind_of, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path, PurePath


PREFIX = "BATCH_RUNNER_"
OF_SERVE = ("port", "host", "tasks", "runs", "keep", "queue", "grace")
"""The options that only `serve` has: their variables are none of a job's, and no mistakes either."""


class Option(msgspec.Struct, frozen=True):
    """One option: `name` is the key in a job file, `flag` that of the command line, `variable` the environment's.

    `flag_only`: it is said on the command line, for one batch, and nowhere else.
    """

    name: str
    kind: OptionKind
    group: str
    metavar: str | None
    help: str
    default: object
    flag_only: bool = False

    @property
    def flag(self) -> str:
        """As on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """As in the environment."""
        return variable_of(self.name)

    @property
    def is_secret(self) -> bool:
        """Whether its value may be a secret, such as an address that whoever knows it may write to."""
        return self.name in SECRETIVE

    def read(self, value: object) -> object:
        """The value as `Job` wants it, from text, or from what a TOML file can hold. Raises `ValueError`."""
        return read_value(self.name, value, hints_of(Job)[self.name])


def variable_of(name: str) -> str:
    """The environment's name for an option."""
    return PREFIX + name.upper()


@cache
def options() -> dict[str, Option]:
    """All options by name, in the order in which people see them."""
    fields = {field.name: field for field in msgspec.structs.fields(Job)}
    found: dict[str, Option] = {}
    for name, hint in hints_of(Job).items():
        meta: msgspec.Meta = hint.__metadata__[0]
        extra = meta.extra or {}
        kind = kind_of(hint)
        is_many = kind in (OptionKind.NAMES, OptionKind.PAIRS)
        default = () if is_many else None if fields[name].required else fields[name].default
        shown = (extra["group"], extra["metavar"], meta.description or "")
        found[name] = Option(name, kind, *shown, default, extra["flag_only"])
    return found


def command_words(command: str, source: str, chosen: Mapping[str, object]) -> list[str]:
    """The command line that does the same: each option by its flag."""
    words = [command, source]
    for name, value in chosen.items():
        option = options()[name]
        if option.kind is OptionKind.FLAG:
            words += [option.flag] if value else []
        elif isinstance(value, dict):
            words += [word for pair in value.items() for word in (option.flag, "=".join(pair))]
        elif isinstance(value, list | tuple):
            words += [option.flag, ",".join(map(as_named, value))] if value else []
        elif value is not None:
            words += [option.flag, str(value)]
    return words


def as_named(name: str) -> str:
    """A name in a list of names, as CSV has it."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n') or name.strip() != name else name


def toml(value: object) -> str:
    """A value as TOML writes it. Its texts are JSON's (TOML 1.0, *Basic strings*), but for DEL, which it escapes."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def did_you_mean(word: str, known: list[str]) -> str:
    """` Did you mean …?` for the nearest known word, or nothing."""
    near = get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


SET = "(set)"
"""Stands for a value that may be a secret."""
GIVEN = "INPUT"
"""Where an input comes from that no job file names."""
WIDTH = 110


class Setting(msgspec.Struct, frozen=True):
    """One value as somebody said it, and how to name the place where that was: `--limit`, `job.toml: limit`."""

    value: object
    label: str
    is_public: bool = True
    """Whether others can read it there: on the command line, or in a file."""


class Provenance(msgspec.Struct, frozen=True, rename={"where": "from"}):
    """An option's value in force and where it came from, None for the default."""

    option: str
    value: object
    where: str | None


def provenance_of(job: Job, settings: Mapping[str, Setting]) -> tuple[Provenance, ...]:
    """Every option of a job, in the order of the table; secrets are only said to be set."""
    found = []
    for name in sorted(options(), key=lambda name: name != "input"):
        setting = settings.get(name)
        is_hidden = setting is not None and options()[name].is_secret
        where = setting.label if setting is not None else None
        found.append(Provenance(name, SET if is_hidden else getattr(job, name), where))
    return tuple(found)


def describe_job(origins: tuple[Provenance, ...]) -> str:
    """The job in force for a person: a line for each value that was said, and for a job file the defaults, too."""
    return "\n".join(_lines(origins))


def _lines(origins: tuple[Provenance, ...]) -> Iterator[str]:
    rows = [(origin.option, _show(origin.value), origin.where) for origin in origins if origin.where is not None]
    names, values = (max(len(row[place]) for row in rows) for place in (0, 1))
    yield "the job in force:"
    yield from (f"  {name:<{names}}  {value:<{min(values, WIDTH // 2)}}  {where}" for name, value, where in rows)
    if rows[0][2] == GIVEN:
        return
    unsaid = [origin for origin in origins if origin.where is None and origin.value not in (None, "", (), False, {})]
    known = ", ".join(f"{origin.option} {_show(origin.value)}" for origin in unsaid)
    yield from wrap(f"  defaults: {known}", WIDTH, subsequent_indent="    ")


def _show(value: object) -> str:
    if isinstance(value, dict):
        return toml(value)  # so it can stand in a job file, where JSON's object can't
    return value if isinstance(value, str) and value.isprintable() else msgspec.json.encode(value).decode()


LEFT_OUT_AGAIN = (
    *("limit", "where", "canary", "date", "report", "output", "journal", "when_missing", "retry_limit"),
    *("deadline", "max_failures", "notify_when", "same", "again"),
)
"""Options of a whole batch, or of a night, that make no sense for some of its rows."""


def for_some_rows(chosen: Mapping[str, object]) -> dict[str, object]:
    """What of a batch's options holds for some of its rows, too. What may be secret is left out: it goes into argv."""
    return {n: value for n, value in chosen.items() if n not in LEFT_OUT_AGAIN and not options()[n].is_secret}


def job_text(source: str, chosen: Mapping[str, object]) -> str:
    """A job file that does the same every night as these options did once."""
    said = {name: value for name, value in chosen.items() if name not in ("rows", "retry")}
    lines = (f"{name} = {toml(value)}" for name, value in {"input": source, **said}.items())
    head = (
        "# A job for batch-runner: `batch-runner check FILE` shows what it would do, `batch-runner run FILE` does it."
    )
    return "\n".join([head, *lines]) + "\n"


KINDS_HERE = {"win32": ("windows",), "darwin": ("cron",)}.get(sys.platform, ("cron", "systemd"))
"""How this system runs a job every night."""


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
