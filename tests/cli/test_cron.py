"""Three nights under cron with the real binary: an empty environment, no terminal, a strict umask, another folder."""

from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ping_server import PingServer, ping_server
from program import PATIENCE, run_program
from served import wait_until
from systems import needs_posix

from batch_runner.journal.index import STATE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

BINARY = str(Path(sys.executable).parent / "batch-runner")
TASK = """
import time
from pathlib import Path

def pay(params):
    time.sleep(float(params.get("Seconds") or 0))
    while params.get("Until") and not Path(params["Until"]).exists():
        time.sleep(0.01)
    with Path(__file__).with_name("paid.txt").open("a") as paid:
        paid.write(params["Invoice"] + "\\n")
    if params["Amount"] == "0.00":
        raise ValueError("nothing to pay")
    return {"paid": params["Amount"]}
"""
JOB = """
input = "inbox/invoices-{date}.csv"
task = "task.py:pay"
output = "done/{stem}.csv"
key = ["Vendor", "Invoice"]
unique = ["Vendor", "Invoice"]
unique_conflict = ["Amount"]
retry = ["failure"]
retry_wait = 0
retry_limit = 1
report = "done/{stem}.html"
total = ["Amount"]
log_file = "night.log"
quiet = true
"""
NIGHTS = (
    ("2026-03-27", "ACME,1,10.00\nACME,2,20.50\nBeta,7,0.00\n"),
    ("2026-03-28", "Beta,7,0.00\nACME,2,20.50\nacme ,01,12.00\nACME,3,30.00\n"),
    ("2026-03-29", "Beta,7,0.00\nACME,3,30.00\nGamma,1,5.00\n"),
)
"""Failed, retried on the second night, parked on the third; a duplicate with another amount; rows come and leave."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "done").mkdir()
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "nightly.toml").write_text(JOB)
    return tmp_path


@pytest.fixture
def server() -> Iterator[PingServer]:
    with ping_server() as server:
        yield server


def cron(folder: Path, *options: str, **variables: str) -> subprocess.Popen[str]:
    """Start the night as cron does: nothing in the environment but what stands in the crontab."""
    return subprocess.Popen(
        [BINARY, "run", str(folder / "nightly.toml"), *options],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "LANG": "C", STATE_VARIABLE: os.environ[STATE_VARIABLE], **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        umask=0o077,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def night(folder: Path, *options: str) -> tuple[int, str, str]:
    """The same command in this process, where only what it says and does is looked at."""
    done = run_program("run", folder / "nightly.toml", *options, cwd=Path("/"))
    return done.returncode, done.stdout, done.stderr


def write_sheet(folder: Path, day: str, text: str) -> Path:
    sheet = folder / "inbox" / f"invoices-{day}.csv"
    sheet.write_text(f"Vendor,Invoice,Amount\n{text}")
    sheet.chmod(0o640)
    return sheet


def statuses(folder: Path, day: str) -> list[tuple[str, str]]:
    with (folder / "done" / f"invoices-{day}.csv").open(newline="") as file:
        return [(row["Invoice"], row["status"]) for row in csv.DictReader(file)]


def paid(folder: Path) -> list[str]:
    return (folder / "paid.txt").read_text().split()


@pytest.mark.long
def test_three_nights(folder: Path, server: PingServer) -> None:
    """Each invoice is paid once, whatever the sheet looks like; every night is told and leaves output and report."""
    codes = []
    told = []
    for day, text in NIGHTS:
        write_sheet(folder, day, text)
        code, out, err = ended(cron(folder, "--date", day, "--json", BATCH_RUNNER_HEARTBEAT=f"{server.url}/ping"))
        assert err.rstrip().endswith(", 1 held (duplicate)") == (day == "2026-03-28"), err
        codes.append(code)
        told.append(json.loads(out))
    assert codes == [3, 3, 3]
    assert [statuses(folder, day) for day, _ in NIGHTS] == [
        [("1", "success"), ("2", "success"), ("7", "failure")],
        [("7", "failure"), ("2", "success"), ("01", "error"), ("3", "success")],
        [("7", "failure"), ("3", "success"), ("1", "success")],
    ]
    assert sorted(paid(folder)) == ["1", "1", "2", "3", "7", "7"]
    assert [summary["parked"]["numbers"] for summary in told] == [[], [], [2]]
    assert [summary["duplicates"]["numbers"] for summary in told] == [[], [4], []]
    assert told[0]["since"] is None
    since = [{name: summary["since"][name] for name in ("batch", "new", "left")} for summary in told[1:]]
    assert since == [{"batch": 1, "new": 2, "left": 1}, {"batch": 2, "new": 1, "left": 2}]
    assert [ping.partition("?")[0] for ping in server.paths] == ["/ping/start", "/ping/fail"] * 3
    assert all((folder / "done" / f"invoices-{day}.html").is_file() for day, _ in NIGHTS)
    assert len(list((folder / "inbox").iterdir())) == len(NIGHTS)


@pytest.mark.long
def test_a_umask_holds_for_what_is_new(folder: Path) -> None:
    """Output, report and journal have the input's permissions, less what a umask of 077 takes away."""
    day, text = NIGHTS[0]
    write_sheet(folder, day, text)
    ended(cron(folder, "--date", day))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder / "done").iterdir()}
    modes |= {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.journal.db")}
    assert modes == dict.fromkeys([f"invoices-{day}.csv", f"invoices-{day}.html", "task.py-pay.journal.db"], 0o600)


@pytest.mark.long
def test_nothing_is_printed_while_all_is_well(folder: Path, server: PingServer) -> None:
    """Two nights on which every row succeeds: no byte for cron to mail, and a heartbeat that says success."""
    for day in ("2026-03-27", "2026-03-28"):
        write_sheet(folder, day, "ACME,1,10.00\n")
        done = ended(cron(folder, "--date", day, BATCH_RUNNER_HEARTBEAT=f"{server.url}/ping"))
        assert done == (0, "", "")
    assert [ping.partition("?")[0] for ping in server.paths] == ["/ping/start", "/ping"] * 2
    assert paid(folder) == ["1"]


@pytest.mark.long
def test_two_crons_at_once(folder: Path) -> None:
    """The second finds the journal held: 6, a sentence that names the process, and nothing is paid twice."""
    day = "2026-03-27"
    sheet, go = write_sheet(folder, day, ""), folder / "go"
    sheet.write_text(f"Vendor,Invoice,Amount,Until\nACME,1,10.00,{go}\nACME,2,20.00,\n")
    first = cron(folder, "--date", day)
    wait_until(lambda: list(folder.glob("*.journal.db-reserve")))
    code, _, err = ended(cron(folder, "--date", day))
    assert code == 6
    assert "another batch holds this journal" in err
    go.touch()
    assert ended(first)[0] == 0
    assert sorted(paid(folder)) == ["1", "2"]


def clock_change(hours: int) -> tuple[str, str]:
    """A time zone (POSIX) whose clock is moved by so many hours 4 s from now; and the hour and minute before that."""
    moment = time.gmtime(time.time() + 4)
    day = moment.tm_yday - 1
    at = f"{day}/{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    far = (day + 182) % 365
    if hours > 0:
        return f"AAA0BBB-1,{at},{far}/0", time.strftime("%H:%M", moment)
    at_summer = time.gmtime(time.time() + 4 + 3600)
    at = f"{at_summer.tm_yday - 1}/{at_summer.tm_hour:02}:{at_summer.tm_min:02}:{at_summer.tm_sec:02}"
    return f"AAA0BBB-1,{far}/0,{at}", time.strftime("%H:%M", at_summer)


@pytest.mark.long
@pytest.mark.parametrize("hours", [1, -1], ids=["put forward", "put back"])
def test_the_clock_is_changed_while_a_batch_runs(folder: Path, hours: int) -> None:
    """A deadline of 90 seconds is neither reached an hour early nor an hour late; all rows run, and once."""
    day = "2026-03-29"
    sheet = write_sheet(folder, day, "")
    sheet.write_text("Vendor,Invoice,Amount,Seconds\n" + "".join(f"ACME,{n},1.00,1\n" for n in range(8)))
    zone, _ = clock_change(hours)
    before = time.time()
    code, out, err = ended(
        cron(folder, "--date", day, "--deadline", "90s", "--workers", "1", "--concurrency", "1", TZ=zone)
    )
    assert time.time() - before > 6, "the change must fall into the batch"
    assert (code, out, err) == (0, "", "")
    assert sorted(paid(folder)) == [str(n) for n in range(8)]


@needs_posix
@pytest.mark.parametrize("hours", [1, -1], ids=["put forward", "put back"])
def test_the_zones_of_these_tests_do_change(hours: int) -> None:
    """The made-up zone shows another offset a minute later than a minute ago, so the tests above mean something."""
    zone, _ = clock_change(hours)
    code = "import time; a, b = [time.localtime(time.time() + s).tm_gmtoff for s in (-60, 60)]; print(b - a)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"TZ": zone, "PATH": os.environ["PATH"]}, capture_output=True, check=True
    )
    assert int(done.stdout) == hours * 3600


@pytest.mark.long
def test_a_day_that_was_left_is_not_forgotten(folder: Path) -> None:
    """Stopped on the first night, its rows aren't in the second night's sheet: that night says so, even `--quiet`."""
    write_sheet(folder, "2026-03-27", "ACME,1,0.00\nACME,2,10.00\nACME,3,10.00\n")
    code, out, _ = night(folder, "--date", "2026-03-27", "--max-failures", "1", "--concurrency", "1")
    assert (code, "(with --date 2026-03-27" in out) == (5, True)
    write_sheet(folder, "2026-03-28", "Beta,1,5.00\n")
    code, out, _ = night(folder, "--date", "2026-03-28")
    assert code == 0
    assert "invoices-2026-03-27.csv: 2 rows not started, unknown or still going" in out
    assert night(folder, "--date", "2026-03-27", "--retry", "all", "--retry-wait", "0")[0] == 3
    write_sheet(folder, "2026-03-29", "Beta,2,5.00\n")
    assert night(folder, "--date", "2026-03-29") == (0, "", "")


def test_a_key_of_another_days_row_is_told(folder: Path) -> None:
    """Numbered from 1 each day, tonight's rows look like yesterday's, and aren't sent: nobody may miss that."""
    job = JOB.replace('key = ["Vendor", "Invoice"]', 'key = ["Invoice"]').replace('unique_conflict = ["Amount"]', "")
    (folder / "nightly.toml").write_text(job.replace('unique = ["Vendor", "Invoice"]', ""))
    write_sheet(folder, "2026-03-27", "ACME,1,10.00\n")
    assert night(folder, "--date", "2026-03-27") == (0, "", "")
    write_sheet(folder, "2026-03-28", "Beta,1,99.00\n")
    code, out, _ = night(folder, "--date", "2026-03-28")
    assert code == 3
    assert "with another Amount: success" in out
    assert paid(folder) == ["1"]
