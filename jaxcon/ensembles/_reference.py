r"""Functions that obey shape rules strictly.

Every rule is convex: of two functions that obey it, every mean does. So the segment from a
function f that breaks a rule by at most v to one, f_0, that keeps it with slack s obeys

.. math:: (1 - t) f + t f_0, \quad t \ge v / (v + s)

f_0 is a sum of one parabola for each number,

.. math:: f_0(v) = c + \sum_j a_j v_j + \tfrac12 \kappa_j (v_j - \tfrac12)^2.

A linear program finds the greatest slack of all such sums; a second one finds, among those
that have it, the one nearest to the best constant c_0, which minimises

.. math:: |c - c_0| + \sum_j |a_j| + |\kappa_j|.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxcon.ensembles._losses import POSITIVE, Loss
from jaxcon.ensembles._rules import FAR, Bounds, Kinds

# Places along an entry at which a parabola's bounds are held; between them it is larger
# than a chord by at most κ / 8 / 16^2, for which the bounds leave room.
_PLACES = np.linspace(0, 1, 17)
_MOST = 1.0  # slack, in units of the target and of the range of an input
# Share of the greatest slack that is kept, so that rounding leaves the second program room.
_KEPT = 0.999


class Reference(NamedTuple):
    """Sum of parabolas of the entries of an encoded row.

    Attributes:
        constant: c, (m,).
        linear: a, (d, m).
        square: κ, (d, m).
    """

    constant: Any
    linear: Any
    square: Any

    def __call__(self, v: Any) -> Any:
        """Evaluates it at rows (..., d), (..., m)."""
        bent = 0.5 * (v - 0.5) ** 2
        return self.constant + v @ self.linear + bent @ self.square


def reference(
    kinds: Kinds, bounds: Bounds, loss: Loss, first: np.ndarray, d: int
) -> tuple[Reference, float]:
    """Finds the sum of parabolas that obeys the rules with the greatest slack.

    Args:
        kinds: the rules.
        bounds: their numbers.
        loss: of the target, whose predictions may have bounds and sums of their own.
        first: the best constant prediction, (m,).
        d: entries of an encoded row.

    Returns:
        The `Reference` and its slack.

    Raises:
        ValueError: no such sum obeys the rules.
    """
    program = _Program(loss.outputs, _entries(kinds))
    program.slopes(kinds, bounds)
    program.curvatures(kinds)
    lower, upper = float(bounds.lower), float(bounds.upper)
    if loss.kind in POSITIVE:
        lower = max(lower, 0.0)
    if loss.kind in ("binary", "multinomial"):
        lower, upper = max(lower, 0.0), min(upper, 1.0)
    program.bounds(lower, upper)
    program.gradient(kinds, bounds)
    if loss.kind == "multinomial":
        program.sums_to_one()
    if loss.kind == "quantile":
        program.ordered(first)
    return program.solve(first, d)


def _entries(kinds: Kinds) -> tuple[int, ...]:
    named = [entry for entry, _ in kinds.slopes] + list(kinds.steep)
    named += [entry for entries, *_ in kinds.curvatures for entry in entries]
    return tuple(dict.fromkeys(named))


class _Program:
    """Linear program for c, a, κ of every output, and the slack, its last variable.

    Further variables are the greatest and the least value of each parabola.
    """

    def __init__(self, outputs: int, entries: tuple[int, ...]):
        self.outputs, self.entries, self.k = outputs, entries, len(entries)
        # Of one output: c, then a, κ, greatest and least value of each entry.
        self.each = 1 + 4 * self.k
        self.rows: list[np.ndarray] = []
        self.limits: list[float] = []
        self.equal: list[np.ndarray] = []
        self.totals: list[float] = []

    def _row(self, output: int, **parts: Any) -> np.ndarray:
        row = np.zeros(self.outputs * self.each + 1)
        start = output * self.each
        row[start] = parts.get("c", 0.0)
        for offset, name in enumerate(("a", "kappa", "high", "low")):
            for entry, value in parts.get(name, {}).items():
                place = 1 + offset * self.k + self.entries.index(entry)
                row[start + place] += value
        row[-1] = parts.get("slack", 0.0)
        return row

    def _at_most(self, limit: float, output: int, **parts: Any) -> None:
        if limit < FAR / 2:
            self.rows.append(self._row(output, **parts))
            self.limits.append(limit)

    def _of(self, output: int) -> range:
        return range(self.outputs) if output < 0 else range(output, output + 1)

    def slopes(self, kinds: Kinds, bounds: Bounds) -> None:
        """Holds the slope a + κ (v - 1/2), which is extreme at 0 or 1, in its bounds."""
        for (entry, output), low, high in zip(
            kinds.slopes, bounds.slope_lower, bounds.slope_upper
        ):
            for one in self._of(output):
                for half in (-0.5, 0.5):
                    up = {"a": {entry: 1.0}, "kappa": {entry: half}, "slack": 1.0}
                    down = {"a": {entry: -1.0}, "kappa": {entry: -half}, "slack": 1.0}
                    self._at_most(float(high), one, **up)
                    self._at_most(float(-low), one, **down)

    def curvatures(self, kinds: Kinds) -> None:
        """Holds κ at or above the slack in every entry that is to be convex."""
        for entries, sign, output in kinds.curvatures:
            for one in self._of(output):
                for entry in entries:
                    self._at_most(0.0, one, kappa={entry: -float(sign)}, slack=1.0)

    def bounds(self, lower: float, upper: float) -> None:
        """Holds the sum of the parabolas' extreme values in its bounds."""
        if lower <= -FAR / 2 and upper >= FAR / 2:
            return
        for one in range(self.outputs):
            for entry in self.entries:
                for place in _PLACES:
                    bent = 0.5 * (place - 0.5) ** 2
                    value = {"a": {entry: place}, "kappa": {entry: bent}}
                    less = {"a": {entry: -place}, "kappa": {entry: -bent}}
                    self._at_most(0.0, one, **value, high={entry: -1.0})
                    self._at_most(0.0, one, **less, low={entry: 1.0})
            every = dict.fromkeys(self.entries, 1.0)
            fewer = dict.fromkeys(self.entries, -1.0)
            self._at_most(upper, one, c=1.0, high=every, slack=1.0)
            self._at_most(-lower, one, c=-1.0, low=fewer, slack=1.0)

    def gradient(self, kinds: Kinds, bounds: Bounds) -> None:
        """Holds every slope in the cube that lies within the ball of the gradient."""
        if kinds.steep:
            share = 1 / np.sqrt(len(kinds.steep))
            for entry, weight in zip(kinds.steep, bounds.steepness):
                for one in range(self.outputs):
                    for half in (-0.5, 0.5):
                        for sign in (-1.0, 1.0):
                            self._at_most(
                                share,
                                one,
                                a={entry: sign * weight},
                                kappa={entry: sign * half * weight},
                                slack=share,
                            )

    def sums_to_one(self) -> None:
        """Makes the constants of the classes sum to 1, their parabolas to 0."""
        for place in range(1 + 2 * self.k):
            row = np.zeros(self.outputs * self.each + 1)
            row[place : self.outputs * self.each : self.each] = 1.0
            self.equal.append(row)
            self.totals.append(1.0 if place == 0 else 0.0)

    def ordered(self, first: np.ndarray) -> None:
        """Gives all quantiles one parabola and the constants' own distances."""
        for one in range(1, self.outputs):
            for place in range(1 + 2 * self.k):
                row = np.zeros(self.outputs * self.each + 1)
                row[one * self.each + place], row[place] = 1.0, -1.0
                self.equal.append(row)
                self.totals.append(float(first[one] - first[0]) if place == 0 else 0.0)

    def solve(self, first: np.ndarray, d: int) -> tuple[Reference, float]:
        """Maximises the slack, and returns the parabolas in all d entries.

        Args:
            first: the best constant prediction, (m,).
            d: entries of an encoded row.

        Returns:
            The `Reference` and its slack.

        Raises:
            ValueError: no slack is positive.
        """
        number = self.outputs * self.each + 1
        greatest = self._solved(np.append(np.zeros(number - 1), -1.0), 0.0)
        if greatest is None or greatest[-1] < 1e-6:
            raise ValueError(
                "the shape rules leave no room: no function obeys them all strictly"
            )
        slack = _KEPT * float(greatest[-1])
        nearest = self._nearest(first, slack)
        found = greatest if nearest is None else nearest
        parts = found[: number - 1].reshape(self.outputs, self.each)
        linear, square = np.zeros((d, self.outputs)), np.zeros((d, self.outputs))
        linear[list(self.entries)] = parts[:, 1 : 1 + self.k].T
        square[list(self.entries)] = parts[:, 1 + self.k : 1 + 2 * self.k].T
        return Reference(parts[:, 0].copy(), linear, square), slack

    def _nearest(self, first: np.ndarray, slack: float) -> np.ndarray | None:
        """Minimises the distance to a constant at a slack, by a bound m on each part."""
        number = self.outputs * self.each + 1
        own = np.arange(1 + 2 * self.k)  # c, a and κ of an output
        chosen = np.concatenate([one * self.each + own for one in range(self.outputs)])
        target = np.zeros((self.outputs, len(own)))
        target[:, 0] = first
        part, bound = np.eye(number)[chosen], np.eye(len(chosen))
        more = np.block([[part, -bound], [-part, -bound]])
        limits = np.concatenate([target.ravel(), -target.ravel()])
        cost = np.concatenate([np.zeros(number), np.ones(len(chosen))])
        return self._solved(cost, slack, more, limits)

    def _solved(
        self,
        cost: np.ndarray,
        slack: float,
        more: np.ndarray | None = None,
        limits: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Solves the program at a slack or more, with further rows and variables."""
        from scipy.optimize import linprog

        number = self.outputs * self.each + 1
        rows = np.array(self.rows).reshape(-1, number)
        equal = np.array(self.equal).reshape(-1, number)
        wider = ((0, 0), (0, len(cost) - number))
        rows, limit = np.pad(rows, wider), np.array(self.limits)
        if more is not None and limits is not None:
            rows, limit = np.concatenate([rows, more]), np.append(limit, limits)
        free: list[tuple[float | None, float | None]] = [(None, None)] * len(cost)
        free[number - 1] = (slack, _MOST)
        found = linprog(
            cost,
            A_ub=rows,
            b_ub=limit,
            A_eq=np.pad(equal, wider),
            b_eq=np.array(self.totals),
            bounds=free,
        )
        return found.x if found.status == 0 else None
