"""Outcomes of proofs, which print as sentences."""

from typing import Any, NamedTuple

import numpy as np

SHOWN = 6  # coordinates of a point that are printed


class Boxes(NamedTuple):
    """Boxes of a branch and bound.

    Attributes:
        lower: lower corners, (n, d).
        upper: upper corners, (n, d).
        bound: upper bound of the largest residual in each, (n,).
    """

    lower: np.ndarray
    upper: np.ndarray
    bound: np.ndarray

    def taken(self, rows: Any) -> "Boxes":
        """Returns some of the boxes."""
        return Boxes(*(part[rows] for part in self))


class Proved(NamedTuple):
    """Claim that holds at every point of the box.

    Attributes:
        statement: the claim.
        bound: proved upper bound of its residual, in the residual's units.
        boxes: number of boxes that were enclosed.
        seconds: time that took, compilation included.
    """

    statement: str
    bound: float
    boxes: int
    seconds: float
    holds = True

    def __str__(self) -> str:
        many = f"{self.boxes:,} box" + ("es" if self.boxes != 1 else "")
        return (
            f"{self.statement}: proved on the whole box ({many}, {self.seconds:.1f} s)"
        )


class Counterexample(NamedTuple):
    """Point at which a claim fails.

    The residual there is positive beyond its rounding: it was enclosed at the point alone.

    Attributes:
        statement: the claim.
        point: (d,).
        value: the residual there in plain arithmetic.
        boxes: number of boxes that were enclosed.
        seconds: time that took, compilation included.
    """

    statement: str
    point: np.ndarray
    value: float
    boxes: int
    seconds: float
    holds = False

    def __str__(self) -> str:
        return (
            f"{self.statement}: counterexample at x = {shown(self.point)}, where it is "
            f"broken by {self.value:.3g}"
        )


class Undecided(NamedTuple):
    """Claim that was neither proved nor refuted within the budget.

    Attributes:
        statement: the claim.
        volume: share of the box's volume that is left, from 0 to 1.
        bound: proved upper bound of the residual on the whole box.
        largest: largest value of the residual that was found at a point.
        rest: boxes that are left, those of the largest bounds first; `verify` goes on
            from them with ``resume=``.
        boxes: number of boxes that were enclosed.
        seconds: time that took, compilation included.
        settled: proved upper bound of the residual on the boxes that are decided.
        task: the claim, the domain and a digest of the rest, for ``resume=``.
    """

    statement: str
    volume: float
    bound: float
    largest: float
    rest: Boxes
    boxes: int
    seconds: float
    settled: float = -np.inf
    task: Any = None
    holds = None

    def __str__(self) -> str:
        worst = self.rest.taken(0)
        place = " to ".join(shown(corner) for corner in worst[:2])
        return (
            f"{self.statement}: undecided, {_percent(self.volume)} of the volume left "
            f"after {self.boxes:,} boxes; the residual is at most {self.bound:.3g} and "
            f"reaches {self.largest:.3g}; e.g. on {place}"
        )


Outcome = Proved | Counterexample | Undecided


class Proofs(NamedTuple):
    """Proofs of a run's constraints, at its best iterate.

    They print one sentence for each constraint.

    Attributes:
        outcomes: by the constraint's name.
        margins: by name, the margin that the constraint was tightened by, in units of its
            residual.
        rounds: number of times that training went on after a proof.
        untried: names of the other constraints, which no proof is about.
    """

    outcomes: dict[str, Outcome]
    margins: dict[str, float]
    rounds: int
    untried: tuple[str, ...]

    @property
    def holds(self) -> bool | None:
        """True if all are proved, False if one is refuted, None otherwise."""
        found: list[Any] = [one.holds for one in self.outcomes.values()]
        if False in found:
            return False
        return None if None in found else True

    def __str__(self) -> str:
        lines = []
        for name, outcome in self.outcomes.items():
            margin = self.margins[name]
            told = f" (trained with a margin of {margin:.3g})" if margin else ""
            lines.append(f"{name}: {outcome}{told}")
        if self.untried:
            lines.append(f"not tried: {', '.join(self.untried)}")
        return "\n".join(lines)


class Extremum(NamedTuple):
    """Range of a residual on a box, proved from both sides.

    Attributes:
        least: the smallest value lies between these two numbers.
        most: the largest value lies between these two numbers.
        least_at: point that attains the upper of `least`, (d,).
        most_at: point that attains the lower of `most`, (d,).
        decided: whether both are as close as was asked for.
    """

    least: tuple[float, float]
    most: tuple[float, float]
    least_at: np.ndarray
    most_at: np.ndarray
    decided: bool

    def __str__(self) -> str:
        low, high = self.least, self.most
        return (
            f"the minimum is between {low[0]:.6g} and {low[1]:.6g}, "
            f"the maximum between {high[0]:.6g} and {high[1]:.6g}"
        )


def shown(point: np.ndarray) -> str:
    """Returns a point as it is printed."""
    numbers = ", ".join(f"{x:.4g}" for x in point[:SHOWN])
    return f"[{numbers}{', ...' if len(point) > SHOWN else ''}]"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share >= 1e-6 else "less than 0.0001 %"
