"""What a shell offers where somebody presses Tab: files, columns, statuses, tasks, and an option's own words."""

from __future__ import annotations

import ast
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from batch_runner.errors import SheetError
from batch_runner.job.options import Option, options
from batch_runner.job.validation import OptionKind
from batch_runner.outcomes import RETRY_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

READABLE = (".csv", ".tsv", ".xlsx", ".xlsm", ".toml")
LARGEST = 20_000_000
"""Bytes of a sheet that is read for its columns: somebody waits."""


def complete_input(_context: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Folders, and the files that `run` and `check` read."""
    folder, _, name = start.rpartition("/")
    shown = f"{folder}/" if "/" in start else ""
    found = [path for path in sorted(Path(shown or ".").glob("*")) if path.name.startswith(name)]
    return [
        CompletionItem(_quoted(f"{shown}{path.name}{'/' * path.is_dir()}"))
        for path in found
        if path.is_dir() or path.suffix.lower() in READABLE
    ]


def complete_value(context: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """The values that an option of a job may have; the file names of the shell where it is a path."""
    option = options()[str(param.name)]
    if option.metavar in ("PATH", "DIR"):
        return [CompletionItem(start, type="dir" if option.metavar == "DIR" else "file")]
    before = start.rpartition(",")[0] + "," if option.kind is OptionKind.NAMES and "," in start else ""
    words = (f"{before}{word}" for word in _words(option, context))
    return [CompletionItem(_quoted(word)) for word in words if word.startswith(start)]


def _words(option: Option, context: click.Context) -> Iterable[str]:
    match option.metavar:
        case "A,B" | "COLUMN=PARAM":
            return (f"{name}=" if option.kind is OptionKind.PAIRS else name for name in _headers(context))
        case "STATUS,…":
            return RETRY_WORDS
        case "ID" if option.name == "task":
            return ("invoice", *_tasks())
        case str(words) if "|" in words:
            return (word for word in words.split("|") if word.islower())
    return ()


def _headers(context: click.Context) -> list[str]:
    """The headers of the sheet that the command line names; none where it can't be read, which `check` explains."""
    from batch_runner.sheet.export import open_sheet
    from batch_runner.sheet.model import Reading

    # A line that ends in an option without its value isn't parsed: its words are all there is.
    path = Path(context.params.get("source") or next((word for word in context.args if word[:1] != "-"), ""))
    try:
        if path.suffix.lower() == ".toml" or path.stat().st_size > LARGEST:
            return []
        reading = Reading(sheet=context.params.get("sheet"))
        with tempfile.TemporaryDirectory() as scratch, open_sheet(path, reading, Path(scratch)) as sheet:
            return [column.name for column in sheet.columns]
    except (SheetError, OSError):
        return []


def _tasks() -> list[str]:
    """The functions of this folder's Python files that may be tasks. Nothing is executed."""
    found = []
    for path in sorted(Path().glob("*.py")):
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        found += [f"{path}:{function.name}" for function in functions if not function.name.startswith("_")]
    return found


def _quoted(word: str) -> str:
    """As bash has to get it: it puts the text into the line as it is, where zsh and fish quote it by themselves."""
    if not os.environ.get("_BATCH_RUNNER_COMPLETE", "").startswith("bash"):
        return word
    return "".join(f"\\{sign}" if sign in " \t'\"\\$&|;<>()`*?[]#!{}" else sign for sign in word)
