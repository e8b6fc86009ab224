"""What may hold a secret: filled in from the environment, refused where others can read it, and shown nowhere."""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.errors import UsageError
from batch_runner.job.config import load_job, notify_config_of
from batch_runner.job.job import Job
from batch_runner.job.validation import fill_variables, find_exposure, heartbeat_problem, is_filled, mask
from batch_runner.report.notify import Notifier

if TYPE_CHECKING:
    from pathlib import Path

secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=12, max_size=40).map(lambda s: f"S{s}")


@pytest.mark.long
@given(secrets)
def test_no_repr_shows_a_secret(secret: str) -> None:
    """Neither that of a job, nor those of what tells, whatever the secret looks like and wherever it stands."""
    urls = (f"https://hc-ping.com/{secret}", f"https://me:{secret}@x.org/", f"slack://{secret}", secret)
    for url in urls:
        environ = {"BATCH_RUNNER_HEARTBEAT": url, "BATCH_RUNNER_NOTIFY": '"' + url.replace('"', '""') + '"'}
        wishes = notify_config_of("a.csv", {}, environ)
        assert secret in wishes.heartbeat
        assert secret not in f"{wishes!r} {wishes} {mask(url)}"
        if heartbeat_problem(url) is None:
            job = Job(input="a.csv", heartbeat=url, notify=(url,))
            assert secret not in f"{job!r} {job} {[job]}"


@given(secrets)
def test_no_message_shows_a_secret(secret: str) -> None:
    """What is wrong with a URL is said without it, as a sentence and in a traceback."""
    environ = {"BATCH_RUNNER_HEARTBEAT": f"hc-ping.com/{secret}", "BATCH_RUNNER_NOTIFY": f'"{secret}'}
    with pytest.raises(UsageError) as caught:
        load_job("a.csv", {}, environ)
    told = "".join(traceback.format_exception(caught.value))
    assert "BATCH_RUNNER_HEARTBEAT: not a web address" in told
    assert secret not in told


def test_a_repr_says_what_was_said() -> None:
    """Only what isn't the default, so that a person finds it."""
    job = Job(input="a.csv", limit=3, heartbeat="https://hc-ping.com/uuid", notify=("slack://a/b", "${MAIL}"))
    assert repr(job) == ("Job(input='a.csv', limit=3, heartbeat='https://hc-ping.com/…', notify=['slack://…', '…'])")
    assert repr(Job(input="b.csv")) == "Job(input='b.csv')"


def test_a_password_with_a_slash_is_no_host() -> None:
    """What stands before the slash would be taken for host and port."""
    assert mask("https://me:123/456@x.org") == "https://…"
    assert mask("https://me:123@x.org:8443/456") == "https://x.org:8443/…"


def test_a_variable_stands_for_its_text() -> None:
    """As it is, anywhere in the URL; one that isn't there, or is empty, is a sentence that names it."""
    environ = {"HOST": "x.org", "PW": "p%40ss", "EMPTY": ""}
    assert fill_variables("https://me:${PW}@${HOST}/$HOME/{x}", environ) == "https://me:p%40ss@x.org/$HOME/{x}"
    for name in ("EMPTY", "GONE", ""):
        with pytest.raises(ValueError, match=re.escape(f"the variable {name} is not in the environment")):
            fill_variables(f"https://${{HOST}}/${{{name}}}", environ)


@pytest.mark.parametrize(
    ("url", "is_exposed"),
    [
        ("mailto://me:hunter2@x.org", True),
        ("mailto://me:hunter2@${HOST}", True),
        ("mailto://me:p@ss:word@x.org", True),
        ("mailto://me:${PW}@x.org", False),
        ("mailto://me@x.org", False),
        ("https://x.org:8443/ping?to=a:b@c", False),
        ("${URL}", False),
    ],
)
def test_a_password_where_others_can_read_it(url: str, is_exposed: bool) -> None:
    """On the command line or in a file it is refused; in the environment it is at home."""
    assert (find_exposure(url) is not None) == is_exposed
    if is_exposed:
        with pytest.raises(UsageError, match="--notify: a password doesn't belong here"):
            load_job("a.csv", {"notify": (url,)}, {})
    assert load_job("a.csv", {}, {"BATCH_RUNNER_NOTIFY": url}).job.notify == (url,)


def test_what_is_refused_is_not_used(tmp_path: Path) -> None:
    """A password in a file is no way to tell anybody, not even of that."""
    (tmp_path / "job.toml").write_text(
        'input = "a.csv"\nheartbeat = "https://me:hunter2@x.org"\nnotify_when = "always"'
    )
    wishes = notify_config_of(str(tmp_path / "job.toml"), {}, {})
    assert (wishes.heartbeat, wishes.notify_when) == ("", "always")


def test_wishes_from_all_sources(tmp_path: Path) -> None:
    """Flag > environment > job file, as for any option; who said `notify` decides whether it may hold secrets."""
    path = tmp_path / "job.toml"
    path.write_text('input = "a.csv"\nheartbeat = "https://file.org"\nnotify = ["json://file"]')
    environ = {"BATCH_RUNNER_NOTIFY": "json://environment"}
    assert notify_config_of(str(path), {}, {}).is_public
    wishes = notify_config_of(str(path), {"heartbeat": "https://flag.org"}, environ)
    assert (wishes.heartbeat, wishes.notify, wishes.is_public) == ("https://flag.org", ("json://environment",), False)


def test_never_needs_no_library(tmp_path: Path) -> None:
    """Where nobody is to be told, the addresses aren't even looked at."""
    Notifier(notify_config_of("a.csv", {"notify": ("nonsense://x",), "notify_when": "never"}, {}), {}).check()


def test_is_filled() -> None:
    """A `$` alone is none of ours."""
    assert is_filled("https://x.org/${A}")
    assert not is_filled("https://x.org/$A")
