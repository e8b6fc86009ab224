"""The whole program on a Dask cluster, and what it refuses."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from dask_cluster import DaskCluster, kill, wait
from distributed import Client
from program import COMMAND, PATIENCE, environment, run_process, run_program, start_program
from served import served

from batch_runner.service.local.service import NEVER_BEGAN
from batch_runner.service.local.store_file import CUT_OFF

SAMPLES = Path(__file__).parents[2] / "samples"

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

SLOW = """
import time
from pathlib import Path
def slow(params):
    with Path(params["Begun"]).open("ab") as file:
        file.write(b".")
    time.sleep(0.2)
    return params
"""


WAITING = """
import time
from pathlib import Path
here = Path(SUPPORT)
def waiting(params):
    (here / "begun").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
    return params
"""


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """A copy of the samples, which a worker elsewhere knows nothing of."""
    return Path(shutil.copytree(SAMPLES, tmp_path / "samples", ignore=shutil.ignore_patterns("*.results*", "*.db")))


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        return bool(process.environ().get("MARK_OF_THIS_TEST") == mark)
    except psutil.Error:
        return False


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
@pytest.mark.parametrize("more", [[], ["--send-files"]])
def test_the_invoices_are_read_on_the_cluster(cluster: DaskCluster, samples: Path, more: list[str]) -> None:
    """All rows succeed, in a shared folder and with their files sent along; the output stays where it is."""
    options = ["--task", "invoice", "--dask", cluster.address, "--progress", "never", *more]
    done = run_program("run", "invoices.csv", *options, cwd=samples)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["status"] for row in rows_of(samples / "invoices.results.csv")] == ["success"] * 14


@pytest.mark.long
def test_a_cluster_of_our_own(samples: Path) -> None:
    """`--dask local` starts one and leaves none of its processes behind."""
    options = ("--task", "invoice", "--dask", "local", "--workers", 1)
    done = run_process("run", "invoices.csv", *options, cwd=samples, MARK_OF_THIS_TEST=str(samples))
    assert done.returncode == 0, done.stderr
    wait(lambda: not any(_is_marked(process, str(samples)) for process in psutil.process_iter()))
    assert [row["status"] for row in rows_of(samples / "invoices.results.csv")] == ["success"] * 14


@pytest.mark.long
def test_a_cluster_of_our_own_says_nothing_of_ports(samples: Path) -> None:
    """Where that of Dask's dashboard is taken: there is none."""
    with socket.socket() as taken:
        with suppress(OSError):
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        options = ("--task", "invoice", "--dask", "local", "--workers", 1, "--progress", "never")
        done = run_process("run", "invoices.csv", *options, cwd=samples)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
def test_ctrl_c_leaves_the_runs_on_a_cluster_of_our_own_their_time(tmp_path: Path) -> None:
    """A terminal's SIGINT goes to all processes of the foreground; the run that is in flight ends as elsewhere."""
    (tmp_path / "tasks.py").write_text(WAITING.replace("SUPPORT", repr(str(tmp_path))))
    (tmp_path / "sheet.csv").write_text("Id\n1\n2\n")
    options = ("--task", "tasks.py:waiting", "--dask", "local", "--workers", 1, "--concurrency", 1)
    command, err = [*COMMAND, "run", "sheet.csv", *map(str, options)], tmp_path / "stderr.txt"
    said = partial(err.read_text, "utf-8")
    with (
        err.open("wb") as stderr,
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, stderr=stderr, start_new_session=True
        ) as program,
    ):
        wait((tmp_path / "begun").exists)
        os.killpg(program.pid, signal.SIGINT)
        wait(lambda: "stopping: " in said())
        (tmp_path / "go").touch()
        program.wait(PATIENCE)
    assert program.returncode == 130, said()
    assert "Traceback" not in said()
    (row,) = [row for row in rows_of(tmp_path / "sheet.results.csv") if row["status"] == "success"]
    assert row["Id"] == "1"


@pytest.mark.long
def test_a_cluster_of_another_version_is_refused(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one sentence, before anything is sent."""
    other = tmp_path / "other" / "batch_runner-9.9.9.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: batch-runner\nVersion: 9.9.9\n")
    monkeypatch.setenv("PYTHONPATH", str(other.parent))
    with DaskCluster(tmp_path) as cluster:
        monkeypatch.delenv("PYTHONPATH")
        done = run_program("run", "invoices.csv", "--task", "invoice", "--dask", cluster.address, cwd=samples)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"batch-runner: The Dask cluster at {cluster.address} has other versions than this program: "
        "the scheduler has batch-runner 9.9.9, here it is 0.1.0."
    ]


@pytest.mark.long
def test_a_scheduler_that_restarts_in_the_middle_of_a_batch(tmp_path: Path) -> None:
    """No row is lost, none begins twice, and those that were under way say so; the batch goes on by itself."""
    folder = tmp_path / "dask"
    folder.mkdir()
    (tmp_path / "slow.py").write_text(SLOW)
    begun = [tmp_path / f"begun-{number}" for number in range(30)]
    (tmp_path / "sheet.csv").write_text("Begun\n" + "".join(f"{path}\n" for path in begun))
    with DaskCluster(folder) as cluster:
        cluster.add_workers(2)
        options = ["--task", "slow.py:slow", "--dask", cluster.address, "--concurrency", 30]
        with start_program("run", "sheet.csv", *options, cwd=tmp_path) as program:
            wait(lambda: sum(path.exists() for path in begun) > 6)
            kill(cluster.scheduler)
            cluster.start_scheduler()
            cluster.add_workers(2)
            _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 4, err
    rows = rows_of(tmp_path / "sheet.results.csv")
    assert {row["status"] for row in rows} == {"success", "unknown"}
    assert all(row["error"].startswith("worker lost: ") for row in rows if row["status"] == "unknown")
    assert all(path.stat().st_size == 1 for path in begun if path.exists())
    assert sum(row["status"] == "success" for row in rows) >= 20


MARKED = """
import time
from pathlib import Path
here = Path(SUPPORT)
def marked(params):
    with (here / ("begun-" + params["Id"])).open("ab") as file:
        file.write(b".")
    while not (here / "go").exists():
        time.sleep(0.01)
    (here / ("ended-" + params["Id"])).touch()
"""


def begun_in(folder: Path) -> dict[str, int]:
    """How often the task of each row was begun."""
    return {path.name.removeprefix("begun-"): path.stat().st_size for path in folder.glob("begun-*")}


@pytest.mark.long
@pytest.mark.parametrize("is_same", [True, False])
def test_a_killed_client_leaves_unknown_what_had_begun(tmp_path: Path, *, is_same: bool) -> None:
    """The cluster knows what that was; the rest runs the next time, once. Another scheduler knows nothing of it."""
    folder = tmp_path / "dask"
    folder.mkdir()
    (tmp_path / "tasks.py").write_text(MARKED.replace("SUPPORT", repr(str(tmp_path))))
    (tmp_path / "sheet.csv").write_text("Id\n" + "".join(f"{number}\n" for number in range(12)))
    with DaskCluster(folder) as cluster:
        cluster.add_workers(2)
        options = ["--task", "tasks.py:marked", "--dask", cluster.address, "--concurrency", 10]
        with start_program("run", "sheet.csv", *options, cwd=tmp_path) as program:
            wait(lambda: len(begun_in(tmp_path)) == 2)
            wait(lambda: sum(status_of(tmp_path)[status] for status in ("queued", "running")) == 10)
            program.kill()
        (tmp_path / "go").touch()
        first = begun_in(tmp_path)
        if not is_same:
            kill(cluster.scheduler)
            cluster.start_scheduler()
            cluster.add_workers(2)
        done = run_program("run", "sheet.csv", *options, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    unknown = {row["Id"] for row in rows_of(tmp_path / "sheet.results.csv") if row["status"] == "unknown"}
    assert unknown == set(first) if is_same else len(unknown) == 10
    assert set(begun_in(tmp_path).values()) == {1}
    assert len(begun_in(tmp_path)) == (12 if is_same else 4)


def status_of(folder: Path) -> Counter[str]:
    """How many rows the journal knows to be in which status."""
    (journal,) = folder.glob("*.journal.db")
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        return Counter(dict(connection.execute("SELECT status, count(*) FROM attempt GROUP BY status")))


@pytest.mark.long
@pytest.mark.parametrize("is_on_dask", [True, False])
def test_the_deadline_holds_back_what_only_waits(tmp_path: Path, *, is_on_dask: bool) -> None:
    """What has begun by then ends; all other rows are not started, though their runs were queued."""
    (tmp_path / "tasks.py").write_text(MARKED.replace("SUPPORT", repr(str(tmp_path))))
    (tmp_path / "sheet.csv").write_text("Id\n" + "".join(f"{number}\n" for number in range(12)))
    folder = tmp_path / "dask"
    folder.mkdir()
    with ExitStack() as stack:
        where: list[object] = ["--workers", 2]
        if is_on_dask:
            cluster = stack.enter_context(DaskCluster(folder))
            cluster.add_workers(2)
            where = ["--dask", cluster.address]
        options = ["--task", "tasks.py:marked", "--concurrency", 12, "--deadline", "8s", *where]
        with start_program("run", "sheet.csv", *options, cwd=tmp_path) as program:
            wait(lambda: len(begun_in(tmp_path)) == 2)
            wait(lambda: status_of(tmp_path)["not_started"] == 10)
            (tmp_path / "go").touch()
            _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 5, err
    rows = rows_of(tmp_path / "sheet.results.csv")
    assert {row["Id"] for row in rows if row["status"] == "success"} == set(begun_in(tmp_path))
    assert [row["status"] for row in rows].count("not_started") == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--send-files"], "--send-files: it sends files to a Dask cluster; say which by --dask tcp://HOST:8786"),
        (["--dask", "host"], "--dask: 'host' is no address of a scheduler; write it as tcp://HOST:8786, or local"),
        (["--dask", "tcp://h:1", "--workers", "2"], "--workers, --dask: that cluster has its own workers; leave"),
        (["--dask", "local", "--service", "anchor"], "--dask, --service: anchor runs its tasks itself; only the local"),
    ],
)
def test_what_makes_no_sense_is_refused(samples: Path, options: list[str], said: str) -> None:
    """With one line, and nothing is sent."""
    done = run_program("run", "invoices.csv", "--task", "invoice", *options, cwd=samples)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


LOGGING = """
from decimal import Decimal
from batch_runner import Context, task

@task(repeatable=True, timeout="20s")
def pay(amount: Decimal, *, context: Context) -> str:
    context.log.info("pays")
    return f"{amount * 2} in row {context.row}"
"""


@pytest.mark.long
def test_a_declared_task_is_on_the_cluster_what_it_is_here(cluster: DaskCluster, tmp_path: Path) -> None:
    """Its arguments are made of the row, it knows the row's number, and what it logs comes home with run and row."""
    (tmp_path / "tasks.py").write_text(LOGGING)
    (tmp_path / "sheet.csv").write_text("Amount\n1.50\n2\nmany\n")
    options = ("--task", "tasks.py:pay", "--dask", cluster.address, "--log-level", "info")
    done = run_program("run", "sheet.csv", *options, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    rows = rows_of(tmp_path / "sheet.results.csv")
    assert [row["result"] for row in rows] == ['"3.00 in row 2"', '"4 in row 3"', ""]
    assert rows[2]["error"].startswith("sheet.csv, A4: 'Amount' has to be a number")
    said = [re.search(r" pays .*row=(\d) run_id=run_", line) for line in done.stderr.splitlines() if " pays " in line]
    assert sorted(found[1] for found in said if found) == ["2", "3"]


@pytest.mark.long
def test_a_service_that_is_started_again_asks_the_cluster_what_had_begun(cluster: DaskCluster, tmp_path: Path) -> None:
    """What was at work when it was killed is cut off; what waited on the cluster has never begun, and never will."""
    runs = [{"mark": str(tmp_path / f"mark-{n}"), "until": str(tmp_path / "go")} for n in range(4)]
    options = ("--dask", cluster.address, "--runs", str(tmp_path / "runs.db"))
    with served(tmp_path, *options) as service:
        started = [service.start("wait_for", params, key=params["mark"])[1] for params in runs]
        wait(lambda: len([*tmp_path.glob("mark-*")]) == 2)
        wait(lambda: {service.status(run["run_id"])["status"] for run in started} == {"running"})
        service.process.kill()
        service.process.wait()
    (tmp_path / "go").touch()
    begun = {path.name for path in tmp_path.glob("mark-*")}
    with served(tmp_path, *options) as service:
        for params, run in zip(runs, started, strict=True):
            told = service.status(run["run_id"])
            assert told["error"] == (CUT_OFF if Path(params["mark"]).name in begun else NEVER_BEGAN)
            assert service.start("wait_for", params, key=params["mark"]) == (200, told)
    assert {path.name for path in tmp_path.glob("mark-*")} == begun


def retire_all(address: str) -> None:
    """Take all workers out, as an operator does; it returns while they let their runs end."""
    with Client(address, set_as_default=False) as client:
        client.retire_workers(workers=[*client.nthreads()], close_workers=True)


@pytest.mark.long
@pytest.mark.parametrize("way", ["Ctrl-C", "deadline"])
def test_the_last_worker_is_retired_while_rows_wait(tmp_path: Path, way: str) -> None:
    """The row at work there ends and is told, with no other worker; the rest waits, and a sentence says for what."""
    (tmp_path / "tasks.py").write_text(MARKED.replace("SUPPORT", repr(str(tmp_path))))
    (tmp_path / "sheet.csv").write_text("Id\n" + "".join(f"{number}\n" for number in range(6)))
    folder, log = tmp_path / "dask", tmp_path / "log.txt"
    folder.mkdir()
    with DaskCluster(folder) as cluster:
        cluster.add_workers()
        options = ["--task", "tasks.py:marked", "--dask", cluster.address, "--concurrency", 4, "--log-file", log]
        more = ["--deadline", "12s"] if way == "deadline" else []
        with start_program("run", "sheet.csv", *options, *more, cwd=tmp_path) as program:
            wait(lambda: len(begun_in(tmp_path)) == 1)
            retire_all(cluster.address)
            wait(lambda: "the Dask cluster has no workers; runs wait until there are some" in log.read_text())
            assert status_of(tmp_path)["success"] == 0
            (tmp_path / "go").touch()
            wait(lambda: status_of(tmp_path)["success"] == 1)
            if way == "Ctrl-C":
                program.send_signal(signal.SIGINT)
            _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == (130 if way == "Ctrl-C" else 5), err
    assert "start one with `dask worker`, or end this program with Ctrl-C" in err
    assert begun_in(tmp_path) == {"0": 1}
    assert [row["status"] for row in rows_of(tmp_path / "sheet.results.csv")] == ["success"] + ["not_started"] * 5
