"""What of a job may hold a secret: the URLs by which people are told.

Such a secret comes from the environment only: `${NAME}` in a URL stands for a variable, and the whole URL may stand in
`BATCH_RUNNER_HEARTBEAT` or `BATCH_RUNNER_NOTIFY`. Neither is shown anywhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRETIVE = ("heartbeat", "notify")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_PASSWORD = re.compile(r"://[^/?#]*:(?!\$\{)[^/?#]+@")


def shown(name: str, value: object) -> object:
    """An option's value as it may be shown."""
    if name not in SECRETIVE or not value:
        return value
    return masked(value) if isinstance(value, str) else [masked(str(url)) for url in _listed(value)]


def masked(url: str) -> str:
    """`https://hc-ping.com/…`, `slack://…`: only of a web address the host is certainly no secret."""
    scheme, colon, _ = url.partition("://")
    if not colon or not scheme.isalnum():
        return "…"
    host = _host(url) if scheme.lower() in ("http", "https") else ""
    return f"{scheme}://{host}/…" if host else f"{scheme}://…"


def filled(url: str, environ: Mapping[str, str]) -> str:
    """The URL with each `${NAME}` replaced as it stands in the environment. Raises `ValueError` with a sentence."""
    for name in _VARIABLE.findall(url):
        if not environ.get(name):
            raise ValueError(f"the variable {name} is not in the environment; set it to what ${{{name}}} stands for")
    return _VARIABLE.sub(lambda found: environ[found[1]], url)


def is_filled(url: str) -> bool:
    """Whether a part of it comes from the environment."""
    return _VARIABLE.search(url) is not None


def exposed(url: str) -> str | None:
    """A problem where a URL that was said on the command line, or stands in a job file, has a password in it."""
    if not _PASSWORD.search(url):
        return None
    return "a password doesn't belong here, where others can read it; put it into the environment and write ${NAME}"


def heartbeat_problem(url: str | None) -> str | None:
    """A problem of one that can't be pinged, as far as that is known without the environment."""
    if not url or is_filled(url.partition("/")[0]):
        return None
    if url.lower().startswith(("http://", "https://")) and (_host(url) or is_filled(url)):
        return None
    return "heartbeat: not a web address; write for example https://hc-ping.com/${PING_ID}"


def _host(url: str) -> str:
    """Host and port, without user and password; empty where there is none, or where it may be part of a password."""
    try:
        place = urlsplit(url).netloc
    except ValueError:
        return ""
    return "" if "@" in url and "@" not in place else place.rpartition("@")[2]


def _listed(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)
