"""The options of a job as click shows and reads them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from batch_runner.job.options import Kind, Option, options

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


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every option of a job."""
    for option in reversed(options().values()):
        command = _click_option(option)(command)
    return command


def said(values: dict[str, Any]) -> dict[str, object]:
    """Only what was said on the command line, in the forms that `Option.read` takes."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _click_option(option: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if option.kind is Kind.FLAG:
        return click.option(option.flag, option.name, is_flag=True, default=None, help=option.help)
    default = f"  [default: {option.default}]" if option.default else ""
    return click.option(
        option.flag,
        option.name,
        metavar=option.metavar,
        multiple=option.kind in (Kind.NAMES, Kind.PAIRS),
        default=None,
        help=option.help + default,
    )
