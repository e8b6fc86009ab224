"""Single changes to what decides, each of which some test should notice; those that none does are listed.

Run: `python tests/benchmarks/mutate.py [ROOM] [--most N] [--seed N]`. A room is one of `ROOMS`; without one all are
gone over. It works on a copy of the package, so nothing here changes. It takes a test run for each change: with
`--most` so many are drawn. It is no part of the gate: what survives is to be read by a person, for some changes
make no difference that anybody could see.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
JOURNAL = "tests/journal"
ROOMS = {
    "plan": (
        ("plan/plan.py", "plan/duplicates.py"),
        ("tests/plan/test_steps.py", f"{JOURNAL}/test_journal_history.py", f"{JOURNAL}/test_duplicates.py"),
    ),
    "journal": (
        ("journal/group_commit.py", "journal/journal.py", "journal/batches.py"),
        (
            f"{JOURNAL}/test_journal.py",
            f"{JOURNAL}/test_journal_commits.py",
            f"{JOURNAL}/test_locked_journal.py",
            f"{JOURNAL}/test_journal_nights.py",
        ),
    ),
    "tables": (
        ("journal/database.py", "journal/view.py"),
        (
            f"{JOURNAL}/test_journal.py",
            f"{JOURNAL}/test_journal_damage.py",
            f"{JOURNAL}/test_journal_versions.py",
            f"{JOURNAL}/test_journal_disk.py",
        ),
    ),
    "same rows": (
        ("journal/register.py", "journal/same_key.py", "journal/changes.py"),
        (
            f"{JOURNAL}/test_journal_history.py",
            f"{JOURNAL}/test_twins.py",
            f"{JOURNAL}/test_almost.py",
            f"{JOURNAL}/test_duplicates.py",
            f"{JOURNAL}/test_learned_claims.py",
        ),
    ),
    "outputs": (
        ("journal/outputs.py", "journal/index.py"),
        ("tests/output/test_output_is_hers.py", "tests/runner/test_one_memory.py", "tests/runner/test_lost_journal.py"),
    ),
    "classify": (("service/http/classify.py",), ("tests/service/test_answer.py", "tests/service/test_client_table.py")),
    "atomic write": (
        ("fs.py",),
        ("tests/output/test_small_files.py", "tests/output/test_target.py", "tests/runner/test_order_on_disk.py"),
    ),
}
"""What is changed, and which tests should notice: the quick ones of its room."""
PATIENCE = 120
_OTHER: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def changes(text: str) -> Iterator[tuple[int, str, str]]:
    """Each single change: its line, what it does in words, and the whole text with it."""
    for number, node in enumerate(ast.walk(ast.parse(text))):
        for what in _ways(node):
            tree = ast.parse(text)
            found = next(other for place, other in enumerate(ast.walk(tree)) if place == number)
            _change(found, what)
            yield getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(tree))


def _ways(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _OTHER:
        yield "another comparison"
    if isinstance(node, ast.BoolOp):
        yield "and for or"
    if isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
        yield "never"
        yield "always"
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield "one more"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
        yield "left out"


def _change(node: ast.AST, what: str) -> None:
    if isinstance(node, ast.Compare):
        node.ops[0] = _OTHER[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    elif isinstance(node, ast.If):
        node.test = ast.Constant(what == "always")
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        node.value += 1
    elif isinstance(node, ast.Expr):
        node.value = ast.Constant(None)


def is_noticed(copy: Path, tests: tuple[str, ...]) -> bool:
    """Whether a test fails, or doesn't end, with the package as it stands in the copy."""
    # Without -P the working folder would come before the copy.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-m", "not long", f"--basetemp={copy / 'tmp'}", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def main() -> None:
    """Make the changes one by one, and print those that nothing notices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("room", nargs="?", choices=ROOMS)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    for room in [wanted.room] if wanted.room else ROOMS:
        files, tests = ROOMS[room]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            shutil.copytree(REPOSITORY / "batch_runner", copy / "batch_runner")
            assert not is_noticed(copy, tests), f"{room}: the tests fail without any change"
            every = [
                (file, *change) for file in files for change in changes((copy / "batch_runner" / file).read_text())
            ]
            random.Random(wanted.seed).shuffle(every)
            made, survived = every[: wanted.most or None], 0
            for file, line, what, text in made:
                path = copy / "batch_runner" / file
                before = path.read_text()
                path.write_text(text)
                if not is_noticed(copy, tests):
                    survived += 1
                    print(f"{file}:{line}: {what}: nothing noticed", flush=True)
                path.write_text(before)
            print(f"{room}: {len(made)} changes of {len(every)}, {survived} survived", flush=True)


if __name__ == "__main__":
    main()
