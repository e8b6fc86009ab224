"""The rules of the house: imports go down only, files and functions stay small, and folders say what is in them."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import batch_runner

PACKAGE = Path(batch_runner.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in FILES} - {PACKAGE})
NAMES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}
ALL_FILES = [*FILES, *sorted(TESTS.rglob("*.py"))]

LAYERS = (
    {"batch_runner", "cli", "page"},
    {"runner"},
    {"batch", "report"},
    {"service", "output"},
    {"rows", "job"},
    {"journal", "plan", "sheet"},
    {"errors", "fs", "log", "outcomes", "progress", "units", "_version"},
)
"""The rooms of the house from the roof down. Those of one floor may know each other if they don't go in circles."""

MOST_LINES = 450
MOST_FUNCTION_LINES = 60


def room(path: Path) -> str:
    """The module or folder directly under the package that a file belongs to."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "batch_runner" if parts[0] == "__init__" else parts[0]


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from, wherever in it the import stands, those for types only included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "batch_runner" else [f"batch_runner.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("batch_runner.")}
    return found


def floor(name: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if name in layer)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    """A file imports only from its own room, its own floor, or a floor below."""
    here = room(path)
    if here == "__main__":
        return
    for other in imported_rooms(path) - {here, "_version"}:
        assert floor(other) >= floor(here), f"{path.name} imports {other}, which stands above it"


@pytest.mark.long
def test_no_circles_on_a_floor() -> None:
    """Rooms of one floor don't import each other in a circle."""
    edges = {room(path): set[str]() for path in FILES}
    for path in FILES:
        edges[room(path)] |= imported_rooms(path) - {room(path), "_version"}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " imports ".join((*trail, name))
        for other in edges.get(name, ()):
            visit(other, (*trail, name))

    for name in edges:
        visit(name, ())


def imported_modules(path: Path) -> set[str]:
    """The modules of ours that a file imports, late imports and those for types included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & NAMES.keys() or {node.module}
    return found - {"batch_runner"}


@pytest.mark.long
def test_no_two_modules_go_in_circles() -> None:
    """No module imports one that imports it, however late: what both need stands in a third."""
    TopologicalSorter({name: imported_modules(path) & NAMES.keys() for name, path in NAMES.items()}).prepare()


def test_sheet_knows_nothing_of_the_rest() -> None:
    """`sheet/` imports nothing of batch_runner but itself and the lowest floor."""
    for path in (PACKAGE / "sheet").rglob("*.py"):
        assert imported_rooms(path) <= {"sheet"} | LAYERS[-1], path.name


@pytest.mark.long
def test_only_the_runner_and_the_command_line_know_the_embedded_service() -> None:
    """Nothing else imports `service/local` or `service/serve`; the package's own face may name it lazily."""
    for path in FILES:
        if room(path) not in ("cli", "runner", "service", "batch_runner"):
            inner = {name for name in imported_modules(path) if name.startswith("batch_runner.service.")}
            assert not [name for name in inner if name.split(".")[2] in ("local", "serve")], path.name


def listed_in(path: Path) -> set[str]:
    """The words that the lines of a file's docstring begin with."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return {line.split()[0] for line in text.splitlines() if line}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_a_folder_says_what_stands_in_it(folder: Path) -> None:
    """Its docstring has a line for each module and each folder in it, so that one knows where a change goes."""
    modules = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    assert modules | {f"{inner.name}/" for inner in FOLDERS if inner.parent == folder} <= listed_in(
        folder / "__init__.py"
    )


def test_conftest_says_what_is_no_test() -> None:
    """Its docstring has a line for each file of the tests' folder that holds no tests."""
    shared = {path.name for path in (TESTS / "support").iterdir() if path.is_file()}
    assert shared <= listed_in(TESTS / "conftest.py")


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: path.name)
def test_files_and_functions_are_small(path: Path) -> None:
    """No file is over 450 lines, no function over 60: then the design is wrong, not the limit."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MOST_FUNCTION_LINES, node.name


def test_the_layers_name_every_room_once() -> None:
    """Each room stands on exactly one floor."""
    rooms = {room(path) for path in FILES} - {"__main__"}
    named = [name for layer in LAYERS for name in layer]
    assert sorted(rooms) == sorted(named)
    assert all(not (upper & lower) for upper, lower in pairwise(LAYERS))
