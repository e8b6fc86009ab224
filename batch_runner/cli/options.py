"""The options of a job as click shows and reads them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from batch_runner.job.options import OptionKind, options, variable_of

if TYPE_CHECKING:
    from collections.abc import Callable


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
        )(command)
    return command


def keep_said(values: dict[str, Any]) -> dict[str, object]:
    """Only what was said on the command line, in the forms that `Option.read` takes."""
    return {name: value for name, value in values.items() if value not in (None, ())}
