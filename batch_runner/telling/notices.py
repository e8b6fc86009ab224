"""Messages to people through the apprise library, which knows mail, Slack, Teams and a hundred other services.

apprise is imported by the first notice that is made. Whatever it says of itself is kept out of our log: it names URLs.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from batch_runner import log
from batch_runner.job.secrets import is_filled, masked

if TYPE_CHECKING:
    from types import ModuleType

    from batch_runner.telling.message import Ending


class Notice:
    """One address that is told. `said` is its URL as somebody said it, `url` with the environment's parts filled in.

    With `is_public` a URL that holds secrets, none of them from the environment, is refused. Raises `ValueError`.
    """

    def __init__(self, url: str, said: str, *, is_public: bool) -> None:
        apprise = _apprise()
        self._name = masked(url)
        self._service = apprise.Apprise.instantiate(url)
        if not self._service:
            raise ValueError(f"{self._name}: apprise doesn't understand this URL; github.com/caronc/apprise lists them")
        if is_public and not is_filled(said) and self._service.url(privacy=True) != self._service.url():
            raise ValueError(
                f"{self._name}: it holds a secret, which doesn't belong where others can read it; put the URL into a "
                "variable of the environment, and write ${NAME}"
            )
        self._apprise = apprise.Apprise()
        self._apprise.add(self._service)

    def __repr__(self) -> str:
        return f"Notice({self._name!r})"

    def send(self, ending: Ending) -> None:
        """Send it; failing is an event of the log."""
        kind = "success" if ending.is_success else "failure"
        if self._apprise.notify(title=ending.title, body=ending.body, notify_type=kind, body_format="text"):
            log.debug("people told", url=self._name)
        else:
            log.warning("people could not be told: the service did not take it", url=self._name)


def _apprise() -> ModuleType:
    try:
        import apprise
    except ModuleNotFoundError:
        raise ValueError("that needs the apprise library: pip install apprise") from None
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return apprise
