"""`help`: the long explanations. Each topic is a file in help/, Markdown whose first line is `# NAME: WHAT`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batch_runner.errors import ExitCode, UsageError
from batch_runner.job.options import did_you_mean

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
    return "\n".join(lines)


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
