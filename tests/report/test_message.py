"""What a notice says: the next step, in words that its reader can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from test_summary import summary

from batch_runner.errors import quote_words
from batch_runner.journal.view import Count
from batch_runner.report.notify import Ending

if TYPE_CHECKING:
    from pathlib import Path


def test_the_command_in_a_notice_can_be_pasted() -> None:
    """A job file holds all that was said; flags are not known to whoever reads it, so the words are to be added."""
    told = summary(counts=(Count("success", 1), Count("failure", 1), Count("timeout", 1)))
    assert Ending(3, "my jobs/nightly.toml", [(told, None)]).body.startswith(
        "Some rows did not succeed: look at status and error in the output and fix them. Then the same command with "
        f"--retry failure,timeout runs them again: batch-runner run {quote_words(['my jobs/nightly.toml'])} "
        "--retry failure,timeout\n"
    )
    assert "with --retry failure,timeout runs them again\n" in Ending(3, "in.csv", [(told, None)]).body
    assert Ending(130, "in.csv").body.startswith("It was interrupted; the same command goes on\n")
    assert Ending(5, "n.toml").body.startswith(
        "It stopped early: its summary says why. Mended, the same command goes on: batch-runner run n.toml\n"
    )


def test_a_notice_of_running_rows_names_no_status_to_retry() -> None:
    """A row that goes on is followed by the same command."""
    body = Ending(3, "in.csv", [(summary(counts=(Count("running", 3),)), None)]).body
    assert "fix them. Then the same command goes on\n" in body


def test_a_notice_of_unknown_rows_names_resolve(tmp_path: Path) -> None:
    """With the journal's whole path; to send them again is not offered."""
    told = summary(counts=(Count("unknown", 3),), journal=str(tmp_path / "my own.db"))
    body = Ending(4, "nightly.toml", [(told, None)]).body
    quoted = quote_words([str(tmp_path / "my own.db")])
    assert f"batch-runner resolve {quoted} --row N --as success|failure|not_started --note …" in body
    assert "--retry" not in body


def test_a_notice_says_what_was_edited() -> None:
    """Its run succeeded, but not with what stands in the sheet now."""
    assert (
        "\n  edited since they ran, and not run again: 1 row\n" in Ending(0, "x.csv", [(summary(changed=1), None)]).body
    )
