"""Files as Windows has them: names that it hasn't, files that are open, paths with drives and shares."""

from __future__ import annotations

import errno
import ntpath
import os
import re
import sqlite3
import sys
import warnings
from contextlib import closing
from datetime import date
from pathlib import Path, PureWindowsPath
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner import fs
from batch_runner.errors import UsageError
from batch_runner.fs import (
    AtomicFile,
    hold_lock,
    read_private,
    replace_file,
    seems_held,
    state_of_folder,
)
from batch_runner.job.path_templates import _form_of_system, parts
from batch_runner.journal.database import uri_of
from batch_runner.journal.index import state_folder
from batch_runner.log import look_at_log_file, write_log_file
from batch_runner.report.html import Places
from batch_runner.units import safe_name, way_to, windows_name, windows_problem

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES = st.sampled_from(["con", "NUL", "Aux", "prn", "COM1", "lpt9", "com¹", "CONIN$", "conout$"])
NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=30)
HARD_NAMES = NAMES | st.builds("".join, st.tuples(DEVICES, st.sampled_from(["", " ", ".", ".csv", " .x", "s", ": "])))
MINIMUM = (3, 13)
"""The first Python that knows itself which names Windows hasn't."""


@pytest.mark.parametrize(
    "name", ["CON", "con.results.xlsx", "nul .csv", "COM¹", "AUX.a.b", "a:b.csv", "a?", "x.", "x "]
)
def test_what_windows_has_no_file_of(name: str) -> None:
    """A device, a stream of another file, a wildcard, and an end that it takes off."""
    assert windows_problem(name)


@pytest.mark.parametrize("name", ["console.csv", "com10", "a.con", "x.y.z", ".hidden", "ö€.xlsx", "auxiliary", "com"])
def test_what_windows_has_a_file_of(name: str) -> None:
    """Names that only look alike stay as they are."""
    assert (windows_problem(name), windows_name(name)) == (None, name)


@given(HARD_NAMES)
def test_any_text_becomes_a_name(text: str) -> None:
    """Whatever it is; and a name that is one stays as it is."""
    name = windows_name(text)
    assert windows_problem(name) is None
    assert windows_name(name) == name
    assert name == text or windows_problem(text)


@pytest.mark.skipif(sys.version_info < MINIMUM, reason="ntpath.isreserved is new")
@given(HARD_NAMES)
def test_python_knows_the_same_names(name: str) -> None:
    """Ours is its judgement, in words."""
    if name not in (".", ".."):
        assert (windows_problem(name) is not None) == ntpath.isreserved(re.sub(r"[:\\]", "|", name))  # type: ignore[attr-defined, unused-ignore]


@given(st.text() | st.builds("{}.py:{}".format, HARD_NAMES, HARD_NAMES) | DEVICES)
def test_each_task_has_a_journal(task: str) -> None:
    """By a name that Windows can have, too."""
    assert windows_problem(f"{safe_name(task, windows=True)}.journal.db") is None


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (r"C:\x\t.py:run", "t.py-run"),
        (r"\\server\share\t.py:run", "t.py-run"),
        ("C:/x/t.py:run", "t.py-run"),
        ("invoice", "invoice"),
        ("aux", "file-aux"),
    ],
)
def test_a_task_is_called_after_its_file(task: str, name: str) -> None:
    """Not after its drive or its share."""
    assert safe_name(task, windows=True) == name


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (r"C:\out\{date:%Y\%m}\{stem}.xlsx", ("C:\\", "out", "{date:%Y}", "{date:%m}", "{stem}.xlsx")),
        ("C:/out/{date:%Y/%m}/x.csv", ("C:\\", "out", "{date:%Y}", "{date:%m}", "x.csv")),
        (r"\\server\share\{date}\x.csv", ("\\\\server\\share\\", "{date}", "x.csv")),
        (r"{date:%d.%m.%Y}.csv", ("{date:%d.%m.%Y}.csv",)),
    ],
)
def test_places_in_paths_of_windows(text: str, names: tuple[str, ...]) -> None:
    """A drive and a share are names of the path, and the colon of a place is none of a drive."""
    assert parts(text, PureWindowsPath) == names


@pytest.mark.parametrize(("form", "there"), [("%-d.%-m.%Y", "%#d.%#m.%Y"), ("%%-d", "%%-d"), ("%Y-%m-%d", "%Y-%m-%d")])
def test_days_without_their_zero(form: str, there: str) -> None:
    """The C library of Windows writes them in its own way."""
    assert _form_of_system(form, windows=True) == there
    assert _form_of_system(form, windows=False) == form
    assert date(2026, 2, 3).strftime(_form_of_system(form))


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (r"C:\a b\x.db", "file:///C:/a%20b/x.db?mode=ro"),
        (r"\\server\share\x#1.db", "file:////server/share/x%231.db?mode=ro"),
    ],
)
def test_a_journal_on_a_drive_and_on_a_share(path: str, uri: str) -> None:
    """SQLite refuses a URI with a host in it; a path that begins with two slashes is the share."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pure paths, from Python 3.14 on
        assert uri_of(PureWindowsPath(path), "mode=ro") == uri
    with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
        closing(sqlite3.connect(uri, uri=True))  # it is no "invalid uri authority"


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "O_BINARY", 0, raising=False)
    monkeypatch.setattr(fs, "SCANNED", (0.0, 0.0, 0.0))


def held(times: int) -> Callable[[object, object], None]:
    """`os.replace`, where somebody has one of the two files open for so many tries (Windows' error 32)."""
    replace, left = os.replace, [times]

    def replacing(draft: str, path: str) -> None:
        if Path(path).name == "out.csv" and left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used")
        replace(draft, path)

    return replacing  # type: ignore[return-value]


@pytest.mark.usefixtures("on_windows")
def test_a_scanner_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a virus scanner has open for a moment is replaced a moment later."""
    (tmp_path / "draft").write_text("new")
    monkeypatch.setattr(os, "replace", held(3))
    replace_file(tmp_path / "draft", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "new"
    monkeypatch.setattr(os, "replace", held(4))
    (tmp_path / "draft").write_text("newer")
    with pytest.raises(PermissionError):
        replace_file(tmp_path / "draft", tmp_path / "out.csv")


@pytest.mark.usefixtures("on_windows")
def test_a_sharing_violation_gets_a_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is open in Excel until the end: it stays as it is, and `-2` stands beside it."""
    (tmp_path / "out.csv").write_text("old")
    target = AtomicFile.prepare(tmp_path / "out.csv", tmp_path / "out.csv")
    monkeypatch.setattr(os, "replace", held(99))
    assert target.put(lambda file: file.writelines([b"new"]), lambda _: None) == tmp_path / "out-2.csv"
    assert ((tmp_path / "out.csv").read_text(), (tmp_path / "out-2.csv").read_text()) == ("old", "new")


@pytest.mark.usefixtures("on_windows")
@pytest.mark.parametrize("name", ["NUL.csv", "out?.csv", "in.csv:x.csv", "COM1.xlsx"])
def test_an_output_by_no_name_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything is sent: it would go to a device, or into a stream that no program shows."""
    (tmp_path / "in.csv").write_text("A\n")
    with pytest.raises(UsageError, match=r"Windows.*use --output"):
        AtomicFile.prepare(tmp_path / name, tmp_path / "in.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.usefixtures("on_windows")
def test_the_state_lies_in_local_app_data() -> None:
    """Whatever HOME is: a shell of git has one, and the Task Scheduler hasn't."""
    where = {"LOCALAPPDATA": "/local", "HOME": "/home/ann"}
    assert state_folder(where) == Path("/local/batch-runner")
    assert state_folder({**where, "BATCH_RUNNER_STATE": "/said"}) == Path("/said")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    """Also where only its neighbours' names would be."""
    (tmp_path / "in.csv").write_text("A\n")
    for length in (232, 251):
        with pytest.raises(UsageError, match="name is too long"):
            AtomicFile.prepare(tmp_path / f"{'x' * length}.csv", tmp_path / "in.csv")
    AtomicFile.prepare(tmp_path / f"{'x' * 231}.csv", tmp_path / "in.csv")


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    """With its lock's file still there, a number that no process has, and our own, hold nothing."""
    with hold_lock(tmp_path / "a.db"):
        assert not seems_held(tmp_path / "a.db", 2**22 + 1)
        assert not seems_held(tmp_path / "a.db", os.getpid())
        assert seems_held(tmp_path / "a.db", os.getppid())


@pytest.mark.usefixtures("on_windows")
def test_a_log_and_a_link_on_windows(tmp_path: Path) -> None:
    """A log in a device is refused; what is private is opened by no link, though no flag says so there."""
    for use in (look_at_log_file, lambda path: write_log_file(path, "text", "info", 0)):
        with pytest.raises(OSError, match="the name of a device"):
            use(tmp_path / "nul.log")
    (tmp_path / "private").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "private")
    assert read_private(tmp_path / "private", 1) == b"x"
    assert read_private(tmp_path / "link", 1) is None


def test_a_way_to_another_drive_is_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none within a drive; the report's link is a `file:` address then."""

    def relpath(path: Path, start: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    assert way_to(tmp_path / "a" / "in.csv", tmp_path / "b") == os.path.join("..", "a", "in.csv")  # noqa: PTH118
    monkeypatch.setattr(os.path, "relpath", relpath)
    assert way_to(tmp_path / "in.csv", tmp_path) == str(tmp_path / "in.csv")
    link = Places(tmp_path / "out.xlsx", tmp_path / "r.html", None).file
    assert link.href == (tmp_path / "out.xlsx").as_uri()


def test_a_file_that_goes_while_its_folder_is_looked_at(tmp_path: Path) -> None:
    """It is no trouble: another one's draft comes and goes at any time."""
    is_over = Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            for number in range(50):
                (tmp_path / f"{number}.draft").touch()
            for number in range(50):
                (tmp_path / f"{number}.draft").unlink()

    (tmp_path / "stays").touch()
    thread = Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(500):
            assert "stays" in [name for name, _, _ in state_of_folder(tmp_path)]
    finally:
        is_over.set()
        thread.join()
