r"""Sets ways side by side: one problem definition, several ways, one verdict each.

`Judge` measures what came of a way at points that none was trained on: the constraints'
worst case over the whole box, by search and at random.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon.constraints import Constraint, Constraints, evaluate, named
from jaxcon.kkt import KKT, kkt
from jaxcon.lagrangian import multiplier_estimates
from jaxcon.training import FitResult, NonFiniteError, fit, sweep
from jaxcon.ways import Problem, Way


class Sensitivity(NamedTuple):
    """What becomes of a way as its hyperparameter changes.

    Attributes:
        values: of the hyperparameter, the way's own among them, (k,).
        scores: `Problem.score` of each run, {name: (k,)}.
        violation: of each run the worst over all constraints, by search or at random
            points, whichever is worse, (k,).
    """

    values: np.ndarray
    scores: dict[str, np.ndarray]
    violation: np.ndarray


class Outcome(NamedTuple):
    """What one way came to.

    Attributes:
        name: the way's name.
        way: the way.
        result: its run.
        scores: `Problem.score` of the last iterate.
        searched: per constraint, the worst violation that a search over the box found.
        random: per constraint, the worst violation at uniformly random points.
        worst_points: per constraint, where the search found it, each (d,).
        multipliers: per constraint, the sum of its points' multiplier estimates: by how
            much the loss would fall per unit of room given to it everywhere.
        kkt: residuals of the problem that was trained, with those estimates.
        sensitivity: to the way's hyperparameter; None where it has none, or no sweep was
            asked for.
    """

    name: str
    way: Way
    result: FitResult
    scores: dict[str, float]
    searched: dict[str, float]
    random: dict[str, float]
    worst_points: dict[str, Any]
    multipliers: dict[str, float]
    kkt: KKT
    sensitivity: Sensitivity | None = None

    @property
    def violation(self) -> float:
        """The worst over all constraints, by search or at random points."""
        return _worst(self.searched, self.random)


class Judge:
    """Measures outcomes of one problem; what it compiles is shared by all of them.

    Args:
        problem: the definition all ways share.
        num_random: random points for each constraint.
        seed: of those points.
    """

    def __init__(self, problem: Problem, num_random: int = 100_000, seed: int = 0):
        self._original = problem
        self._options = num_random, seed
        self._verdicts: dict[Any, _Verdict] = {}

    def __call__(self, name: str, way: Way, result: FitResult) -> Outcome:
        """The verdict on one run.

        Args:
            name: the way's name.
            way: the way.
            result: what `fit` returned for the problem.

        Returns:
            An `Outcome` of the last iterate.
        """
        verdict, state = self._verdict(way), result.state
        searched, places, random = verdict.violations(state.params)
        optimality, weights = jax.device_get(
            verdict.kkt(state.params, state.multipliers, state.penalty)
        )
        return Outcome(
            name=name,
            way=way,
            result=result,
            scores=verdict.scores(state.params),
            searched=searched,
            random=random,
            worst_points=places,
            multipliers={key: float(value) for key, value in weights.items()},
            kkt=jax.tree.map(float, optimality),
        )

    def sensitivity(
        self, outcome: Outcome, factors: Sequence[float], steps: int, seed: int
    ) -> Sensitivity | None:
        """Trains a way again with its hyperparameter changed, all runs in one program.

        Args:
            outcome: of the way, with its own value.
            factors: what that value is multiplied by.
            steps: of each run.
            seed: of the initial parameters.

        Returns:
            A `Sensitivity`, `outcome` among its runs; None for a way without
            hyperparameter, or without factors.
        """
        way = outcome.way
        if not (way.hyperparameter and len(factors)):
            return None
        problem, verdict = way.change(self._original), self._verdict(way)
        params = problem.init(jax.random.key(seed))
        values = way.value * np.asarray(factors, float)
        runs = sweep(
            lambda value: (way.method(problem, value), params, problem.batch),
            {"value": values},
            steps=steps,
            keep=1,
        )
        scores, violation = [outcome.scores], [outcome.violation]
        for i in range(len(values)):
            there = jax.tree.map(lambda leaf, i=i: leaf[i], runs.state.params)
            searched, _, random = verdict.violations(there)
            scores.append(verdict.scores(there))
            violation.append(_worst(searched, random))
        values = np.append(way.value, values)
        order = np.argsort(values)
        return Sensitivity(
            values[order],
            {
                name: np.array([one[name] for one in scores])[order]
                for name in scores[0]
            },
            np.array(violation)[order],
        )

    def _verdict(self, way: Way) -> "_Verdict":
        """Of the way's problem: its own where it changes the network."""
        if way.change not in self._verdicts:
            changed = way.change(self._original)
            self._verdicts[way.change] = _Verdict(changed, *self._options)
        return self._verdicts[way.change]


class _Verdict:
    """What is measured of one network's parameters."""

    def __init__(self, problem: Problem, num_random: int, seed: int):
        self._problem = problem
        self._judged_on = problem.batch if problem.unseen is None else problem.unseen
        self._measure = jax.jit(self._violations)
        self.kkt = jax.jit(self._optimality)
        if problem.lower is not None:
            self._random = points.uniform(
                jax.random.key(seed), problem.lower, problem.upper, num_random
            )

    def violations(self, params: Any) -> tuple[dict, dict, dict]:
        """Worst violation of each constraint by search, where, and at random points."""
        searched, places, random = jax.device_get(self._measure(params))
        return (
            {name: float(value) for name, value in searched.items()},
            places,
            {name: float(value) for name, value in random.items()},
        )

    def scores(self, params: Any) -> dict[str, float]:
        """The problem's scores."""
        return {
            name: float(value)
            for name, value in self._problem.score(self._problem.apply, params).items()
        }

    def _violations(self, params: Any) -> tuple[dict, dict, dict]:
        problem = self._problem
        searched, places, random = {}, {}, {}
        for kind, name, constraint in named(problem.held()):
            signed = partial(self._signed, kind, constraint, params)
            if self._pointwise(signed):

                def worst_output(x: jax.Array, signed: Any = signed) -> jax.Array:
                    return jnp.max(signed({"points": x}).reshape(len(x), -1), axis=1)

                found = points.worst_case(worst_output, problem.lower, problem.upper)
                searched[name], places[name] = jnp.maximum(found.value, 0), found.point
                random[name] = jnp.max(worst_output(self._random), initial=0)
            else:
                # A sum over the data, a boundary value: there is nothing to search for.
                searched[name] = random[name] = jnp.max(signed({}), initial=0)
        return searched, places, random

    def _signed(
        self, kind: str, constraint: Constraint, params: Any, changes: dict[str, Any]
    ) -> jax.Array:
        """g, or abs h, on the data it is judged on, with some of them changed."""
        residual = constraint(params, self._judged_on | changes)
        return jnp.abs(residual) if kind == "equality" else residual

    def _pointwise(self, signed: Callable[[dict[str, Any]], jax.Array]) -> bool:
        """Whether there are as many residuals as points, or so many for each."""
        if self._problem.lower is None:
            return False
        d = np.size(self._problem.lower)
        few, more = (
            jax.eval_shape(signed, {"points": jnp.zeros((n, d))}).size for n in (7, 11)
        )
        return few % 7 == 0 and few // 7 * 11 == more

    def _optimality(
        self, params: Any, multipliers: Constraints, penalty: Any
    ) -> tuple[KKT, dict[str, jax.Array]]:
        """KKT residuals of the trained problem, and each constraint's total multiplier."""
        problem, trained = self._problem, self._problem.trained_on()
        residuals = evaluate(trained, params, problem.batch)
        estimates = multiplier_estimates(residuals, multipliers, penalty)
        verdict = kkt(problem.objective, trained, params, estimates, problem.batch)
        return verdict, {name: jnp.sum(m) for _, name, m in named(estimates)}


def compare(
    problem: Problem,
    ways: dict[str, Way],
    *,
    steps: int,
    factors: Sequence[float] = (0.01, 0.1, 10.0, 100.0),
    seed: int = 0,
    num_random: int = 100_000,
    progress: bool | None = None,
) -> list[Outcome]:
    """Trains one problem in several ways from the same start and judges each.

    `jaxcon.report` makes a table and a figure of what comes back.

    Args:
        problem: the definition all ways share.
        ways: by name, e.g. those of `jaxcon.ways.standard`.
        steps: of each run.
        factors: what each way's hyperparameter is multiplied by to see what hangs on it,
            every factor one more run; () for none.
        seed: of the initial parameters.
        num_random: random points at which each constraint is judged, beside the search.
        progress: as in `fit`.

    Returns:
        One `Outcome` for each way, in order.

    Example:
        >>> import optax, jaxcon as jc
        >>> problem = jc.Problem(                           # 2 p x <= 1 on [0, 1]
        ...     init=lambda key: jnp.zeros(()),
        ...     apply=lambda p, x: p * x[0],
        ...     loss=lambda apply, p, batch: jnp.square(apply(p, batch["x"]) - 2.0),
        ...     constraints=lambda apply: jc.Constraints(
        ...         inequality={"cap": jc.shapes.bounded(apply, upper=1.0, on="points")}
        ...     ),
        ...     batch={"x": jnp.ones(1), "points": jc.points.grid([0.0], [1.0], 5)},
        ...     score=lambda apply, p: {"error": abs(p - 2.0)},
        ...     lower=[0.0],
        ...     upper=[1.0],
        ... )
        >>> primal = optax.sgd(0.1)
        >>> ways = {
        ...     "penalty": jc.ways.penalty(primal, 1.0),
        ...     "augmented": jc.ways.augmented(primal, 1.0),
        ... }
        >>> for outcome in jc.compare(problem, ways, steps=1000):
        ...     print(f"{outcome.name}: {outcome.violation:.3f}")
        penalty: 0.881
        augmented: 0.000
    """
    judge = Judge(problem, num_random)
    outcomes = []
    for name, way in ways.items():
        try:
            result = train(problem, way, steps=steps, seed=seed, progress=progress)
        except NonFiniteError as stop:
            # A way that blows up is an outcome too: what it reached is judged.
            warnings.warn(f"{name}: {stop}", RuntimeWarning, stacklevel=2)
            result = stop.result
        outcome = judge(name, way, result)
        sensitivity = judge.sensitivity(outcome, factors, steps, seed)
        outcomes.append(outcome._replace(sensitivity=sensitivity))
    return outcomes


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
        way: how.
        steps: how many.
        seed: of the initial parameters.
        progress: as in `fit`.

    Returns:
        What `fit` returned.
    """
    changed = way.change(problem)
    method = way.method(changed, way.value)
    state = method.init(changed.init(jax.random.key(seed)), changed.batch)
    return fit(method, state, changed.batch, steps=steps, progress=progress)


def _worst(searched: dict[str, float], random: dict[str, float]) -> float:
    return max(*searched.values(), *random.values(), 0.0, 0.0)
