"""Which tasks there are: the built-in one, a function of a file, all functions of a file; and what is said if not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from contract import OWN

from batch_runner.errors import UsageError
from batch_runner.service.local.tasks import load_tasks

SUPPORT = Path(__file__).parents[1] / "support"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text, "utf-8")
    return str(path)


def test_the_built_in_task_is_always_there() -> None:
    """Named or not, `invoice` is there, once."""
    assert set(load_tasks(files=SUPPORT).by_id) == set(load_tasks("invoice", files=SUPPORT).by_id) == {"invoice"}


def test_one_function_is_a_task_under_exactly_the_id_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file is named from the working directory."""
    monkeypatch.chdir(SUPPORT)
    tasks = load_tasks("own_tasks.py:echo", files=SUPPORT)
    assert set(tasks.by_id) == {"invoice", "own_tasks.py:echo"}
    task = tasks.find("own_tasks.py:echo")
    assert task is not None
    assert str(task.source) == f"{OWN}:echo"
    assert not task.is_async


def test_a_file_is_all_its_public_functions_under_both_names(tmp_path: Path) -> None:
    """Not what it imports, not what begins with an underscore or can't take params, no classes, no generators."""
    file = write(
        tmp_path,
        "from json import dumps\n"
        "class Thing: ...\n"
        "def _own(params): ...\n"
        "def total(lines, rate): ...\n"
        "def lines(file): yield file\n"
        "def plain(params): ...\n"
        "def knowing(params, context): ...\n"
        "async def waiting(params, limit=3): ...\n",
    )
    tasks = load_tasks(file, files=tmp_path)
    names = {"plain", "knowing", "waiting"}
    assert set(tasks.by_id) == {"invoice"} | names | {f"{file}:{name}" for name in names}
    assert {name for name in names if tasks.by_id[name].is_async} == {"waiting"}


def test_a_task_may_import_its_neighbours(tmp_path: Path) -> None:
    """The folder of a task's file is on the import path."""
    (tmp_path / "beside_it_7.py").write_text("RATE = 19\n", "utf-8")
    assert load_tasks(write(tmp_path, "import beside_it_7\ndef f(params): ...\n") + ":f", files=tmp_path).by_id


def test_what_a_file_prints_is_kept_off_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It goes to standard error: standard output is for the summary."""
    load_tasks(write(tmp_path, "print('hello')\ndef f(params): ...\n"), files=tmp_path)
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(
    ("text", "spec", "said"),
    [
        ("def check(params): ...", ":chek", "has no function 'chek'; did you mean 'check'?"),
        ("def check(params): ...", ":other", "has no function 'other'; name one that is defined there."),
        ("def check(a, b): ...", ":check", "has to take one argument, the params"),
        ("check = 3", ":check", "has no function 'check'"),
        ("import no_such_module_7", ":f", "can't be imported: ModuleNotFoundError: No module named 'no_such_module_7'"),
        ("def f(:", ":f", "can't be imported: SyntaxError"),
        ("import sys; sys.exit(2)", ":f", "can't be imported: SystemExit: 2"),
        ("RATE = 19", "", "holds no task"),
        ("def invoice(params): ...", "", "Two tasks are called 'invoice'"),
    ],
)
def test_what_cannot_be_a_task_is_said_in_one_sentence(tmp_path: Path, text: str, spec: str, said: str) -> None:
    """Each reason why a file or a function can't be one has one line."""
    with pytest.raises(UsageError) as caught:
        load_tasks(write(tmp_path, text) + spec, files=tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("invoce", "There is no task 'invoce'"),
        ("no_such.py:f", "There is no file"),
        ("no_such.py", "There is no file"),
        ("", "There is no task ''"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(spec: str, said: str) -> None:
    """A file or a name that isn't there is refused."""
    with pytest.raises(UsageError, match=said):
        load_tasks(spec, files=SUPPORT)


def test_a_files_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The sentence names the option."""
    with pytest.raises(UsageError, match="--files"):
        load_tasks(files=tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="only there may a name be any bytes")
def test_a_path_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A folder whose name is no UTF-8 can't be told to a worker, so neither files nor tasks may be in it."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    with pytest.raises(UsageError, match="no valid UTF-8"):
        load_tasks(files=folder)
    with pytest.raises(UsageError, match="no valid UTF-8"):
        load_tasks(write(folder, "def f(params): ...") + ":f", files=tmp_path)
