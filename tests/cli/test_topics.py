"""`help TOPIC`, as a person at a terminal, a pipe and a shell's completion get it."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from program import COMMAND, PATIENCE, environment, run_program
from systems import needs_posix

from batch_runner.cli.commands import program
from batch_runner.cli.options import FOLDER, explanation, topics
from batch_runner.job.options import options

if TYPE_CHECKING:
    from pathlib import Path

every_topic = pytest.mark.parametrize("topic", topics())


def told(*arguments: str) -> str:
    """What the program prints, on a terminal of 80 columns of which click leaves two free."""
    return CliRunner().invoke(program, arguments, prog_name="batch-runner", terminal_width=78).output


def test_help_lists_the_topics() -> None:
    """Without a topic there is a line for each, with what it is about; the program's own help leads there."""
    lines = [line.split(maxsplit=1) for line in told("help").splitlines()[1:]]
    assert dict(lines) == topics()
    assert "batch-runner help" in told("--help")


def test_a_topic_is_named_as_its_file() -> None:
    """Each file of the folder is a topic of its name."""
    assert set(topics()) == {path.stem for path in FOLDER.iterdir()}


@every_topic
def test_a_topic_is_plain_text(topic: str) -> None:
    """It begins with what it is about, has no fences and no marks of headings, and its prose fits 80 columns."""
    text = told("help", topic)
    assert text.startswith(f"{topic}: {topics()[topic]}\n====")
    assert "```" not in text
    assert not re.search(r"^#", text, re.MULTILINE)
    prose = [line for line in text.splitlines() if not line.startswith(("    ", "|"))]
    assert max(map(len, prose)) <= 80


@every_topic
def test_a_topic_has_short_sentences(topic: str) -> None:
    """Its sentences have 15 words on average at most, so that each needs to be read once."""
    prose = "\n".join(line for line in explanation(topic).splitlines() if not re.match(r"    |\||[=-]+$", line))
    sentences = [len(text.split()) for text in re.split(r"(?<=[.!?:])\s+", re.sub(r"`[^`]*`", "code", prose))]
    counted = [words for words in sentences if words > 2]
    assert sum(counted) / len(counted) <= 15


def test_an_unknown_topic_names_the_nearest(tmp_path: Path) -> None:
    """A mistyped topic gets one sentence with what was probably meant, or with all topics, and exit code 2."""
    done = run_program("help", "nigths", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "batch-runner: there is no topic 'nigths'. Did you mean nights?\n")
    assert "The topics: cells, " in run_program("help", "xyz", cwd=tmp_path).stderr


@pytest.mark.parametrize("command", sorted(program.commands.keys() - topics().keys()))
def test_the_name_of_a_command_shows_its_options(command: str) -> None:
    """`help status` is `status --help`."""
    assert told("help", command) == told(command, "--help")


def test_every_option_of_a_job_is_in_the_help() -> None:
    """No option of a job is missing from `run --help`."""
    text = told("run", "--help")
    assert all(option.flag in text for option in options().values())


@needs_posix
def test_a_reader_that_leaves_is_no_bug(tmp_path: Path) -> None:
    """`batch-runner help nights | head -1` ends in peace."""
    line = f"set -o pipefail; {' '.join(COMMAND)} help nights | head -1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nights: ")


def test_a_terminal_gets_a_topic_through_its_pager(tmp_path: Path) -> None:
    """At a terminal a topic goes through PAGER; a pipe gets it as it is."""
    ours, theirs = pytest.importorskip("pty").openpty()
    variables = environment(PAGER="sed s/^/paged:/", TERM="xterm")
    done = subprocess.Popen([*COMMAND, "help", "words"], cwd=tmp_path, env=variables, stdin=theirs, stdout=theirs)
    os.close(theirs)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        while chunk := read_or_end(terminal.fileno()):
            shown += chunk
    assert done.wait(PATIENCE) == 0
    assert shown.startswith(b"paged:words: ")
    assert "paged" not in run_program("help", "words", cwd=tmp_path, PAGER="sed s/^/paged:/").stdout


def read_or_end(descriptor: int) -> bytes:
    """What a terminal shows next; nothing at its end, which Linux tells by an error."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_a_shell_completes_topics(tmp_path: Path) -> None:
    """After `help n`, a shell offers the topics that begin so."""
    words = {"_BATCH_RUNNER_COMPLETE": "bash_complete", "COMP_WORDS": "batch-runner help n", "COMP_CWORD": "2"}
    done = run_program(cwd=tmp_path, **words)
    assert done.stdout.split() == ["plain,network", "plain,nights", "plain,notifications"]
