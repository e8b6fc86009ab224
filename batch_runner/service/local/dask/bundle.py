"""What goes to a Dask worker, and what comes back."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from modulefinder import ModuleFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from batch_runner import log
from batch_runner.service.local import result
from batch_runner.service.local.context import Line, file_within
from batch_runner.service.local.process_pool import AHEAD_SECONDS
from batch_runner.service.local.result import RunEnd, TaskFailed, failure, not_begun
from batch_runner.service.local.tasks import Call  # noqa: TC001  msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


SESSION = slice(len("run_"), len("run_") + 16)
"""The part of a run's id that names the session of its client: what was started by one program, on one scheduler."""

ENOUGH_SECONDS = 1.0
"""After so long a bundle is sent back as it is: what was not begun goes elsewhere. One that may not be repeated is sent
back after `AHEAD_SECONDS`."""

ENOUGH_BYTES = 8 * 1024 * 1024
"""The same for the bytes of its results."""

FILES_LIMIT = 64 * 1024 * 1024
"""Bytes of files that are sent along with one call: they pass through the scheduler's memory."""


NOT_REPEATED = "it may have run, in part or to its end, and is not run again"
"""What is said of a run of which only so much is known."""


class BundledCall(msgspec.Struct, frozen=True):
    """One call, and what it needs at the worker.

    `files` are the files that its params name, by their names within the folder; None where the folder is shared.
    """

    call: Call
    files: dict[str, bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(map(len, (self.files or {}).values()))


class Bundle(msgspec.Struct, frozen=True):
    """What one Dask task does: errands of the same task, one after another. `key` is the Dask task's.

    `code` is the task's file and those beside it that it imports, by their names within its folder: none for the
    built-in task.
    """

    key: str
    errands: tuple[BundledCall, ...]
    code: dict[str, bytes] = {}

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be begun again as a whole; else it is known of each errand whether that has begun."""
        return self.errands[0].call.repeatable

    @property
    def runs(self) -> list[str]:
        """The ids of its runs, in order."""
        return [errand.call.context.run_id for errand in self.errands]


class Done(msgspec.Struct, frozen=True):
    """The ending of an errand, how many seconds it took, and what was logged meanwhile.

    `begun_before` is how often it was begun before, elsewhere: then it wasn't begun here. `declined_by` is the address
    of a worker that did not begin it, and would begin none of ours; its ending then says why. `is_left`: it has not
    begun, and never will in this bundle.
    """

    ending: RunEnd
    seconds: float
    lines: tuple[Line, ...] = ()
    begun_before: int = 0
    declined_by: str | None = None
    is_left: bool = False


BEGUN_BEFORE = Done(failure("It was begun before, on another Dask worker."), 0.0, begun_before=1)

LEFT = Done(not_begun("Another bundle has it."), 0.0, is_left=True)


def code_of(file: str | None) -> dict[str, bytes]:
    """The Python file of a task and those in its folder that it imports, however far, by their names within it.

    Nothing is executed. Raises OSError for a file that can't be read, TaskFailed if they are too many bytes.
    """
    if file is None:
        return {}
    folder = Path(file).parent
    finder = ModuleFinder(path=[str(folder)])
    try:
        finder.run_script(file)
    except SyntaxError as error:
        raise TaskFailed(f"{error.filename}, which {file} imports, is no Python this program can read.") from error
    paths = {Path(file), *(Path(place) for module in finder.modules.values() if (place := vars(module)["__file__"]))}
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}
    if sum(map(len, found.values())) > FILES_LIMIT:
        raise TaskFailed(f"{file} and the files beside it that it imports are more than {FILES_LIMIT} bytes.")
    return found


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


SENT = "(exec(source, globals()), answer)[-1]"
"""The expression that a Dask worker evaluates for a bundle: Python's own `eval` is what is sent, and plain values.

Anything of ours would have to be imported as soon as it arrives there. A worker that lacks this program dies of that,
and other people's work with it.
"""
SOURCE = """
try:
    from batch_runner.service.local.dask.worker_plugin import work
except ImportError as error:
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()
    try:
        begun_before = sync(worker.loop, worker.scheduler.batch_runner_claim, key=key)
    except Exception:  # the scheduler doesn't say: it may have begun elsewhere
        begun_before = 1
    answer = {"declined_by": worker.address, "why": str(error), "begun_before": begun_before}
else:
    answer = work(version, key, bundle)
"""
"""What that expression does: see `worker_plugin.work`. A worker that can't import it declines, and says who it is."""

ANSWERS = "batch_runner-answers"
"""The topic under which a client is told its short answers, as soon as they are there."""

SHORT = 16 * 1024
"""Bytes of an answer that is told so. Dask keeps the last messages of each connection, a thousand of them."""


def done_by(answer: bytes | dict[str, Any]) -> list[Done]:
    """What came back for a bundle; nothing where its worker is gone without a word."""
    if isinstance(answer, bytes):
        return msgspec.json.decode(answer, type=list[Done])
    why = f"The Dask worker {answer['declined_by']} can't import batch_runner: {answer['why']}"
    return [Done(failure(why), 0.0, begun_before=answer["begun_before"], declined_by=answer["declined_by"])]


MOST_LOSSES = 3
"""How often a repeatable call is sent again after it was lost."""


class PendingCall:
    """One call from the moment that it is to be sent."""

    def __init__(self, errand: BundledCall) -> None:
        self.errand = errand
        self.ending: RunEnd | None = None
        self.has_ended = anyio.Event()
        self.is_wanted = True
        self.key: str | None = None
        """That of its bundle, once Dask has had it, so that it may have begun."""
        self.goes_alone = False
        """Whether it was in a bundle that took its workers down: no other call is to go with it again."""
        self.scope: anyio.CancelScope | None = None
        """That of the bundle which it is in."""
        self.bundle: list[PendingCall] = []
        """The calls of that, in order."""
        self._losses = 0
        self._lost_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for its end."""
        return self.is_wanted and self.ending is None

    @property
    def told(self) -> RunEnd:
        """Its ending, once it has ended."""
        assert self.ending is not None
        return self.ending

    @property
    def others(self) -> list[PendingCall]:
        """Those of its bundle for whose ends somebody waits."""
        return [way for way in self.bundle if way is not self and way.is_open]

    def may_share_with(self, other: PendingCall) -> bool:
        """Whether it may be in a bundle with that one: calls of the same task."""
        alone = self.goes_alone or other.goes_alone
        return not alone and self.errand.call.source == other.errand.call.source

    def end(self, ending: RunEnd) -> None:
        """It has ended so; what may have run before is said."""
        if self._lost_by is not None and self.errand.call.repeatable:
            context = self.errand.call.context
            log.warning(f"may have run twice: {self._lost_by}", row=context.row, run_id=context.run_id)
        self.ending = ending
        self.has_ended.set()

    def fail(self, sentence: str) -> None:
        """It ends as `failure`."""
        self.end(result.failure(sentence))

    def cut_off(self, why: str) -> None:
        """It may have run, in part or to its end, and is not run again."""
        self.end(result.cut_off(f"worker lost: {why}", repeatable=self.errand.call.repeatable))

    def recall(self, why: str) -> None:
        """It is to be begun again, though it may have run if Dask has had it."""
        if self.key is not None:
            self._lost_by, self.key = why, None

    def lose(self, why: str) -> None:
        """It may have run, in part or to its end: it ends with that, but for one that is to be repeated."""
        self._losses += 1
        if self._losses > MOST_LOSSES or not self.errand.call.repeatable:
            self.cut_off(f"{why}; {NOT_REPEATED}.")
        else:
            self.recall(why)

    def miss(self, why: str) -> None:
        """It was lost before it began, perhaps for what began beside it: it is sent again, though not for ever."""
        self.goes_alone = True
        self._losses += 1
        if self._losses > MOST_LOSSES:
            self.give_up(why)

    def give_up(self, why: str) -> None:
        """Wait no longer for a cluster that is not there."""
        if not self.is_open:
            return
        if self.key is not None or self._lost_by is not None:
            self.cut_off(f"{why} while it was under way; {NOT_REPEATED}.")
        else:
            self.end(result.not_begun(f"It was not begun: {why}."))
        if self.scope is not None and not self.others:
            self.scope.cancel()


class Enough:
    """Judges whether a bundle has taken so long, or has given so much, that the rest goes elsewhere."""

    def __init__(self, bundle: Bundle) -> None:
        self._until = time.monotonic() + (ENOUGH_SECONDS if bundle.is_repeatable else AHEAD_SECONDS)
        self._bytes = 0

    def is_reached(self, ending: RunEnd) -> bool:
        """Whether it is enough with this ending."""
        self._bytes += memoryview(ending.result).nbytes
        return time.monotonic() > self._until or self._bytes > ENOUGH_BYTES


def merged(later: list[Done], earlier: list[Done], number: int) -> list[Done | None]:
    """What is known of the errands of a bundle that two workers had: None where one was lost.

    One that was declined is left, and no more: the other worker may have begun those behind it.
    """
    told = ([each[place] for each in (later, earlier) if place < len(each)] for place in range(number))
    found = (next((done for done in both if not done.begun_before), None) for both in told)
    return [LEFT if done is not None and done.declined_by is not None else done for done in found]


class Unpacking:
    """Lays out at a worker, under `folder`, what errands bring."""

    def __init__(self, folder: Path, worker: str) -> None:
        self._folder = folder
        self._worker = worker

    async def run(
        self, errand: BundledCall, code: dict[str, bytes], runs: Callable[[Call], Awaitable[RunEnd]]
    ) -> RunEnd:
        """How an errand ends that is laid out here, and is run so."""
        if hindrance := self._hindrance(errand):
            return hindrance
        ending: RunEnd | None = None
        is_laid_out = False
        try:
            with self._lay_out(errand, code) as call:
                is_laid_out = True
                ending = self._as_at_home(await runs(call), errand, call)
        except OSError as error:  # what has ended has, also where its files can't be removed
            why = f"The Dask worker {self._worker} can't lay out the run's files: {error}"
            return ending or RunEnd("failure", error=why, cant_load=not is_laid_out)
        return ending

    @contextlib.contextmanager
    def _lay_out(self, errand: BundledCall, code: dict[str, bytes]) -> Iterator[Call]:
        """The call as it is to be run here; what was sent for it alone is removed afterwards."""
        call = errand.call
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # again, where temporary files were swept away
        with contextlib.ExitStack() as stack:
            if call.source.file is not None:
                source = msgspec.structs.replace(call.source, file=str(self._module_file(call.source.file, code)))
                call = msgspec.structs.replace(call, source=source)
            if errand.files is not None:
                files = stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder, prefix="files-"))
                for name, content in errand.files.items():
                    path = Path(files, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                call = msgspec.structs.replace(call, context=msgspec.structs.replace(call.context, files=files))
            yield call

    def _hindrance(self, errand: BundledCall) -> RunEnd | None:
        """Why the call can't be run here: the folder of its files isn't there."""
        folder = errand.call.context.files
        if errand.files is not None or Path(folder).is_dir():
            return None
        why = f"The Dask worker {self._worker} has no folder {folder}; share it with the workers, or say --send-files."
        return RunEnd("failure", error=why, cant_load=True)

    def _as_at_home(self, ending: RunEnd, errand: BundledCall, here: Call) -> RunEnd:
        """The ending with the paths of whom it is for; what is missing on this worker is said to be missing here."""
        if ending.error is None:
            return ending
        error, home = ending.error, errand.call
        for there, local in ((home.source.file, here.source.file), (home.context.files, here.context.files)):
            if there and local:
                error = error.replace(local, there)
        if "No module named" in error:
            error += (
                f" (on the Dask worker {self._worker}: install it there; of your files only the task's own, and those "
                "beside it that it imports, are sent)"
            )
        return msgspec.structs.replace(ending, error=error)

    def _module_file(self, file: str, code: dict[str, bytes]) -> Path:
        """The task's file here: under its own name, in a folder for exactly these texts of it and of its neighbours."""
        digest = hashlib.sha256()
        for name, text in code.items():
            digest.update(f"{name}\0{len(text)}\0".encode() + text)
        folder = self._folder / digest.hexdigest()
        for name, text in code.items():
            if not (path := folder / name).exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text)
        return folder / Path(file).name
