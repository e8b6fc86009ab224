"""The options of a job as click shows and reads them, what a shell offers at Tab, and `help`: the long explanations.

Each topic is a file in help/, Markdown whose first line is `# NAME: WHAT`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from batch_runner.errors import ExitCode, SheetError, UsageError
from batch_runner.job.options import Option, did_you_mean, options, variable_of
from batch_runner.job.validation import OptionKind
from batch_runner.outcomes import RETRY_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class JobCommand(click.Command):
    """A command that takes a job: its options stand in groups, and end with a word about their other homes."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options group by group, in the order of the table."""
        shown = {param.name: param.get_help_record(context) for param in self.get_params(context)}
        for group, members in groupby(options().values(), key=lambda option: option.group):
            rows = [record for option in members if (record := shown.pop(option.name, None))]
            with formatter.section(group):
                formatter.write_dl(rows)
        with formatter.section("Help"):
            formatter.write_dl([record for record in shown.values() if record])


class ServeOption(click.Option):
    """An option of `serve`, which is also a variable of the environment: a mistake names the one that was said."""

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self.envvar = variable_of(str(self.name))

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """What a sentence about a bad value begins with."""
        said = variables_said(ctx) if ctx else {}
        return said.get(self.opts[0], super().get_error_hint(ctx))


def variables_said(context: click.Context) -> dict[str, str]:
    """The variables that options of this command were taken from, by flag."""
    return {
        option.opts[0]: variable_of(option.name)
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT
    }


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option of a job."""
    for option in reversed(options().values()):
        is_flag = option.kind is OptionKind.FLAG
        default = f"  [default: {option.default}]" if option.default and not is_flag else ""
        command = click.option(
            option.flag,
            option.name,
            is_flag=is_flag,
            metavar=None if is_flag else option.metavar,
            multiple=option.kind in (OptionKind.NAMES, OptionKind.PAIRS),
            default=None,
            help=option.help + default,
            shell_complete=complete_value,
        )(command)
    return command


def keep_said(values: dict[str, Any]) -> dict[str, object]:
    """Only what was said on the command line, in the forms that `Option.read` takes."""
    return {name: value for name, value in values.items() if value not in (None, ())}


READABLE = (".csv", ".tsv", ".xlsx", ".xlsm", ".toml")
LARGEST = 20_000_000
"""Bytes of a sheet that is read for its columns: somebody waits."""


def complete_input(
    _context: click.Context, _param: click.Parameter | click.Command, start: str
) -> list[CompletionItem]:
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
            from batch_runner.service.local.tasks import own_tasks

            return ("invoice", *own_tasks(Path()))
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


def _quoted(word: str) -> str:
    """As bash has to get it: it puts the text into the line as it is, where zsh and fish quote it by themselves."""
    if not os.environ.get("_BATCH_RUNNER_COMPLETE", "").startswith("bash"):
        return word
    return "".join(f"\\{sign}" if sign in " \t'\"\\$&|;<>()`*?[]#!{}" else sign for sign in word)


FOLDER = Path(__file__).parent / "help"


def topics() -> dict[str, str]:
    """What each topic is about, by its name."""
    headings = (path.read_text("utf-8").partition("\n")[0] for path in sorted(FOLDER.glob("*.md")))
    return dict(heading.removeprefix("# ").split(": ", 1) for heading in headings)


def explanation(topic: str) -> str:
    """A topic as a terminal shows it: its headings are underlined, its code is indented."""
    lines: list[str] = []
    is_code = False
    for line in (FOLDER / f"{topic}.md").read_text("utf-8").splitlines():
        if line.startswith("```"):
            is_code = not is_code
        elif is_code:
            lines.append(f"    {line}".rstrip())
        elif line.startswith("#"):
            marks, _, heading = line.partition(" ")
            lines += [heading, ("=" if marks == "#" else "-") * len(heading)]
        else:
            lines.append(line)
    if topic == "jobs":
        lines += ["", "All options", "-----------", "", *_every_option()]
    return "\n".join(lines)


def _every_option() -> Iterator[str]:
    """The keys of a job file, group by group, each with what it does."""
    for group, members in groupby(options().values(), key=lambda option: option.group):
        yield f"{group}:"
        yield ""
        for option in members:
            text = f"{option.help} [{option.default}]" if option.default else option.help
            yield from wrap(
                text, 76, initial_indent=f"- {option.name}: ", subsequent_indent="  ", break_long_words=False
            )
        yield ""


@click.command("help")
@click.argument(
    "topic", required=False, shell_complete=lambda _, __, start: [name for name in topics() if name.startswith(start)]
)
@click.pass_context
def help_command(context: click.Context, topic: str | None) -> int:
    """Explain a TOPIC at length; without one, list the topics.

    For the name of a command, show its options.
    """
    known, parent = topics(), context.parent
    commands = parent.command.commands if parent and isinstance(parent.command, click.Group) else {}
    if topic is None:
        lines = (f"  {name:15}{what}" for name, what in known.items())
        _show("\n".join(["batch-runner help TOPIC explains:", *lines]))
    elif topic in known:
        _show(explanation(topic), paged=True)
    elif topic in commands:
        _show(commands[topic].get_help(click.Context(commands[topic], parent, topic)))
    else:
        hint = did_you_mean(topic, [*known, *commands]) or f" The topics: {', '.join(known)}."
        raise UsageError(f"there is no topic {topic!r}.{hint}")
    return ExitCode.OK


def _show(text: str, *, paged: bool = False) -> None:
    """Print it; a long one at a terminal through the reader's pager."""
    if sys.stdout.isatty():
        (click.echo_via_pager if paged else click.echo)(text)
        return
    from batch_runner.cli.run import print_out  # a pipe's reader may leave; a terminal needn't wait for this import

    print_out(text)
