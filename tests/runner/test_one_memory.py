"""One memory for each task: whatever the sheet, its folder or its output is called, nothing that ran is started again.

The starts are counted at the service. `check` is asked before each command, and tells what it then does.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
from typing import TYPE_CHECKING

import pytest
from counted_nights import OPEN_ITEMS, Night
from program import run_program
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[False, True], ids=["told", "quiet"])
def night(request: pytest.FixtureRequest, tmp_path: Path, impatient: None) -> Iterator[Night]:
    with on_a_socket(Service(looks=1)) as service:
        yield Night(tmp_path / "work", service, quiet=bool(request.param))


PAY = """
def pay(params):
    with open({log!r}, "a") as file:
        file.write(params["Row"] + "\\n")
"""


@pytest.mark.long
@pytest.mark.parametrize("quiet", [(), ("--quiet",)], ids=["told", "quiet"])
def test_a_copy_of_the_folder_with_its_own_task_starts_nothing(tmp_path: Path, quiet: tuple[str, ...]) -> None:
    """The copied file of tasks is another one by its path; the copied journal says whose copy it is."""
    first, log = tmp_path / "work", tmp_path / "started"
    words = ("in.csv", "--task", "my_task.py:pay", "--key", "Row", "--workers", "1", *quiet)
    first.mkdir()
    (first / "my_task.py").write_text(PAY.format(log=str(log)))
    (first / "in.csv").write_text("Row\nA-1\nA-2\n")
    assert run_program("run", *words, cwd=first).returncode == 0
    copy = tmp_path / "copy"
    shutil.copytree(first, copy)
    for folder in (first, copy):
        (folder / "in.csv").write_text("Row\nA-1\nA-2\nA-3\n")
    plans = []
    for folder in (first, copy):
        checked = run_program("check", *words[: 7 if quiet else None], "--json", cwd=folder)
        plans.append(json.loads(checked.stdout)["plan"])
        done = run_program("run", *words, cwd=folder)
    assert [(plan["start"], plan["carried_over"], plan["held"]) for plan in plans] == [(1, 2, 0), (0, 2, 1)]
    assert done.returncode == 3
    assert "from in.csv, row 4: success" in done.stdout
    assert log.read_text().split() == ["A-1", "A-2", "A-3"]


@pytest.fixture
def elsewhere(night: Night) -> Night:
    """Another folder with the same list, without a journal, when the list has run."""
    night.run(night.sheet("offene_posten.csv"))
    other = Night(night.folder.with_name("other"), night.service, quiet=bool(night.quiet))
    other.sheet("in.csv", (*OPEN_ITEMS, "A-5"))
    return other


def test_what_ran_in_another_journal_is_held_and_says_where(elsewhere: Night) -> None:
    """`error`, with the night, the sheet, the row, what came of it and the run; the new row runs."""
    assert elsewhere.run("in.csv", code=3) == ["A-5"]
    assert elsewhere.held == 4
    held = elsewhere.rows("in.results.csv")[1]
    assert (held["status"], held["run_id"]) == ("error", "")
    assert held["error"].startswith("ran on ")
    assert " from offene_posten.csv, row 3: success, run-2" in held["error"]
    assert re.search(r"^in.csv: 5 rows in .*; 4 held \(ran on .* from offene_posten.csv\)$", elsewhere.said, re.M)


def test_what_to_do_with_a_held_row_is_said_whole_however_long_its_journal_is_called(night: Night) -> None:
    """Of a long message the middle is left out, not the next step."""
    night.run(night.sheet("offene_posten.csv", OPEN_ITEMS[:1]), "--journal", f"{'long ' * 40}.db")
    other = Night(night.folder.with_name("other"), night.service, quiet=bool(night.quiet))
    other.run(other.sheet("in.csv", OPEN_ITEMS[:1]), code=3)
    steps = "; --same carries that over, --again starts this row, too, --journal with its path goes on with it  [row 2]"
    assert steps in other.said


def test_a_hold_outlasts_the_night(elsewhere: Night) -> None:
    """The next night holds the same rows, and starts nothing."""
    elsewhere.run("in.csv", code=3)
    assert elsewhere.run("in.csv", "--retry", "error", code=3) == []


def test_again_starts_held_rows_for_one_batch(elsewhere: Night) -> None:
    """It is said on the command line; afterwards they are this journal's own."""
    assert len(elsewhere.run("in.csv", "--again")) == 5
    assert elsewhere.run("in.csv") == []


def test_same_carries_held_rows_over_and_remembers_it(elsewhere: Night) -> None:
    """They have the other journal's runs and results; later nights need no word, and ask nobody."""
    assert elsewhere.run("in.csv", "--same") == ["A-5"]
    told = [(row["status"], row["run_id"], row["result"]) for row in elsewhere.rows("in.results.csv")]
    assert told[:2] == [("success", f"run-{n}", f'{{"row": "A-{n}"}}') for n in (1, 2)]
    assert elsewhere.run("in.csv") == []
    story = elsewhere.status("in.csv", "--row", "2")
    assert "carried over: ran on " in story
    assert "offene_posten.csv, row 2: success, run-1" in story


def test_the_journal_that_is_named_goes_on(elsewhere: Night, night: Night) -> None:
    """The hold's third way out."""
    assert elsewhere.run("in.csv", "--journal", str(night.folder / "pay.journal.db")) == ["A-5"]
    assert elsewhere.statuses("in.results.csv") == ["success"] * 5


def test_without_the_index_what_lies_beside_is_read_all_the_same(night: Night) -> None:
    """Another journal beside the input: its rows are held, though no index knows of it."""
    night.run(night.sheet("in.csv"), "--journal", "mine.journal.db")
    assert night.run(night.sheet("in (1).csv"), code=3, BATCH_RUNNER_STATE=str(night.folder / "other-state")) == []


def test_without_a_state_folder_it_is_told_once(night: Night) -> None:
    """In a home that can't be written, as under cron: never a failure, and told once for each journal, if quiet too."""
    (night.folder / "file").touch()
    state = str(night.folder / "file" / "state")
    assert len(night.run(night.sheet("in.csv"), BATCH_RUNNER_STATE=state)) == 4
    assert "the index of journals can't be written" in night.said
    assert night.run("in.csv", BATCH_RUNNER_STATE=state) == []
    assert "the index of journals" not in night.said


def test_the_index_is_for_its_owner_only_and_holds_no_values(night: Night, tmp_path: Path) -> None:
    """Paths, task and service."""
    state = tmp_path / "state"
    night.run(night.sheet("in.csv"), BATCH_RUNNER_STATE=str(state))
    files = [path for path in (state / "journals").iterdir() if path.is_file()]
    assert [json.loads(path.read_bytes()) for path in files] == [
        {
            "path": str(night.folder / "pay.journal.db"),
            "task": "pay",
            "service": night.service.url,
            "is_gone": False,
        }
    ]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (*files, *(f.parent for f in files))}
    assert modes == {0o600, 0o700}


@pytest.mark.long
def test_sheets_of_one_task_may_have_other_keys(night: Night) -> None:
    """Each row is known by its own; a row that ran under another sheet's key is held all the same."""
    night.run(night.sheet("in.csv"))
    (night.folder / "other.csv").write_text("Id,Row,Amount\n7,A-1,10\n8,B-1,10\n")
    assert night.run("other.csv", "--key", "Id", code=3) == ["B-1"]
    assert "from in.csv, row 2: success, run-1" in night.rows("other.results.csv")[0]["error"]
    assert night.run("other.csv", "--key", "Id", code=3) == []
    assert night.run("in.csv") == []


def test_a_sheet_that_can_not_be_asked_for_any_known_key_is_told_of_once(night: Night) -> None:
    """Its key column was renamed, so all its rows are new: said with `--quiet`, too, and by `check`."""
    night.run(night.sheet("in.csv"))
    (night.folder / "new.csv").write_text("Row,Number,Amount\nZ-1,A-1,10\n".replace("Row,", "Row ,", 1))
    words = ("new.csv", "--key", "Number", "--param", "Row={Number}")
    told = "rows of this task are known by Row so far, which this sheet can't be asked for"
    assert told in night.call("check", *words).stdout
    assert night.run(*words) == ["A-1"]
    assert told in night.said
    assert night.run(*words) == []
    assert told not in night.said


def test_the_same_sheet_with_another_key_is_refused(night: Night) -> None:
    """Each of its rows would be a new one."""
    night.run(night.sheet("in.csv"))
    assert night.run("in.csv", "--key", "Amount", code=2) == []


@pytest.mark.long
def test_a_repeatable_task_is_held_by_nobody(tmp_path: Path) -> None:
    """It does no harm when it runs twice: `invoice`, and whatever its author declared so."""
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "in.csv").write_text("File Name,Operation\nno.pdf,extract_text\n")
        done = run_program("run", "in.csv", "--task", "invoice", "--json", cwd=folder)
        assert json.loads(done.stdout)["counts"] == {"failure": 1}
