"""Since when a cluster can run nothing, and why; pure: times are passed in (seconds on one clock)."""

from __future__ import annotations

from batch_runner import __version__, log

NO_WORKERS_FOR = 60.0
"""Seconds without workers until it is trouble: a cluster that grows with its work needs a while for its first."""

GIVEN_UP_AFTER = 960.0
"""Seconds of an outage after which the runs that wait are ended. A batch gives up starting a minute before, so its
rows are not sent after those that are ended here."""


class Outage:
    """Knows whether a cluster can run calls now, from what is seen of it now and then, and tells a person when it
    changes."""

    def __init__(self) -> None:
        self._threads: int | None = 1
        self._since = 0.0
        self.lasts = 0.0
        """Seconds for which nothing could be run; 0 while all is well."""

    def look(self, threads: int | None, now: float) -> None:
        """So many threads of workers are there; None where the scheduler is away."""
        was = self._threads
        self._threads = threads
        if threads:
            self.lasts = 0.0
            if not was:
                log.info("the Dask cluster has workers again")
        else:
            self._since = now if was else self._since
            self.lasts = now - self._since
        if threads is None and was is not None:
            log.warning("the Dask scheduler went away; it is looked for, and nothing is started meanwhile")
        if threads is not None and was is None:
            log.warning("the Dask scheduler is back")
        if threads == 0 and was != 0:
            log.warning("the Dask cluster has no workers; runs wait until there are some")

    @property
    def trouble(self) -> str | None:
        """What a start is told where there have been no workers for a while."""
        if self._threads == 0 and self.lasts >= NO_WORKERS_FOR:
            return f"The Dask cluster has had no workers with batch_runner {__version__} for {self.lasts:.0f} s."
        return None

    @property
    def verdict(self) -> str | None:
        """Why the runs that wait are to wait no longer; None while they are to."""
        if self.lasts < GIVEN_UP_AFTER or self._threads:
            return None
        what = "the Dask scheduler was away" if self._threads is None else "the Dask cluster had no workers"
        return f"{what} for {self.lasts:.0f} s"
