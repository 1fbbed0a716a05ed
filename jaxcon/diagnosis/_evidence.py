r"""Evidence at the end of a run: KKT residuals in the problem's own scale.

What a gradient is small against must not change with the units of the loss, of the
constraints or of the parameters. As in OSQP's criterion, where it is the larger of
:math:`\|P x\|` and :math:`\|q\|` with :math:`\nabla f = P x + q`, the scale of the
Lagrangian's gradient is

.. math::
    S = \max(\|\nabla f\|, \|\nabla^2 f \, d\|), \qquad
    d = |\theta| + |\theta - \theta_0|

for each array of the parameters, with d the size of the parameters and of the way that
they came. The products :math:`\lambda g` and :math:`\mu h`, the gap between loss and
Lagrangian, are small against the loss's own change over d.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import multipliers as kinds_of
from jaxcon.constraints import Constraints, named
from jaxcon.diagnosis._estimates import Estimate, estimates, largest
from jaxcon.diagnosis._restoration import restoration, square
from jaxcon.diagnosis._tracks import Track
from jaxcon.lagrangians import Lagrangian, Point, shared, split
from jaxcon.optimality import conflict

# Relative residuals up to which a point is optimal: the default of OSQP and of SCS.
ENOUGH = 1e-3
# Noise, relative to the scale, above which batches do not tell whether it is.
_BLIND = 0.1
# Shortest way to feasibility, in sizes of the parameters, above which there is none.
_NO_WAY = 10.0
# Share of d over which the second derivatives are taken, and number of directions.
_NUDGE, _PROBES = 1e-2, 4
# Batches that these are taken over, of all.
_FEW_BATCHES = 4


class End(NamedTuple):
    """Point at which a run ended.

    Attributes:
        problem: the `Lagrangian`.
        state: the last state.
        batches: those it is judged on, at least one.
        start: the parameters that the run started from: how far they came is a scale.
        fixed: whether every step of the run had the same batch.
    """

    problem: Lagrangian
    state: Any
    batches: Sequence[Any]
    start: Any
    fixed: bool = True


class _Slopes(NamedTuple):
    """Values and gradients of one batch; norms are by the parameters' arrays."""

    residuals: Constraints
    estimates: Constraints
    of_loss: Any
    of_lagrangian: Any
    of_reference: Any
    squares: Any


@dataclass(frozen=True)
class Evidence:
    """KKT residuals of a point, relative to the problem's own scale.

    Attributes:
        stationarity: norm of the Lagrangian's gradient over its scale, in the array of
            the parameters where it is largest.
        where: the path of that array, "" if there is one alone.
        noise: two standard errors of it, 0 for one batch.
        gap: the largest sum of a constraint's absolute lambda g or mu h, over the loss's
            change.
        gap_of: the name of that constraint.
        negative: the most negative multiplier of an inequality, over the largest.
        negative_of: the name of its constraint.
        violation: estimates by constraint.
        spread: by constraint, range of its violation from batch to batch.
        hidden: by constraint, the largest multiplier at a violated entry over the largest
            at any.
        stiffness: by constraint, the curvature of its penalty over that of the loss.
        batches: number of batches.
        size: the length of d.
        end: the point.
        tolerance: largest violation that counts as feasible.
    """

    stationarity: float
    where: str
    noise: float
    gap: float
    gap_of: str
    negative: float
    negative_of: str
    violation: dict[str, Estimate]
    spread: dict[str, float]
    hidden: dict[str, float]
    stiffness: dict[str, float]
    batches: int
    size: float
    end: End
    tolerance: float

    @property
    def stationary(self) -> bool:
        """True where the Lagrangian's gradient is zero as far as can be told."""
        return self.stationarity <= max(ENOUGH, self.noise)

    def lags(self, track: Track) -> bool:
        """Returns whether a multiplier climbs, but parameters are far from its balance."""
        return track.climbs() and self.stationarity > _BLIND

    @property
    def wanders(self) -> bool:
        """True where the gradient is less than the noise of one batch, which drives it."""
        of_one = self.noise / 2 * np.sqrt(self.batches)
        return not self.stationary and self.stationarity <= of_one

    @property
    def blind(self) -> bool:
        """True where the noise of the batches hides whether the point is optimal."""
        doubtful = any(
            each.value <= self.tolerance < each.upper
            for each in self.violation.values()
        )
        return self.noise > _BLIND or doubtful

    @property
    def optimal(self) -> bool:
        """True where all KKT residuals are small."""
        return not self.blind and not self.shortfalls()

    def shortfalls(self) -> list[str]:
        """Lists clauses of the KKT residuals that are not small, the largest first."""
        found = [
            (
                each.value / self.tolerance if self.tolerance > 0 else np.inf,
                f"the violation of {name!r} is {each.value:.3g} {self.data}",
            )
            for name, each in self.violation.items()
            if not each.value <= self.tolerance
        ]
        if not self.stationary:
            of = f" with respect to params{self.where}" if self.where else ""
            found.append(
                (
                    self.stationarity / ENOUGH,
                    f"the Lagrangian's gradient{of} is {self.stationarity:.2g} times the "
                    "scale of the loss's",
                )
            )
        if self.gap > max(ENOUGH, self.noise):
            found.append(
                (
                    self.gap / ENOUGH,
                    f"multiplier times residual of {self.gap_of!r} is {self.gap:.2g} times "
                    "the scale of the loss",
                )
            )
        if self.negative > ENOUGH:
            found.append(
                (
                    self.negative / ENOUGH,
                    f"a multiplier of {self.negative_of!r} is negative",
                )
            )
        return [text for _, text in sorted(found, key=lambda row: -row[0])]

    @property
    def data(self) -> str:
        """Names the data in a few words."""
        if self.batches == 1:
            return "there"
        return f"over {self.batches} batches"

    @cached_property
    def way(self) -> float:
        """The shortest step to feasibility, to first order, in sizes of the parameters.

        It is taken where descent on the violations leads from the end, 0 if that is
        feasible: a flat place, as of a saturated softmax, is no proof.
        """
        state, batch = self.end.state, split(self.end.batches[0])[0]
        extra = getattr(state, "extra", None)
        restored = restoration(self.end.problem)(
            state.params, batch, extra, self.size, self.tolerance
        )
        try:
            found = conflict(
                self.end.problem,
                restored,
                batch,
                extra=extra,
                tolerance=self.tolerance,
            )
        except ValueError:  # a gradient that is not finite leads nowhere
            return 0.0
        step = float(found.step)
        return step / self.size if self.size > 0 or np.isinf(step) else 0.0

    @property
    def infeasible(self) -> bool:
        """True where no step that is not much longer than the parameters is feasible."""
        return self.way > _NO_WAY


def evidence(end: End, tracks: list[Track], tolerance: float) -> Evidence | None:
    """Evaluates the KKT residuals at the end of a run.

    Args:
        end: the point, and the batches it is judged on.
        tracks: of the history, whose largest pulls are the scale where the loss is flat.
        tolerance: largest violation that counts as feasible.

    Returns:
        An `Evidence`; None where something is not finite.
    """
    state = end.state
    point = Point(
        state.params,
        state.multipliers,
        getattr(state, "penalty", None),
        getattr(state, "extra", None),
    )
    pulls = {track.name: track.largest_pull() for track in tracks}
    slopes = partial(_program(end.problem), point, pulls)
    rows, total, squares = [], [], 0.0
    for batch in end.batches:
        row = slopes(point.params, split(batch)[0])
        sums = [row.of_loss, row.of_lagrangian, row.of_reference]
        total = jax.tree.map(jnp.add, total, sums) if total else sums
        squares = squares + np.asarray(jax.device_get(row.squares), float)
        rows.append(jax.device_get((row.residuals, row.estimates)))
    count = len(end.batches)
    of_loss, of_all, of_reference = (
        [_wide(leaf) / count for leaf in jax.tree.leaves(tree)] for tree in total
    )
    values = [np.asarray(leaf, float) for leaf in jax.tree.leaves(rows)]
    if not all(np.isfinite(leaf).all() for leaf in (*of_loss, *of_all, *values)):
        return None
    way = _way(point.params, end.start)
    bends, moves = _second_order(slopes, point.params, way, end.batches[:_FEW_BATCHES])

    def norms(leaves: list[np.ndarray]) -> np.ndarray:
        return np.array([np.linalg.norm(np.ravel(leaf)) for leaf in leaves])

    size = norms(of_all)
    scale = np.max([norms(of_loss), *map(norms, bends)], axis=0)
    flat = not np.max(scale, initial=0.0) > 0
    if flat:  # no loss to weigh against: the pulls that there were
        scale = norms(of_reference)
    # An array whose gradients never matter need not be as exact as the others.
    scale = np.maximum(scale, ENOUGH * np.max(scale, initial=0.0))
    # The squared standard error of the mean gradient; one batch is taken as the data.
    variance = np.zeros(len(size))
    if count > 1:
        variance = np.maximum(squares / count - size**2, 0) / (count - 1)
    relative = _over(size, scale)
    worst = int(np.argmax(relative)) if len(relative) else 0
    paths = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(point.params)
    ]
    change = sum(np.sum(np.abs(a) * d) for a, d in zip(of_loss, way)) + max(
        (sum(np.sum(np.abs(b) * d) for b, d in zip(bend, way)) / 2 for bend in bends),
        default=0.0,
    )
    if flat:
        change = max((track.largest_product() for track in tracks), default=0.0)
    residuals, multipliers = zip(*rows)
    known = [name for _, name, _ in named(residuals[0])]
    for track in tracks:
        if track.name not in known:
            raise ValueError(
                f"history has a constraint {track.name!r}, which end.problem lacks; pass "
                "the end of the same run"
            )
    gaps = {"": 0.0} | {
        name: float(_over(np.array([_gap(kind, name, rows)]), np.array([change]))[0])
        for kind, name, _ in named(residuals[0])
    }
    negatives = {"": 0.0} | {
        name: _negative(
            [row.inequality[name] for row in multipliers], pulls.get(name, 0)
        )
        for name in residuals[0].inequality
    }
    gap_of = max(gaps, key=lambda name: gaps[name])
    negative_of = max(negatives, key=lambda name: negatives[name])
    return Evidence(
        stationarity=float(relative[worst]) if len(relative) else 0.0,
        where=paths[worst] if len(relative) > 1 else "",
        noise=float(2 * _over(np.sqrt(variance), scale)[worst])
        if len(relative)
        else 0.0,
        gap=gaps[gap_of],
        gap_of=gap_of,
        negative=negatives[negative_of],
        negative_of=negative_of,
        violation=estimates(list(residuals)),
        spread=_spread(residuals),
        hidden={
            name: _hidden(kind, name, rows, tolerance)
            for kind, name, _ in named(residuals[0])
        },
        stiffness={
            track.name: float(_over(track.penalty[-1] * moves[track.name], change))
            for track in tracks
            if len(track.penalty)
        },
        batches=count,
        size=float(np.linalg.norm(norms(way))),
        end=end,
        tolerance=tolerance,
    )


@lru_cache(maxsize=16)
def _program(problem: Lagrangian) -> Any:
    return jax.jit(partial(_slopes, problem))


def _slopes(
    problem: Lagrangian, point: Point, pulls: dict[str, Any], params: Any, batch: Any
) -> _Slopes:
    def both(params: Any) -> Any:
        found = problem.evaluate(params, batch, point.extra)
        return found.loss, found.residuals

    (loss, residuals), pull = jax.vjp(shared(both), params)
    touched = kinds_of.gather(problem.multipliers, point.multipliers, batch)
    multipliers = problem.read(touched, residuals, batch)
    weights = jax.grad(problem.objective, argnums=1)(
        loss, residuals, multipliers, point.penalty
    )

    def signs(name: str, residual: jax.Array) -> jax.Array:
        drawn = jax.random.rademacher(jax.random.key(0), residual.shape, residual.dtype)
        return drawn * jnp.asarray(pulls.get(name, 0.0), residual.dtype)

    reference = Constraints(
        *({name: signs(name, r) for name, r in kind.items()} for kind in residuals)
    )
    one, nothing = jnp.ones_like(loss), jax.tree.map(jnp.zeros_like, residuals)
    (of_loss,), (of_all,) = pull((one, nothing)), pull((one, weights))
    (of_reference,) = pull((jnp.zeros_like(loss), reference))
    squares = [square(leaf) for leaf in jax.tree.leaves(of_all)]
    return _Slopes(residuals, weights, of_loss, of_all, of_reference, squares)


def _wide(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf.astype(complex if np.iscomplexobj(leaf) else float)


def _way(params: Any, start: Any) -> list[np.ndarray]:
    """Returns the size of the parameters and of the way that they came."""
    ends = [_wide(leaf) for leaf in jax.tree.leaves(params)]
    starts = [_wide(leaf) for leaf in jax.tree.leaves(start)]
    return [np.abs(end) + np.abs(end - start) for end, start in zip(ends, starts)]


def _second_order(
    slopes: Any, params: Any, way: list[np.ndarray], batches: Sequence[Any]
) -> tuple[list[list[np.ndarray]], dict[str, float]]:
    """Returns the loss's second derivatives along a few directions, and residuals' squares.

    Differences of gradients need no rule that a custom derivative may lack. The signs of
    the directions are random, so that no sum of entries cancels in all of them.
    """
    leaves, tree = jax.tree.flatten(params)
    random = np.random.default_rng(0)
    batches = [split(batch)[0] for batch in batches]
    here = [slopes(params, batch) for batch in batches]
    bends, squares = [], {name: [0.0] for _, name, _ in named(here[0].residuals)}
    for _ in range(_PROBES):
        moved = [
            leaf
            + jnp.asarray(_NUDGE * d * random.choice([-1.0, 1.0], d.shape), leaf.dtype)
            for leaf, d in zip(map(jnp.asarray, leaves), way)
        ]
        there = [slopes(jax.tree.unflatten(tree, moved), batch) for batch in batches]

        parts = [
            [_wide(b) - _wide(a) for a, b in zip(*map(jax.tree.leaves, pair))]
            for pair in zip((x.of_loss for x in here), (x.of_loss for x in there))
        ]
        bend = [sum(each) / (_NUDGE * len(batches)) for each in zip(*parts)]
        # A nudge may leave the domain, e.g. of a logarithm.
        if not all(np.isfinite(leaf).all() for leaf in bend):
            continue
        bends.append(bend)
        for kind, name, residual in named(here[0].residuals):
            moved_to = getattr(there[0].residuals, kind)[name]
            moves = (_wide(moved_to) - _wide(residual)) / _NUDGE
            squares[name].append(float(np.sum(moves**2)) / 2)
    return bends, {name: float(np.nanmax(each)) for name, each in squares.items()}


def _over(part: Any, whole: Any) -> Any:
    """Divides; nothing over nothing is nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(part) == 0, 0.0, np.divide(part, whole))


def _gap(kind: str, name: str, rows: Sequence[Any]) -> float:
    """Returns the sum of absolute multiplier times residual, over the batches."""
    pairs = [
        [np.asarray(getattr(each, kind)[name], float) for each in row] for row in rows
    ]
    if np.ndim(pairs[0][0]) == 0:
        r, y = np.mean(pairs, axis=0)
        return float(abs(r * y))
    return float(np.mean([np.sum(np.abs(r * y)) for r, y in pairs]))


def _negative(rows: Sequence[Any], largest_pull: float) -> float:
    most = max((float(np.max(np.abs(row), initial=0.0)) for row in rows), default=0.0)
    least = min((float(np.min(row, initial=0.0)) for row in rows), default=0.0)
    return float(_over(-least, max(most, largest_pull)))


def _spread(residuals: Sequence[Constraints]) -> dict[str, float]:
    """Returns the range of each violation from batch to batch."""
    found = {}
    for kind, name, _ in named(residuals[0]):
        each = [
            largest(kind, np.asarray(getattr(row, kind)[name], float))
            for row in residuals
        ]
        found[name] = float(np.ptp(each))
    return found


def _hidden(kind: str, name: str, rows: Sequence[Any], tolerance: float) -> float:
    """Returns the largest multiplier at violated entries over the largest at any."""
    at_violated, largest = 0.0, 0.0
    for row in rows:
        residual, weight = (
            np.atleast_1d(np.asarray(getattr(each, kind)[name], float)) for each in row
        )
        broken = (np.abs(residual) if kind == "equality" else residual) > tolerance
        at_violated = max(at_violated, np.max(np.abs(weight[broken]), initial=0.0))
        largest = max(largest, np.max(np.abs(weight), initial=0.0))
    return float(_over(at_violated, largest))
