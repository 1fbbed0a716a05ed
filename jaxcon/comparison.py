r"""Sets ways side by side: one problem definition, several methods, one verdict each.

A `Problem` says what is to be fitted and what must hold, and nothing of how. A *way*
turns it into a `Method`; `Judge` measures what came of it at points no way was trained
on: the constraints' worst case over the whole box, by search and at random.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxcon import points
from jaxcon.constraints import Constraint, Constraints, evaluate, named
from jaxcon.kkt import KKT, kkt
from jaxcon.lagrangian import multiplier_estimates
from jaxcon.primal_dual import Loss, Method, alternating
from jaxcon.training import FitResult, fit
from jaxcon.transforms import dual_ascent


class Problem(NamedTuple):
    """What is to be fitted and what must hold.

    Attributes:
        init: (key) -> params.
        apply: (params, x (d,)) -> output of one example.
        loss: (params, batch) -> ().
        constraints: what must hold; they read their points from ``batch["points"]``.
        tightened: what is trained on: `constraints`, some with a margin.
        batch: data and points, a dict of arrays with an entry "points" (n, d).
        lower: lower corner of the box in which the constraints must hold, (d,).
        upper: upper corner, (d,).
        score: (params) -> {name: number}, measured on data no way was trained on.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]
    loss: Loss
    constraints: Constraints
    tightened: Constraints
    batch: dict[str, Any]
    lower: Any
    upper: Any
    score: Callable[[Any], dict[str, float]]


Way = Callable[[Problem], Method]


class Outcome(NamedTuple):
    """What one way came to.

    Attributes:
        name: the way's name.
        result: its run.
        scores: `Problem.score` of the last iterate.
        searched: per constraint, the worst violation that a search over the box found.
        random: per constraint, the worst violation at uniformly random points.
        worst_points: per constraint, where the search found it, each (d,).
        multipliers: per constraint, the sum of its points' multiplier estimates: by how
            much the loss would fall per unit of room given to it everywhere.
        kkt: residuals of the trained (tightened) problem, with those estimates.
    """

    name: str
    result: FitResult
    scores: dict[str, float]
    searched: dict[str, float]
    random: dict[str, float]
    worst_points: dict[str, Any]
    multipliers: dict[str, float]
    kkt: KKT


def standard_ways(
    primal: optax.GradientTransformation, strength: float
) -> dict[str, Way]:
    r"""Unconstrained, fixed penalties, Lagrangian and augmented Lagrangian.

    They share the primal optimizer and one `strength` c: with n points to a constraint,
    the penalty is :math:`\rho = c / n` and the dual rate :math:`\eta = c / n`, so that the
    quadratic term is :math:`\tfrac{c}{2} \operatorname{mean}(g_+^2)`. A fixed penalty is
    also shown a thousand times lighter and a hundred times heavier, because its weight is
    what one has to guess. What one step may add to a multiplier is bounded by clipping
    the residual the dual sees to [-1, 1]. Every way, the unconstrained one too, evaluates
    the constraints at every step, so that their histories can be compared; its seconds
    hold that.

    Args:
        primal: an optax transform for the parameters.
        strength: c > 0, in loss units per squared residual unit.

    Returns:
        Ways by name, in the order they are shown.
    """

    def way(weight: float | None, climbs: bool) -> Way:
        def make(problem: Problem) -> Method:
            num = len(problem.batch["points"])
            # Without a bound on what one step may add, the first steps, whose residuals
            # are thousands of times the later ones, wind the multipliers up.
            bounded = optax.chain(optax.clip(1.0), optax.sgd(strength / num))
            return alternating(
                problem.loss,
                problem.tightened,
                primal,
                dual_ascent(bounded) if climbs else optax.set_to_zero(),
                penalty=None if weight is None else weight / num,
            )

        return make

    return {
        "unconstrained": way(None, climbs=False),
        "light penalty": way(strength / 1000, climbs=False),
        "penalty": way(strength, climbs=False),
        "heavy penalty": way(strength * 100, climbs=False),
        "lagrangian": way(None, climbs=True),
        "augmented": way(strength, climbs=True),
    }


class Judge:
    """Measures outcomes of one problem; what it compiles is shared by all of them.

    Args:
        problem: the definition all ways share.
        num_random: random points for each constraint.
        seed: of those points.
    """

    def __init__(self, problem: Problem, num_random: int = 100_000, seed: int = 0):
        self._problem = problem
        self._measure = jax.jit(self._worst)
        self._kkt = jax.jit(self._optimality)
        self._random = points.uniform(
            jax.random.key(seed), problem.lower, problem.upper, num_random
        )

    def __call__(self, name: str, result: FitResult) -> Outcome:
        """The verdict on one run.

        Args:
            name: the way's name.
            result: what `fit` returned for the problem.

        Returns:
            An `Outcome` of the last iterate.
        """
        state = result.state
        searched, places, random = jax.device_get(self._measure(state.params))
        optimality, weights = jax.device_get(
            self._kkt(state.params, state.multipliers, state.penalty)
        )
        return Outcome(
            name=name,
            result=result,
            scores=self._problem.score(state.params),
            searched={key: float(value) for key, value in searched.items()},
            random={key: float(value) for key, value in random.items()},
            worst_points=places,
            multipliers={key: float(value) for key, value in weights.items()},
            kkt=jax.tree.map(float, optimality),
        )

    def _worst(self, params: Any) -> tuple[dict, dict, dict]:
        """Worst violation of each constraint by search, where, and at random points."""
        searched, places, random = {}, {}, {}
        for kind, name, constraint in named(self._problem.constraints):
            signed = self._signed(kind, constraint, params)
            found = points.worst_case(signed, self._problem.lower, self._problem.upper)
            searched[name] = jnp.maximum(found.value, 0)
            places[name] = found.point
            random[name] = jnp.max(signed(self._random), initial=0)
        return searched, places, random

    def _signed(
        self, kind: str, constraint: Constraint, params: Any
    ) -> Callable[[jax.Array], jax.Array]:
        """g, or abs h, as a function (n, d) -> (n,) of the points alone."""

        def residual(x: jax.Array) -> jax.Array:
            r = constraint(params, {**self._problem.batch, "points": x})
            return jnp.abs(r) if kind == "equality" else r

        def signed(x: jax.Array) -> jax.Array:
            if pointwise:
                return jnp.max(residual(x).reshape(len(x), -1), axis=1)
            # It reads no points (a sum over the data, a boundary value): the same
            # everywhere, and nothing to search for.
            return jnp.broadcast_to(jnp.max(residual(x)), len(x))

        d = len(self._problem.lower)
        sizes = [jax.eval_shape(residual, jnp.zeros((n, d))).size for n in (7, 11)]
        pointwise = sizes[0] % 7 == 0 and sizes[0] // 7 * 11 == sizes[1]
        return signed

    def _optimality(
        self, params: Any, multipliers: Constraints, penalty: Any
    ) -> tuple[KKT, dict[str, jax.Array]]:
        """KKT residuals of the trained problem, and each constraint's total multiplier."""
        problem = self._problem
        residuals = evaluate(problem.tightened, params, problem.batch)
        estimates = multiplier_estimates(residuals, multipliers, penalty)
        verdict = kkt(problem.loss, problem.tightened, params, estimates, problem.batch)
        return verdict, {name: jnp.sum(m) for _, name, m in named(estimates)}


def compare(
    problem: Problem,
    ways: dict[str, Way],
    *,
    steps: int,
    seed: int = 0,
    progress: bool | None = None,
) -> list[Outcome]:
    """Trains one problem in several ways from the same start and judges each.

    Args:
        problem: the definition all ways share.
        ways: functions (problem) -> method, by name, e.g. `standard_ways`.
        steps: of each.
        seed: of the initial parameters.
        progress: as in `fit`.

    Returns:
        One `Outcome` for each way, in order.
    """
    judge = Judge(problem)
    return [
        judge(name, train(problem, way, steps=steps, seed=seed, progress=progress))
        for name, way in ways.items()
    ]


def train(
    problem: Problem,
    way: Way,
    *,
    steps: int,
    seed: int = 0,
    progress: bool | None = None,
) -> FitResult:
    """Trains one problem in one way, its whole batch at every step.

    Args:
        problem: what is to be fitted and what must hold.
        way: function (problem) -> method.
        steps: how many.
        seed: of the initial parameters.
        progress: as in `fit`.

    Returns:
        What `fit` returned.
    """
    method = way(problem)
    state = method.init(problem.init(jax.random.key(seed)), problem.batch)
    return fit(method, state, problem.batch, steps=steps, progress=progress)
