"""Runs the program as if this were Windows, as far as that goes on another system: `python as_windows.py run in.csv …`.

The program's own modules see `sys.platform` as it is there, and none of the names that only POSIX has. What Python and
the libraries do with files, sockets and processes stays this system's. Two of Windows' rules are kept: no file that
this process or its parent, the test, has open is renamed, replaced or removed, and no signal is sent that there would
end a process. On Windows the program is run as it is.
"""

from __future__ import annotations

import builtins
import os
import select
import signal
import subprocess
import sys
import tempfile
import types
from itertools import chain
from pathlib import Path
from typing import Any

HIDDEN: dict[types.ModuleType, tuple[str, ...]] = {
    os: (
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fork", "geteuid", "getpgrp", "getuid"),
        *("killpg", "mkfifo", "pathconf", "register_at_fork", "setsid", "sysconf", "uname"),
    ),
    select: ("epoll", "poll", "POLLIN"),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "alarm", "pthread_kill", "pthread_sigmask"),
}
LACKING = ("fcntl", "grp", "pwd", "resource", "termios", "tty")


class _WithoutPosix(types.ModuleType):
    """A module as a program on Windows finds it."""

    def __init__(self, whole: types.ModuleType, hidden: tuple[str, ...], **added: object) -> None:
        super().__init__(whole.__name__)
        self._whole, self._hidden = whole, hidden
        self.__dict__.update(added)

    def __getattr__(self, name: str) -> Any:
        if name in self._hidden:
            raise AttributeError(f"Windows has no {self.__name__}.{name}")
        return getattr(self._whole, name)


class _Popen(subprocess.Popen[bytes]):
    """A child in a group of its own is one in a session of its own here."""

    def __init__(self, *arguments: Any, creationflags: int = 0, **named: Any) -> None:
        named["start_new_session"] = creationflags == 0x200
        super().__init__(*arguments, **named)


def _once_only(*_: Any, **__: Any) -> Any:
    raise AssertionError("on Windows nobody can open a NamedTemporaryFile by its name before it is closed")


def _processes() -> types.ModuleType:
    """`_winapi`, as far as the program asks for it."""
    api = types.ModuleType("_winapi")

    def open_process(access: int, inherit: bool, pid: int) -> int:
        assert (access, inherit) == (1, False)
        os.kill(pid, 0)
        return pid

    vars(api).update(OpenProcess=open_process, SYNCHRONIZE=1, WAIT_TIMEOUT=258, CloseHandle=lambda _: None)
    vars(api).update(WaitForSingleObject=lambda *_: 258)
    return api


def _no_such_signal(pid: int, number: int) -> None:
    raise AssertionError(f"on Windows this would end the process {pid}: os.kill({pid}, {number})")


def _refuse_open_files(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise for what Windows calls a sharing violation (32)."""
    if event not in ("os.rename", "os.remove"):
        return
    touched = {os.path.realpath(os.fsdecode(name)) for name in arguments[: 2 if event == "os.rename" else 1]}
    for handle in chain.from_iterable(Path(f"/proc/{pid}/fd").iterdir() for pid in ("self", os.getppid())):
        try:
            at = str(handle.readlink())
        except OSError:
            continue
        if at in touched:
            raise PermissionError(13, "The process cannot access the file because it is being used", at)


def become_windows() -> None:
    """From now on, for the modules of the program and the tests alone, none of which may have been loaded."""
    if sys.platform == "win32":
        return
    assert "batch_runner" not in sys.modules
    fake: dict[str, types.ModuleType] = {
        whole.__name__: _WithoutPosix(whole, hidden) for whole, hidden in HIDDEN.items()
    }
    vars(fake["os"]).update(O_BINARY=0, kill=_no_such_signal, name="nt")
    vars(fake["signal"]).update(SIGBREAK=signal.SIGUSR2, CTRL_BREAK_EVENT=1)
    fake |= {"sys": _WithoutPosix(sys, (), platform="win32", _base_executable=sys.executable), "_winapi": _processes()}
    fake["tempfile"] = _WithoutPosix(tempfile, (), NamedTemporaryFile=_once_only)
    vars(subprocess)["Popen"] = _Popen
    real_import, tests = __import__, str(Path(__file__).parents[1])

    def is_test(file: str) -> bool:
        return file.startswith(tests) and file != __file__

    def importing(name: str, globals: Any = None, *rest: Any, **named: Any) -> Any:  # noqa: A002  Python's own name
        asks = globals or {}
        if asks.get("__name__", "").partition(".")[0] != "batch_runner" and not is_test(asks.get("__file__") or ""):
            return real_import(name, globals, *rest, **named)
        if name in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return fake.get(name) or real_import(name, globals, *rest, **named)

    builtins.__import__ = importing
    sys.addaudithook(_refuse_open_files)


if __name__ == "__main__":
    become_windows()
    from batch_runner.cli import main

    main()
