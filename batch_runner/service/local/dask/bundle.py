"""What goes to a Dask worker, and what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.service.local.context import Line, file_within
from batch_runner.service.local.result import RunEnd, TaskFailed, failure
from batch_runner.service.local.tasks import Call  # noqa: TC001  msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Iterator


FILES_LIMIT = 64 * 1024 * 1024
"""Bytes of files that are sent along with one call: they pass through the scheduler's memory."""


NOT_REPEATED = "it may have run, in part or to its end, and is not run again"
"""What is said of a run of which only so much is known."""


class BundledCall(msgspec.Struct, frozen=True):
    """One call, and what it needs at the worker.

    `code` is the text of the task's file, None for the built-in task. `files` are the files that its params name, by
    their names within the folder; None where the folder is shared.
    """

    call: Call
    code: bytes | None = None
    files: dict[str, bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(map(len, (self.files or {}).values()))


class Bundle(msgspec.Struct, frozen=True):
    """What one Dask task does: errands of the same task, one after another. `key` is the Dask task's."""

    key: str
    errands: tuple[BundledCall, ...]


class Done(msgspec.Struct, frozen=True):
    """The ending of an errand, how many seconds it took, and what was logged meanwhile.

    `begun_before` is how often its bundle was begun before, on workers that were lost. `declined_by` is the address of
    a worker that did not begin it, and would begin none of ours; its ending then says why.
    """

    ending: RunEnd
    seconds: float
    lines: tuple[Line, ...] = ()
    begun_before: int = 0
    declined_by: str | None = None


def named_files(call: Call) -> dict[str, bytes]:
    """The files within the call's folder that its params name. Raises TaskFailed if they are too many bytes."""
    folder, found = Path(call.context.files), dict[str, bytes]()
    paths = {name: path for name in call.params.values() if (path := _file_named(folder, name))}
    size = sum(path.stat().st_size for path in set(paths.values()))
    if size > FILES_LIMIT:
        raise TaskFailed(
            f"The files of this row are {size} bytes, and {FILES_LIMIT} is the limit of --send-files; "
            f"share the folder {folder} with the Dask workers instead."
        )
    for name, path in paths.items():
        found[name] = path.read_bytes()
    return found


def _file_named(folder: Path, name: str) -> Path | None:
    try:
        return file_within(folder, name)
    except TaskFailed:
        return None


class Unpacking:
    """Lays out at a worker, under `folder`, what errands bring."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._worker = worker

    @contextlib.contextmanager
    def lay_out(self, errand: BundledCall) -> Iterator[Call]:
        """The call as it is to be run here; what was sent for it alone is removed afterwards."""
        call = errand.call
        with contextlib.ExitStack() as stack:
            if errand.code is not None:
                source = msgspec.structs.replace(call.source, file=str(self._module_file(errand)))
                call = msgspec.structs.replace(call, source=source)
            if errand.files is not None:
                files = stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder, prefix="files-"))
                for name, content in errand.files.items():
                    path = Path(files, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                call = msgspec.structs.replace(call, context=msgspec.structs.replace(call.context, files=files))
            yield call

    def hindrance(self, errand: BundledCall) -> RunEnd | None:
        """Why the call can't be run here: the folder of its files isn't there."""
        folder = errand.call.context.files
        if errand.files is not None or Path(folder).is_dir():
            return None
        return failure(
            f"The Dask worker {self._worker} has no folder {folder}; share it with the workers, or say --send-files."
        )

    def as_at_home(self, ending: RunEnd, errand: BundledCall, here: Call) -> RunEnd:
        """The ending with the paths of whom it is for; what is missing on this worker is said to be missing here."""
        if ending.error is None:
            return ending
        error, home = ending.error, errand.call
        for there, local in ((home.source.file, here.source.file), (home.context.files, here.context.files)):
            if there and local:
                error = error.replace(local, there)
        if "No module named" in error:
            error += (
                f" (on the Dask worker {self._worker}: install it there; of your files only the task's own is sent)"
            )
        return msgspec.structs.replace(ending, error=error)

    def _module_file(self, errand: BundledCall) -> Path:
        """The task's file here: under its own name, in a folder for exactly this text of it."""
        assert errand.code is not None
        assert errand.call.source.file is not None
        path = self._folder / hashlib.sha256(errand.code).hexdigest() / Path(errand.call.source.file).name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(errand.code)
        return path
