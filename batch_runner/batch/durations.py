"""How long this batch's runs take, learnt while they go on; pure, ages and weights in seconds.

The end of a run is only known to lie between two looks, and runs that still go on have no end yet. So what is kept is a
life table: for each span of ages how long runs were seen at risk in it and how many ended there (hazards, as Kaplan and
Meier's estimate has them); an end between two looks is shared out among the spans between them in proportion to what
has been learnt so far (one step of Turnbull's self-consistency). Old observations fade, so a drift is followed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from math import exp
from operator import neg

_FIRST, _GROWTH, _SPANS = 0.1, 1.2, 92
EDGES = (0.0, *(_FIRST * _GROWTH**place for place in range(_SPANS)))
"""The ages at which spans begin: 0 s, 0.1 s, and from there each 20 % later, up to 19 days."""

_WIDTHS = tuple(after - before for before, after in pairwise(EDGES))
_HEAVY_SCALE, _HEAVY_TAIL = 10.0, 0.5
_HEAVY = tuple((1 + edge / _HEAVY_SCALE) ** -_HEAVY_TAIL for edge in EDGES)
"""Survival that is taken for granted of anything: half a minute as the median, and a tail without a mean."""

_HEAVY_SHARE = 0.05
"""So much is always thought possible, whatever has been learnt."""
_DOUBT = 1.0
"""So many runs' worth of seeing weighs what is taken for granted in a span."""
_MEMORY = 300.0
"""So many ends are remembered, more or less."""
_HEAVIEST = 1e9


def span_of(age: float) -> int:
    """The place of the span that holds the age."""
    return min(bisect_right(EDGES, age) - 1, _SPANS - 1)


class Durations:
    """The learnt distribution, and what a look at a run is worth under it."""

    def __init__(self) -> None:
        self._risk = [0.0] * _SPANS
        self._ends = [0.0] * _SPANS
        self._weight = 1.0
        self._is_stale = True
        self._survival: list[float] = []
        self._beyond: list[float] = []
        self._median = 0.0

    def going(self, since: float, age: float) -> None:
        """A run that was going at age `since` still goes on at `age`."""
        since, age = min(since, EDGES[-1]), min(age, EDGES[-1])
        first, last = span_of(since), span_of(age)
        for span in range(first, last + 1):
            self._risk[span] += self._weight * (min(age, EDGES[span + 1]) - max(since, EDGES[span]))
        self._is_stale = True

    def ended(self, since: float, age: float) -> None:
        """A run that was going at age `since` was found ended at `age`."""
        self._refresh()
        since, age = min(since, EDGES[-1]), min(age, EDGES[-1])
        first, last = span_of(since), span_of(age)
        cuts = [since, *EDGES[first + 1 : last + 1], age]
        alive = [self._at(cut)[0] for cut in cuts]
        whole = max(alive[0] - alive[-1], 1e-300)
        for place, span in enumerate(range(first, last + 1)):
            here = (alive[place] - alive[place + 1]) / whole
            later = (alive[place + 1] - alive[-1]) / whole
            self._ends[span] += self._weight * here
            self._risk[span] += self._weight * (later + here / 2) * (cuts[place + 1] - cuts[place])
        self._fade()

    def worth(self, since: float, age: float) -> float:
        """What a look at a run of this age gains that was last seen going at age `since`: seconds.

        It is the price of one look at which looking now is best, if the looks that follow were to find the same again
        (Whittle's index; the stationary form of Barlow and Proschan's condition for inspections): the integral from
        `since` to `age` of S(u) - S(age), over S(since), S being the survival function.
        """
        self._refresh()
        since, age = min(since, EDGES[-1]), min(age, EDGES[-1])
        alive_then, beyond_then = self._at(since)
        alive, beyond = self._at(age)
        return (beyond_then - beyond - (age - since) * alive) / max(alive_then, 1e-300)

    @property
    def median(self) -> float:
        """The age that half of the runs reach, to the precision of a span."""
        self._refresh()
        return self._median

    def _at(self, age: float) -> tuple[float, float]:
        """The survival function at an age, and its integral from there on."""
        span = min(bisect_right(EDGES, age) - 1, _SPANS - 1)
        last = self._survival[span + 1]
        left = EDGES[span + 1] - age
        alive = last + (self._survival[span] - last) * left / _WIDTHS[span]
        return alive, self._beyond[span + 1] + left * (alive + last) / 2

    def _fade(self) -> None:
        """Let the next end weigh more instead of making all that came before weigh less."""
        self._weight *= 1 + 1 / _MEMORY
        if self._weight > _HEAVIEST:
            self._risk = [risk / self._weight for risk in self._risk]
            self._ends = [ends / self._weight for ends in self._ends]
            self._weight = 1.0
        self._is_stale = True

    def _refresh(self) -> None:
        if not self._is_stale:
            return
        self._is_stale = False
        doubt = _DOUBT * self._weight
        dooms = (
            (ends + doubt * (1 - after / before)) / (risk / width + doubt)
            for ends, risk, width, before, after in zip(
                self._ends, self._risk, _WIDTHS, _HEAVY, _HEAVY[1:], strict=False
            )
        )
        learnt = accumulate(dooms, lambda alive, doom: alive * exp(-doom), initial=1.0)
        self._survival = [
            (1 - _HEAVY_SHARE) * alive + _HEAVY_SHARE * heavy for alive, heavy in zip(learnt, _HEAVY, strict=True)
        ]
        self._median = EDGES[bisect_left(self._survival, -0.5, key=neg)]
        areas = [
            width * (before + after) / 2
            for width, before, after in zip(_WIDTHS, self._survival, self._survival[1:], strict=False)
        ]
        self._beyond = list(accumulate(reversed(areas), initial=0.0))[::-1]
