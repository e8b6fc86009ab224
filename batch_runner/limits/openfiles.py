"""How many runs in flight the process's limit of open files allows; each may have a connection open."""

from __future__ import annotations

RESERVED = 64
"""Open files that are for all else: sheets, journal, log, standard streams, libraries."""


def open_files() -> int | None:
    """The process's limit of open files (RLIMIT_NOFILE), raised as far as the system lets it. None: no limit known."""
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in (resource.RLIM_INFINITY, soft):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return None if soft == resource.RLIM_INFINITY else soft


def held_under(concurrency: int, files: int | None) -> tuple[int, str | None]:
    """The concurrency that so many open files allow, and a warning where it is less than asked for."""
    allowed = concurrency if files is None else max(1, min(concurrency, files - RESERVED))
    if allowed == concurrency:
        return concurrency, None
    return allowed, (
        f"this process may open {files} files, so {allowed} runs are in flight at most instead of {concurrency}; "
        f"raise the limit (ulimit -n {concurrency + RESERVED}) for more"
    )
