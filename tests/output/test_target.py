"""The output is written whole or not at all, and never over what must not be lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest
from systems import needs_posix

from batch_runner.errors import OutputFailed, UsageError
from batch_runner.fs import AtomicFile, is_held, sync_if_possible

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def target(tmp_path: Path) -> AtomicFile:
    """A target over an older output, in a folder of its own."""
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "in.csv").write_text("A\n1\n")
    path = folder / "in.results.csv"
    path.write_text("old")
    return AtomicFile.prepare(path, tmp_path / "in.csv")


def nothing(draft: Path) -> None:
    """A check that finds nothing wrong."""


def new(file: BinaryIO) -> None:
    file.write(b"new")


def contents(target: AtomicFile) -> dict[str, str]:
    """Every file of the folder, hidden ones included."""
    return {path.name: path.read_text() for path in target.path.parent.iterdir()}


def test_the_old_file_is_replaced_whole(target: AtomicFile) -> None:
    """The new output stands where the old one stood, and nothing else is left in the folder."""
    assert target.put(new, nothing) == target.path
    assert contents(target) == {"in.results.csv": "new"}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a bug")])
def test_an_end_in_the_midst_of_writing_leaves_the_old_file(target: AtomicFile, error: BaseException) -> None:
    """Whatever stops the writing, what stood there stands there still, and there is no draft."""

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(OutputFailed if isinstance(error, OSError) else type(error)):
        target.put(write, nothing)
    assert contents(target) == {"in.results.csv": "old"}


def test_what_fails_the_check_is_not_swapped_in(target: AtomicFile) -> None:
    """The check sees the whole draft, on disk; where it raises, nothing is replaced."""
    seen = []

    def check(draft: Path) -> None:
        seen.append(draft.read_text())
        raise OutputFailed("row 5 came out wrong")

    with pytest.raises(OutputFailed, match="row 5"):
        target.put(new, check)
    assert seen == ["new"]
    assert contents(target) == {"in.results.csv": "old"}


def test_what_a_kill_left_is_overwritten(target: AtomicFile) -> None:
    """A draft that a kill -9 left behind is used again: it is neither added to nor left to gather."""
    target.path.with_name(".in.results.part.csv").write_text("half of something much longer")
    target.put(new, nothing)
    assert contents(target) == {"in.results.csv": "new"}


def test_a_draft_is_not_written_through_a_link(target: AtomicFile, tmp_path: Path) -> None:
    """A link by the draft's name, whoever put it there, doesn't lead the writing elsewhere."""
    (tmp_path / "precious").write_text("precious")
    target.path.with_name(".in.results.part.csv").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputFailed, match=r"\.in\.results\.part\.csv is in the way; remove it"):
        target.put(new, nothing)
    assert (tmp_path / "precious").read_text() == "precious"


def test_two_batches_do_not_write_into_one_draft(target: AtomicFile) -> None:
    """While one writes, the other is refused with a sentence; the first comes out whole, and then the other may."""

    def write(file: BinaryIO) -> None:
        file.write(b"n")
        with pytest.raises(OutputFailed, match="another batch is writing it just now"):
            target.put(lambda other: other.writelines([b"other"]), nothing)
        file.write(b"ew")

    target.put(write, nothing)
    assert contents(target) == {"in.results.csv": "new"}
    target.put(lambda file: file.writelines([b"newer"]), nothing)
    assert contents(target) == {"in.results.csv": "newer"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that can't sync folders: Linux's proc")
def test_a_folder_that_can_not_be_synced_is_no_failure() -> None:
    """Where a file system can't sync folders, as some network ones, the file is in its place all the same."""
    sync_if_possible(Path("/proc/self"))


@needs_posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_permissions_are_the_inputs(tmp_path: Path, mode: int) -> None:
    """Who could read the input can read a new output, as far as the umask lets them, and nobody else."""
    source = tmp_path / "in.csv"
    source.write_text("A\n")
    source.chmod(mode)
    for umask in (0o077, 0o000):
        before = os.umask(umask)
        try:
            path = AtomicFile.prepare(tmp_path / f"{umask}.csv", source).put(new, nothing)
        finally:
            os.umask(before)
        assert path.stat().st_mode & 0o777 == mode & ~umask


@needs_posix
def test_a_file_that_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    """Whoever let others read the output, or shut them out, is asked no more: neither input nor umask change it."""
    (tmp_path / "in.csv").write_text("A\n")
    output = tmp_path / "out.csv"
    for mode in (0o640, 0o666):
        output.write_text("old")
        output.chmod(mode)
        assert AtomicFile.prepare(output, tmp_path / "in.csv").put(new, nothing) == output
        assert output.stat().st_mode & 0o777 == mode


@needs_posix
def test_the_output_of_a_read_only_input_can_be_replaced(tmp_path: Path) -> None:
    """A read-only input has a writable output: else every night would leave one more neighbour."""
    source = tmp_path / "in.csv"
    source.write_text("A\n")
    source.chmod(0o444)
    target = AtomicFile.prepare(tmp_path / "out.csv", source)
    assert target.put(new, nothing) == target.put(new, nothing) == tmp_path / "out.csv"
    assert target.path.stat().st_mode & 0o777 == 0o644


@needs_posix
def test_a_draft_is_nobody_elses_to_read(target: AtomicFile) -> None:
    """While it is written, the output is its owner's alone."""
    modes = []
    target.put(lambda file: modes.append(os.fstat(file.fileno()).st_mode & 0o777), nothing)
    assert modes == [0o600]


@pytest.mark.parametrize("lock", ["~$in.results.csv", ".~lock.in.results.csv#"])
def test_a_file_that_is_open_gets_a_neighbour(target: AtomicFile, lock: str) -> None:
    """What Excel or LibreOffice has open is left alone; the output stands beside it, numbered from 2."""
    (target.path.parent / lock).touch()
    neighbour = target.path.with_name("in.results-2.csv")
    assert target.put(new, nothing) == neighbour
    assert target.path.read_text() == "old"
    (target.path.parent / lock.replace(".csv", "-2.csv")).touch()
    assert target.put(new, nothing) == target.path.with_name("in.results-3.csv")


def test_a_read_only_file_gets_a_neighbour(target: AtomicFile) -> None:
    """Who made the old output read-only wants to keep it."""
    target.path.chmod(0o444)
    assert target.put(new, nothing) == target.path.with_name("in.results-2.csv")
    target.path.with_name("in.results-2.csv").chmod(0o444)
    assert target.put(new, nothing) == target.path.with_name("in.results-3.csv")
    assert target.path.read_text() == "old"


def test_what_may_not_be_replaced_is_left(target: AtomicFile) -> None:
    """Where it is said, the file is not replaced, though it could be."""
    assert target.put(new, nothing, lambda _path: False) == target.path.with_name("in.results-2.csv")
    assert target.path.read_text() == "old"


def test_no_neighbour_is_left(target: AtomicFile) -> None:
    """When a hundred files are held, that is a sentence, and there is no draft."""
    for name in ("in.results.csv", *(f"in.results-{number}.csv" for number in range(2, 101))):
        target.path.with_name(name).touch()
        target.path.with_name(name).chmod(0o444)
    with pytest.raises(OutputFailed, match="neither it nor any of 99 neighbours can be replaced"):
        target.put(new, nothing)
    assert not list(target.path.parent.glob(".*"))


def test_held_files(tmp_path: Path) -> None:
    """A folder is held, what isn't there is not."""
    assert is_held(tmp_path)
    assert not is_held(tmp_path / "no.csv")


def test_an_output_that_can_not_be_is_refused_at_once(tmp_path: Path) -> None:
    """A folder as the output, no such folder, or a name too long for a draft: a sentence before anything is sent."""
    source = tmp_path / "in.csv"
    source.write_text("A\n")
    for path, sentence in (
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "out.csv", "there is no folder .*no; make it, or use --output"),
        (source / "out.csv", "can't be written there: Not a directory"),
        (tmp_path / ("x" * 245 + ".csv"), "name is too long"),
        (tmp_path / ("é" * 123 + ".csv"), "name is too long"),
        (tmp_path / ("x" * 400 + ".csv"), "too long"),
    ):
        with pytest.raises(UsageError, match=sentence):
            AtomicFile.prepare(path, source)


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    """What is taken can be written, with its draft and its neighbours."""
    source = tmp_path / "in.csv"
    source.write_text("A\n")
    path = tmp_path / ("x" * (255 - 20 - 4) + ".csv")
    target = AtomicFile.prepare(path, source)
    assert target.put(new, nothing) == path
    assert target.put(new, nothing, lambda _path: False).name.endswith("x-2.csv")


def test_preparing_leaves_nothing(tmp_path: Path) -> None:
    """Whether a file can be written is found out without leaving one, or touching a draft that another batch writes."""
    source = tmp_path / "in.csv"
    source.write_text("A\n")
    draft = tmp_path / ".out.part.csv"
    draft.write_text("being written")
    AtomicFile.prepare(tmp_path / "out.csv", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.part.csv", "in.csv"]
    assert draft.read_text() == "being written"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a quarter of a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    is_root = sys.platform != "win32" and os.geteuid() == 0
    if not is_root or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount, and not in every container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    """A disk that is really full: the old output stands, there is no draft, and the message says what to do."""
    source = small_disk / "in.csv"
    source.write_text("old")
    target = AtomicFile.prepare(source, source)
    with pytest.raises(OutputFailed, match=r"No space left on device.*make room and run the same command"):
        target.put(lambda file: file.writelines([bytes(65536)] * 100), nothing)
    assert contents(target) == {"in.csv": "old"}


LIMITED = """
import resource, sys
from pathlib import Path
from batch_runner.fs import AtomicFile
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
path = Path(sys.argv[1])
AtomicFile.prepare(path, path).put(lambda file: file.write(bytes(100_000)) and None, lambda draft: None)
"""


@needs_posix
def test_a_file_that_may_not_grow_leaves_the_old_file(target: AtomicFile) -> None:
    """The same where a quota or a limit on the size of files ends the writing."""
    command = [sys.executable, "-c", LIMITED, str(target.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "OutputFailed" in done.stderr
    assert "File too large" in done.stderr
    assert contents(target) == {"in.results.csv": "old"}


@pytest.fixture
def link(target: AtomicFile, tmp_path: Path) -> Path:
    """A link in a folder of its own, to where the older output stands."""
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "tonight.csv"
    link.symlink_to(target.path)
    return link


def test_a_link_is_followed(target: AtomicFile, link: Path, tmp_path: Path) -> None:
    """What it leads to is written, whole, from a draft in that folder; the link stays, and is what is named."""
    drafts: list[Path] = []
    assert AtomicFile.prepare(link, tmp_path / "in.csv").put(new, drafts.append) == link
    assert contents(target) == {"in.results.csv": "new"}
    assert drafts == [target.path.with_name(".in.results.part.csv")]
    assert link.is_symlink()
    assert [path.name for path in link.parent.iterdir()] == ["tonight.csv"]


def test_a_link_is_followed_once(link: Path, target: AtomicFile, tmp_path: Path) -> None:
    """Where it led when the batch began, by however many links; who turns it round in the night turns nothing."""
    second = tmp_path / "second.csv"
    second.symlink_to("links/tonight.csv")
    prepared = AtomicFile.prepare(second, tmp_path / "in.csv")
    second.unlink()
    second.symlink_to("in.csv")
    prepared.put(new, nothing)
    assert (target.path.read_text(), (tmp_path / "in.csv").read_text()) == ("new", "A\n1\n")


def test_a_link_to_what_is_not_there_makes_it(tmp_path: Path) -> None:
    """Its file is written in its place; without a folder for it that is a sentence, as it is without the link."""
    source = tmp_path / "in.csv"
    source.write_text("A\n")
    (tmp_path / "out.csv").symlink_to("new.csv")
    AtomicFile.prepare(tmp_path / "out.csv", source).put(new, nothing)
    assert (tmp_path / "new.csv").read_text() == "new"
    (tmp_path / "off.csv").symlink_to("no/new.csv")
    with pytest.raises(UsageError, match=r"off\.csv: there is no folder .*no; make it"):
        AtomicFile.prepare(tmp_path / "off.csv", source)


def test_a_link_that_leads_to_no_file_is_refused(tmp_path: Path) -> None:
    """One to a folder as a folder is; one that leads in a circle, too."""
    source = tmp_path / "in.csv"
    source.write_text("A\n")
    (tmp_path / "folder.csv").symlink_to(tmp_path)
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    for name, sentence in (("folder", "the output is a folder"), ("circle", "Too many levels of symbolic links")):
        with pytest.raises(UsageError, match=rf"{name}\.csv: .*{sentence}"):
            AtomicFile.prepare(tmp_path / f"{name}.csv", source)


@pytest.mark.parametrize("beside", ["link", "file"])
def test_a_linked_file_that_is_open_gets_a_neighbour(
    target: AtomicFile, link: Path, tmp_path: Path, beside: str
) -> None:
    """Whether it was opened by the link or by its own name: the neighbour stands beside the file."""
    path = link if beside == "link" else target.path
    path.with_name(f"~${path.name}").touch()
    assert AtomicFile.prepare(link, tmp_path / "in.csv").put(new, nothing) == target.path.with_name("in.results-2.csv")
    assert target.path.read_text() == "old"
