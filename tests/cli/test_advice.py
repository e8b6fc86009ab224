"""No sentence advises what starts a row a second time without saying so: in messages, README and help alike."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from program import run_program

import batch_runner
from batch_runner.cli.options import FOLDER
from batch_runner.cli.run import keys_advised
from batch_runner.job.job import Job
from batch_runner.job.options import options

PACKAGE = Path(batch_runner.__file__).parent
README = PACKAGE.parent / "README.md"
RISKY = re.compile(
    r"(another|new) `?--(journal|output)|--retry `?(all|changed|unknown)|--allow-duplicates|--on-unknown resend"
    r"|from a backup"
)
"""What leads to a second start: a journal that knows nothing, or a word that lifts what holds a row back."""
SAYS_SO = re.compile(r"\b(again|twice|second time|which starts|before you say)\b|not even")


def messages(path: Path) -> list[str]:
    """The texts of a module that people may see, the values in them left out; no docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    within = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in within | documentation:
            found.append(node.value)
    return found


def sentences(text: str) -> list[str]:
    """The sentences of a page of Markdown, its blocks of code left out."""
    prose = re.sub(r"^```.+?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(part.split()) for part in re.split(r"(?<=[.:?!])\s|\n\n|\n(?=[-|*#])", prose)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_message_says_what_starts_again(path: Path) -> None:
    """A message that names such an option says that rows start again by it."""
    risky = [text for text in messages(path) if RISKY.search(text) and " " in text]
    assert [text for text in risky if not SAYS_SO.search(text)] == []


@pytest.mark.parametrize("path", [README, *sorted(FOLDER.glob("*.md"))], ids=lambda path: path.stem)
def test_a_page_says_what_starts_again(path: Path) -> None:
    """The same of each sentence in README and the topics."""
    risky = [text for text in sentences(path.read_text("utf-8")) if RISKY.search(text)]
    assert [text for text in risky if not SAYS_SO.search(text)] == []


@pytest.mark.parametrize("name", ["journal", "allow_duplicates", "on_unknown"])
def test_the_help_of_an_option_says_so(name: str) -> None:
    """`run --help` says it of the options themselves."""
    assert name in Job.__struct_fields__
    assert re.search(r"again|twice", options()[name].help)


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_job_file_hears_of_its_keys(tmp_path: Path, command: str) -> None:
    """Where a flag is advised about a job file, its key is named too, in one sentence; a sheet hears of flags alone."""
    (tmp_path / "list.csv").write_text("No,PDF\n1,a.pdf\n2,b.pdf\n", "utf-8")
    (tmp_path / "job.toml").write_text('input = "list.csv"\ntask = "invoice"\n', "utf-8")
    done = run_program(command, "job.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "in job.toml, write rename = … for --rename: batch-runner help jobs shows how" in done.stderr
    plain = run_program(command, "list.csv", "--task", "invoice", cwd=tmp_path)
    assert "help jobs" not in plain.stderr


def test_what_may_start_a_row_again_is_no_advice_for_a_job_file() -> None:
    """A job file is run every night: no flag that releases a row is offered as a key."""
    risky = "--retry unknown --again --same --allow-duplicates --ignore-output --on-unknown resend --journal x --where"
    assert keys_advised(risky, "job.toml") is None
    assert keys_advised(f"{risky} --header-row 3", "job.toml") == (
        "in job.toml, write header_row = … for --header-row: batch-runner help jobs shows how"
    )
