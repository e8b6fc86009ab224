"""No name of a file leads out of the folder that tasks may read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from systems import make_pipe

from batch_runner.service.local.context import file_within
from batch_runner.service.local.result import TaskFailed

PARTS = st.sampled_from(
    ["..", ".", "", "in", "a.pdf", "secret.pdf", "link", "out", "~", "%2e%2e", "..\\", "C:", "\\\\host", "\0", " .. "]
)
NAMES = st.lists(PARTS, max_size=7).flatmap(lambda parts: st.sampled_from(["/".join(parts), "\\".join(parts)]))


def make_folder(root: Path) -> Path:
    """A folder with a file, a sub-folder, and links to the secret beside it."""
    folder = root / "files"
    (folder / "in").mkdir(parents=True)
    (root / "secret.pdf").write_bytes(b"secret")
    (folder / "a.pdf").write_bytes(b"a")
    (folder / "in" / "a.pdf").write_bytes(b"in")
    (folder / "link").symlink_to(root / "secret.pdf")
    (folder / "out").symlink_to(root)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "same.pdf").symlink_to(folder / "a.pdf")
    return folder


@given(name=NAMES | st.text())
@example(name="../secret.pdf")
@example(name="in/../../secret.pdf")
@example(name="out/secret.pdf")
@example(name="link")
def test_whatever_the_name_nothing_outside_is_reached(name: str) -> None:
    """It is a file within the folder, links followed, or it is refused; nothing else ever comes out."""
    with TemporaryDirectory() as root:
        folder = make_folder(Path(root))
        with contextlib.suppress(TaskFailed):
            path = file_within(folder, name)
            assert path.is_relative_to(folder.resolve())
            assert path.read_bytes() in (b"a", b"in")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("/etc/passwd", "absolute path"),
        ("C:\\invoices\\a.pdf", "absolute path"),
        ("\\\\server\\share\\a.pdf", "absolute path"),
        ("../secret.pdf", "leads out of the folder"),
        ("in\\..\\..\\secret.pdf", "leads out of the folder"),
        ("link", "leads out of the folder"),
        ("out/secret.pdf", "leads out of the folder"),
        ("out/none.pdf", "leads out of the folder"),
        ("loop", "can't be looked up|no file"),
        ("in", "is no file"),
        ("none.pdf", "There is no file 'none.pdf'"),
        ("a.pdf/b", "There is no file|can't be looked up"),
        ("x" * 5000, "can't be looked up"),
        ("a\0.pdf", "NUL"),
    ],
)
def test_a_name_that_is_refused_is_told_why(tmp_path: Path, name: str, said: str) -> None:
    """Each way out of the folder, and each name that is no file, has a sentence of its own."""
    with pytest.raises(TaskFailed, match=said):
        file_within(make_folder(tmp_path), name)


@pytest.mark.parametrize("name", ["a.pdf", "in/a.pdf", "./in/a.pdf", "same.pdf"])
def test_files_in_the_folder_and_below_are_read(tmp_path: Path, name: str) -> None:
    """A link is fine as long as it stays within."""
    assert file_within(make_folder(tmp_path), name).is_file()


def test_a_named_pipe_is_no_file(tmp_path: Path) -> None:
    """Opening it would wait for ever for someone to write."""
    make_pipe(tmp_path / "pipe.pdf")
    with pytest.raises(TaskFailed, match="is no file"):
        file_within(tmp_path, "pipe.pdf")
