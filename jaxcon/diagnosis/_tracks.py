"""Histories of single constraints over the finite steps of a run."""

from typing import NamedTuple

import numpy as np

from jaxcon.constraints import Constraints, named
from jaxcon.diagnosis import _statistics as stats
from jaxcon.primal_dual import Info


class Track(NamedTuple):
    """History of one constraint over the finite steps, in arrays of shape (t,)."""

    name: str
    kind: str
    violation: np.ndarray
    multiplier: np.ndarray
    penalty: np.ndarray
    capped: np.ndarray

    def above(self, tolerance: float) -> bool:
        """Returns whether the median of the last third is above the tolerance."""
        return stats.thirds(self.violation)[2] > tolerance

    def climbs(self) -> bool:
        """Returns whether the multiplier rises from third to third, and no slower later."""
        m0, m1, m2 = stats.thirds(self.multiplier)
        return stats.trend(self.multiplier) > 0 and m2 - m1 > (m1 - m0) / 2 > 0

    def stirs(self) -> bool:
        """Returns whether the multiplier moves, relative to itself and the penalty term."""
        with np.errstate(over="ignore"):  # beside an endless pull nothing counts
            pull = np.median(
                stats.last_half(self.multiplier + self.penalty * self.violation)
            )
        return bool(np.ptp(stats.last_half(self.multiplier)) > stats.SETTLED * pull)

    def largest_pull(self) -> float:
        """Returns the largest multiplier and penalty term that there was."""
        with np.errstate(over="ignore"):
            pull = self.multiplier + self.penalty * self.violation
        return float(np.max(pull, initial=0.0))

    def largest_product(self) -> float:
        """Returns the largest product of violation and all that pulled at it."""
        with np.errstate(over="ignore"):
            pull = self.multiplier + self.penalty * self.violation
            return float(np.max(pull * self.violation, initial=0.0))

    def uncapped(self) -> "Track":
        """Returns the steps before a multiplier first sat on its cap."""
        end = int(np.argmax(self.capped)) if self.capped.any() else len(self.capped)
        return self._replace(
            violation=self.violation[:end], multiplier=self.multiplier[:end]
        )


def tracks_of(history: Info, finite: np.ndarray) -> list[Track]:
    """Returns one track for each constraint, of the finite steps."""

    def of(field: Constraints, kind: str, name: str) -> np.ndarray:
        absent = np.zeros(len(finite))
        return np.asarray(getattr(field, kind).get(name, absent), float)[finite]

    fields = history.violation, history.multiplier, history.penalty, history.capped
    return [
        Track(name, kind, *(of(field, kind, name) for field in fields))
        for kind, name, _ in named(history.violation)
    ]


def worst_violation(tracks: list[Track]) -> np.ndarray:
    """Returns the largest violation at each step that all tracks have."""
    rows = min(len(track.violation) for track in tracks)
    return np.max([track.violation[:rows] for track in tracks], axis=0)
