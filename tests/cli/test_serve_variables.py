"""Every option of `serve` is a variable of the environment, too: flag > environment > default."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from ports import kept_port
from program import run_program, start_program

from batch_runner.cli import serve as serving
from batch_runner.cli.commands import program
from batch_runner.job.config import load_job, unknown_variables
from batch_runner.job.options import OF_SERVE, options

if TYPE_CHECKING:
    from pathlib import Path

SAID: dict[str, tuple[str, object]] = {
    "port": ("8123", 8123),
    "host": ("localhost", "localhost"),
    "tasks": ("mine.py", "mine.py"),
    "files": ("pdfs", "pdfs"),
    "workers": ("3", 3),
    "dask": ("tcp://dask:8786", "tcp://dask:8786"),
    "send_files": ("true", True),
    "run_timeout": ("5m", "5m"),
    "runs": ("mine.db", "mine.db"),
    "keep": ("12h", "12h"),
    "queue": ("7", 7),
    "grace": ("1m", "1m"),
}
"""For each option a text, and what it means."""
VARIABLES = {f"BATCH_RUNNER_{name.upper()}": text for name, (text, _) in SAID.items()}


@pytest.fixture
def in_force(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options that `serve` was called with, by name, once it was."""
    found: dict[str, Any] = {}

    def note(said: serving.Serving) -> int:
        found.update({name: getattr(said, name) for name in said.__struct_fields__})
        return 0

    monkeypatch.setattr(serving, "serve_until_stopped", note)
    return found


def serve(*words: str, **variables: str) -> None:
    done = CliRunner(env=variables).invoke(program, ["serve", *words])
    assert done.exception is None, done.output


def test_every_option_of_serve_is_a_variable(in_force: dict[str, Any]) -> None:
    """Each is in force; an empty one says nothing."""
    serve(**VARIABLES)
    assert in_force == {name: value for name, (_, value) in SAID.items()}
    serve(**dict.fromkeys(VARIABLES, ""))
    assert (in_force["port"], in_force["dask"], in_force["send_files"]) == (8080, None, False)


def test_a_flag_is_stronger_than_a_variable_of_serve(in_force: dict[str, Any]) -> None:
    """And a variable is stronger than the default."""
    serve("--port", "1", "--files", "here", **VARIABLES)
    assert (in_force["port"], in_force["files"], in_force["keep"]) == (1, "here", "12h")


def test_it_serves_on_the_port_that_the_environment_names(tmp_path: Path) -> None:
    """The real program does, and says so."""
    with kept_port() as port, start_program("serve", cwd=tmp_path, BATCH_RUNNER_PORT=str(port)) as process:
        try:
            assert process.stderr is not None
            assert f"serving the Tasks API on http://127.0.0.1:{port};" in process.stderr.readline()
            assert process.stderr.readline() == "batch-runner: task: invoice (--tasks FILE.py adds your own)\n"
        finally:
            process.kill()


def test_no_variable_of_serve_is_unknown_to_run() -> None:
    """Nor are there others: the table of what only `serve` has is complete. A slip is heard of as ever."""
    assert set(OF_SERVE) == SAID.keys() - options().keys()
    assert {param.name for param in program.commands["serve"].params} == SAID.keys()
    assert list(unknown_variables(VARIABLES)) == []
    (slip,) = unknown_variables({"BATCH_RUNNER_PROT": "1"})
    assert slip.endswith("Did you mean BATCH_RUNNER_PORT?")


def test_a_variable_means_the_same_for_run_and_serve(in_force: dict[str, Any]) -> None:
    """Where both have the option; that of a Dask cluster stands for itself."""
    for left_out in ("BATCH_RUNNER_WORKERS", "BATCH_RUNNER_DASK"):
        environ = {name: text for name, text in VARIABLES.items() if name != left_out}
        if left_out == "BATCH_RUNNER_DASK":
            del environ["BATCH_RUNNER_SEND_FILES"]
        serve(**environ)
        job = load_job("a.csv", {}, environ).job
        for name in SAID.keys() & options().keys():
            assert getattr(job, name) == in_force[name]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("HOST", "no-such-host.invalid"),
        ("TASKS", "no.py"),
        ("FILES", "no/such"),
        ("WORKERS", "0"),
        ("DASK", "dask"),
        ("SEND_FILES", "maybe"),
        ("SEND_FILES", "1"),
        ("RUN_TIMEOUT", "soon"),
        ("RUNS", "no/such/folder.db"),
        ("KEEP", "soon"),
        ("QUEUE", "many"),
        ("GRACE", "-1s"),
    ],
)
def test_a_bad_variable_of_serve_is_one_sentence_that_names_it(tmp_path: Path, variable: str, text: str) -> None:
    """It is refused (2), and nothing is left behind."""
    variables = {"BATCH_RUNNER_PORT": "0", f"BATCH_RUNNER_{variable}": text}
    refused = run_program("serve", cwd=tmp_path, **variables)
    assert refused.returncode == 2
    assert f"BATCH_RUNNER_{variable}" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())
