"""The options of a job as click shows and reads them; and `help`: the long explanations.

Each topic is a file in help/, Markdown whose first line is `# NAME: WHAT`.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from batch_runner.errors import ExitCode, UsageError
from batch_runner.job.options import did_you_mean, options, variable_of
from batch_runner.job.validation import OptionKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.shell_completion import CompletionItem


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
            shell_complete=_complete,
        )(command)
    return command


def _complete(context: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    from batch_runner.cli.completion import complete_value

    return complete_value(context, param, start)


def complete_input(context: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
    """See completion.py, which is loaded when a shell asks."""
    from batch_runner.cli import completion

    return completion.complete_input(context, param, start)


def keep_said(values: dict[str, Any]) -> dict[str, object]:
    """Only what was said on the command line, in the forms that `Option.read` takes."""
    return {name: value for name, value in values.items() if value not in (None, ())}


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
