"""The polls that a batch may spend, evenly spaced; pure: all times are passed in (seconds on one clock)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_runner.units import Rate


TIGHT = 0.2
"""A poll that leaves within this share of the gap after the budget opened has waited for it."""
NEARLY_ALL = 0.9
"""The budget is used up if this share of the polls had to wait for it."""
ENOUGH = 100
"""So many polls are needed to tell."""


class Budget:
    """Opens once in each gap; knows whether it was used up, and how much of the runs' time passed unnoticed."""

    def __init__(self, rate: Rate) -> None:
        self._gap = rate.gap
        self.opens_at = 0.0
        self._polls = 0
        self._waited = 0
        self._lasted = 0.0
        self._unnoticed = 0.0

    def take(self, now: float) -> None:
        """A poll goes out."""
        self._polls += 1
        self._waited += now <= self.opens_at + TIGHT * self._gap
        self.opens_at = now + self._gap

    def hold(self, until: float) -> None:
        """Let no poll go out before that time."""
        self.opens_at = max(self.opens_at, until)

    def noticed(self, age: float, late: float) -> None:
        """A run was found ended at this age, and by all that is known it was so many seconds too late."""
        self._lasted += age
        self._unnoticed += late

    @property
    def shortfall(self) -> float:
        """The share of the runs' time that passed unnoticed because the budget was used up; 0 where it was not."""
        if self._polls < ENOUGH or self._waited < NEARLY_ALL * self._polls or not self._lasted:
            return 0.0
        return self._unnoticed / self._lasted
