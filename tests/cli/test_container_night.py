"""A night as in a container, by the lines of `init --container`: little is there, and less may be written."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from program import PATIENCE, environment, run_program

NOBODY = 64_123
"""A uid that no user has."""
TASK = """
from batch_runner import task

@task(repeatable=True)
def pay(params):
    return {"paid": params["Row"]}
"""
PLACES = ("/usr", "/lib", "/lib64", "/bin", "/etc")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the container's root will be, with the folders that are mounted there."""
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a root of its own can be mounted by root on Linux only")
    tmp_path.chmod(0o755)
    root = tmp_path / "root"
    for place in (*PLACES, "/dev", "/proc", sys.base_prefix, "/opt/packages", "/opt/ours/batch_runner", "/data"):
        (root / place[1:]).mkdir(parents=True)
    return root


def _mounts(root: Path) -> str:
    """What a runtime does for `--read-only` without `--tmpfs`: all may be read, the data's folder written."""
    binds = {place: place for place in PLACES if Path(place).is_dir()}
    binds[sys.base_prefix] = sys.base_prefix  # where it looks for its own library
    binds[sysconfig.get_path("purelib")] = "/opt/packages"
    binds[str(Path(__file__).parents[2] / "batch_runner")] = "/opt/ours/batch_runner"
    lines = [
        "set -e",
        "mount --make-rprivate /",
        f"mount --bind {root} {root}",
        f"mount --bind {root}/data {root}/data",
    ]
    for outside, inside in binds.items():
        lines += [f"mount --bind {outside} {root}{inside}", f"mount -o remount,bind,ro {root}{inside}"]
    lines += [f"mount -t tmpfs none {root}/dev", f"touch {root}/dev/null {root}/dev/urandom"]
    lines += [f"mount --bind /dev/{name} {root}/dev/{name}" for name in ("null", "urandom")]
    lines += [f"mount -o remount,ro {root}/dev", f"mount -t proc none {root}/proc", f"mount -o remount,bind,ro {root}"]
    return "\n".join(lines)


def _run(root: Path, variables: list[str], words: list[str]) -> subprocess.CompletedProcess[str]:
    """With `timeout -k 10` around it, no terminal, no HOME, no temporary folder."""
    python = f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    command = [
        "chroot", str(root), "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
        "env", "-i", "PATH=/usr/bin:/bin", "PYTHONPATH=/opt/ours:/opt/packages", *variables,
        "sh", "-c", 'cd /data && exec "$@"', "sh", "timeout", "-k", "10", "150", python, "-m", "batch_runner", *words,
    ]  # fmt: skip
    script = f'{_mounts(root)}\nexec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", *command],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("output", ["out.csv", "out.xlsx", "out.parquet"])
def test_a_whole_night_in_a_container(root: Path, output: str) -> None:
    """No temporary folder, a root that is read-only, a uid without a name: the rows run, the next night has no work."""
    data = root / "data"
    (data / "task.py").write_text(TASK)
    (data / "sheet.csv").write_text("Row\n1\n2\n3\n")
    (data / "job.toml").write_text(f'input = "sheet.csv"\ntask = "task.py:pay"\noutput = "{output}"\n')
    told = run_program("init", "--container", "job.toml", cwd=data).stdout
    words = json.loads(re.search(r"^CMD (.*)$", told, re.MULTILINE)[1])  # type: ignore[index]
    variables = re.findall(r" -e (\S+=\S+)", told)
    assert words == ["run", "/data/job.toml"]
    assert variables == ["BATCH_RUNNER_STATE=/data/.batch-runner"]
    for path in (data, *data.iterdir()):
        shutil.chown(path, NOBODY, NOBODY)
    first = _run(root, variables, words)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 success" in first.stdout
    assert "Traceback" not in first.stderr
    if output == "out.csv":
        with (data / output).open(encoding="utf-8-sig", newline="") as file:
            assert [json.loads(record["result"])["paid"] for record in csv.DictReader(file)] == ["1", "2", "3"]
    assert (data / output).stat().st_uid == NOBODY
    second = _run(root, variables, words)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "carried over" in second.stdout
    usual = {"sheet.csv", "task.py", "__pycache__", "job.toml", output, ".batch-runner"}
    left = {path.name for path in data.iterdir()} - usual
    assert left == {next(name for name in left if name.endswith(".journal.db"))}
