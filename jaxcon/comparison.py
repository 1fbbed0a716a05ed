r"""Comparison of training methods on one problem.

`Evaluator` measures the result of a method at points on which no method was trained: the
constraints' worst violation over the whole box, by search and at random points.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcon import points
from jaxcon._checks import check_number, check_type, described
from jaxcon.constraints import Constraint, Constraints, named
from jaxcon.lagrangians import Lagrangian, Point
from jaxcon.methods import Method, Problem
from jaxcon.optimality import KKT, kkt
from jaxcon.training import FitResult, SweepResult, fit, sweep

__all__ = [
    "Evaluator",
    "HyperparameterSensitivity",
    "MethodEvaluation",
    "compare",
    "train",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


class HyperparameterSensitivity(NamedTuple):
    """Scores and violations of a method for several values of its hyperparameter.

    Attributes:
        values: of the hyperparameter, the method's own among them, (k,).
        scores: `Problem.score` of each run, {name: (k,)}.
        violation: of each run the worst over all constraints, by search or at random
            points, (k,).
    """

    values: np.ndarray
    scores: dict[str, np.ndarray]
    violation: np.ndarray


class MethodEvaluation(NamedTuple):
    """Evaluation of one method after training.

    Attributes:
        name: the method's name.
        method: the method.
        result: its run.
        scores: `Problem.score` of the last iterate.
        searched: per constraint, the worst violation that a search over the box found.
        random: per constraint, the worst violation at uniformly random points.
        worst_points: per constraint, the point of that violation, each (d,).
        multipliers: per constraint, the sum of its points' multiplier estimates: the fall
            of the loss per unit by which the constraint is relaxed everywhere.
        kkt: residuals of the problem that was trained, with those estimates.
        sensitivity: to the method's hyperparameter; None where it has none, or no sweep was
            asked for.
    """

    name: str
    method: Method
    result: FitResult
    scores: dict[str, float]
    searched: dict[str, float]
    random: dict[str, float]
    worst_points: dict[str, Any]
    multipliers: dict[str, float]
    kkt: KKT
    sensitivity: HyperparameterSensitivity | None = None

    @property
    def violation(self) -> float:
        """Worst violation over all constraints, by search or at random points."""
        return _worst(self.searched, self.random)


class Evaluator:
    """Evaluator of trained methods on one problem, which all share its compiled functions.

    Args:
        problem: the definition all methods share.
        num_random: random points for each constraint.
        seed: of those points.

    Raises:
        TypeError: `problem` is no `Problem`, or another argument no number.
        ValueError: a number is out of its range.
    """

    def __init__(self, problem: Problem, num_random: int = 100_000, seed: int = 0):
        _check_problem(problem)
        check_number("num_random", num_random, least=1, whole=True)
        _check_seed(seed)
        self._original = problem
        self._options = num_random, seed
        self._changed: dict[Any, tuple[_Measure, Any]] = {}
        self._measures: dict[Any, _Measure] = {}

    def __call__(
        self, name: str, method: Method, result: FitResult
    ) -> MethodEvaluation:
        """Evaluates one run.

        Args:
            name: the method's name.
            method: the method.
            result: the result of `fit` for the problem.

        Returns:
            A `MethodEvaluation` of the last iterate.
        """
        (measure, optimality), state = self._of(method), result.state
        searched, places, random = measure.violations(state.params)
        residuals, weights = jax.device_get(
            optimality(state.params, state.multipliers, state.penalty)
        )
        return MethodEvaluation(
            name=name,
            method=method,
            result=result,
            scores=measure.scores(state.params),
            searched=searched,
            random=random,
            worst_points=places,
            multipliers={key: float(value) for key, value in weights.items()},
            kkt=jax.tree.map(float, residuals),
        )

    def sensitivity(
        self, evaluation: MethodEvaluation, runs: SweepResult
    ) -> HyperparameterSensitivity:
        """Evaluates runs of a method with other values of its hyperparameter.

        Args:
            evaluation: of the method, which was the first of the runs.
            runs: a sweep over "value".

        Returns:
            A `HyperparameterSensitivity`, its values rising.
        """
        measure, _ = self._of(evaluation.method)
        scores, violation = [evaluation.scores], [evaluation.violation]
        for i in range(1, len(runs.values["value"])):
            one = runs.run(i)
            if not one.history.finite[-1]:
                scores.append(dict.fromkeys(evaluation.scores, np.nan))
                violation.append(np.nan)
                continue
            searched, _, random = measure.violations(one.state.params)
            scores.append(measure.scores(one.state.params))
            violation.append(_worst(searched, random))
        order = np.argsort(runs.values["value"])
        return HyperparameterSensitivity(
            runs.values["value"][order],
            {
                name: np.array([one[name] for one in scores])[order]
                for name in scores[0]
            },
            np.array(violation)[order],
        )

    def _of(self, method: Method) -> tuple["_Measure", Any]:
        """Returns the measure of a method's network and its KKT residuals in training."""
        if method.change not in self._changed:
            problem = method.change(self._original)
            # The constraints of training do not enter the evaluation. The key uses
            # identities, since a network need not have a hash; the measure keeps it alive.
            same = id(problem.apply), id(problem.constraints), id(problem.score)
            if same not in self._measures:
                self._measures[same] = _Measure(problem, *self._options)
            optimality = jax.jit(partial(_optimality, problem))
            self._changed[method.change] = self._measures[same], optimality
        return self._changed[method.change]


class _Measure:
    """Measure of the violations and scores of one network's parameters."""

    def __init__(self, problem: Problem, num_random: int, seed: int):
        self._problem = problem
        self._unseen = problem.batch if problem.unseen is None else problem.unseen
        self._measure = jax.jit(self._violations)
        if problem.lower is not None:
            self._random = points.uniform(
                jax.random.key(seed), problem.lower, problem.upper, num_random
            )

    def violations(self, params: Any) -> tuple[dict, dict, dict]:
        """Returns each constraint's worst violation by search, its point, and at random."""
        searched, places, random = jax.device_get(self._measure(params))
        return (
            {name: float(value) for name, value in searched.items()},
            places,
            {name: float(value) for name, value in random.items()},
        )

    def scores(self, params: Any) -> dict[str, float]:
        """Evaluates the problem's scores."""
        scores = self._problem.score(self._problem.apply, params)
        if not isinstance(scores, Mapping):
            raise TypeError(
                f"score must return numbers by name, got {described(scores)}"
            )
        return {name: float(value) for name, value in scores.items()}

    def _violations(self, params: Any) -> tuple[dict, dict, dict]:
        problem = self._problem
        searched, places, random = {}, {}, {}
        for kind, name, constraint in named(problem.held()):
            signed = partial(self._signed, kind, constraint, params)
            num = self._residuals_of_a_point(signed)
            if num == 0:
                # A sum over the data or a boundary value does not depend on the points.
                searched[name] = random[name] = jnp.max(signed({}), initial=0)
                continue
            worst = partial(_worst_of_each, signed, num)
            found = points.worst_case(worst, problem.lower, problem.upper)
            searched[name], places[name] = jnp.maximum(found.value, 0), found.point
            random[name] = jnp.max(worst(self._random), initial=0)
        return searched, places, random

    def _signed(
        self, kind: str, constraint: Constraint, params: Any, changes: dict[str, Any]
    ) -> jax.Array:
        """Evaluates g, or abs h, on the unseen data, with some of them changed."""
        residual = constraint(params, self._unseen | changes)
        return jnp.abs(residual) if kind == "equality" else residual

    def _residuals_of_a_point(
        self, signed: Callable[[dict[str, Any]], jax.Array]
    ) -> int:
        """Returns the number of residuals of each point; 0 if they are not of points."""
        if self._problem.lower is None:
            return 0
        d = np.size(self._problem.lower)
        few, more = (
            jax.eval_shape(signed, {"points": jnp.zeros((n, d))}).size for n in (7, 11)
        )
        return few // 7 if few % 7 == 0 and few // 7 * 11 == more else 0


def _worst_of_each(
    signed: Callable[[dict[str, Any]], jax.Array], num: int, x: jax.Array
) -> jax.Array:
    """Returns the worst of the `num` residuals of each point x (n, d), (n,)."""
    if num == 1:
        return signed({"points": x})
    # The points are evaluated one by one: the order of several points' residuals is not
    # known.
    return jax.vmap(lambda point: jnp.max(signed({"points": point[None]})))(x)


def _optimality(
    problem: Problem, params: Any, multipliers: Constraints, penalty: Any
) -> tuple[KKT, dict[str, jax.Array]]:
    """Returns KKT residuals of the trained problem and each constraint's multiplier sum."""
    lagrangian = Lagrangian(problem.objective, problem.trained_on())
    point = Point(params, multipliers, penalty)
    estimates = lagrangian.multiplier_estimates(point, problem.batch)
    conditions = kkt(lagrangian, Point(params, estimates), problem.batch)
    return conditions, {name: jnp.sum(m) for _, name, m in named(estimates)}


def compare(
    problem: Problem,
    methods: dict[str, Method],
    *,
    steps: int,
    factors: Sequence[float] = (0.01, 0.1, 10.0, 100.0),
    seed: int = 0,
    num_random: int = 100_000,
) -> list[MethodEvaluation]:
    """Trains one problem by several methods from the same start and evaluates each.

    A method and its other hyperparameters are one program. If a method diverges, its last
    finite iterate is evaluated, with a warning; the numbers of such a hyperparameter are
    NaN. `jaxcon.report` makes a table and a figure of the evaluations.

    Args:
        problem: the definition all methods share.
        methods: by name, e.g. those of `jaxcon.methods.standard`.
        steps: of each run.
        factors: of each method's hyperparameter, for its `HyperparameterSensitivity`, every
            factor one more run; () for none.
        seed: of the initial parameters.
        num_random: random points at which each constraint is evaluated, beside the search.

    Returns:
        One `MethodEvaluation` for each method, in order.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a number is out of its range, or there is no method.

    Example:
        >>> import jax.numpy as jnp, optax, jaxcon as jc
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
        >>> methods = {
        ...     "penalty": jc.methods.penalty(primal, 1.0),
        ...     "augmented": jc.methods.augmented(primal, 1.0),
        ... }
        >>> for evaluation in jc.compare(problem, methods, steps=1000):
        ...     print(f"{evaluation.name}: {evaluation.violation:.3f}")
        penalty: 0.881
        augmented: 0.000
    """
    check_number("steps", steps, least=1, whole=True)
    check_type("factors", factors, (list, tuple, np.ndarray), "a list of numbers")
    for factor in factors:
        check_number("factors", factor, above=0)
    _check_seed(seed)
    if not isinstance(methods, Mapping) or not methods:
        raise TypeError(
            f"methods must be at least one by name, got {described(methods)}"
        )
    for name, method in methods.items():
        _check_method(f"method {name!r}", method)
    evaluator = Evaluator(problem, num_random)
    evaluations = []
    for name, method in methods.items():
        changed = method.change(problem)
        params = changed.init(jax.random.key(seed))
        values = [method.value * factor for factor in factors]
        runs = None
        if method.hyperparameter and values:
            runs = _swept(method, changed, params, [method.value, *values], steps)
            run = runs.run(0)
        else:
            run = _alone(method, changed, params, steps)
        failed = np.flatnonzero(~run.history.finite)
        if failed.size:
            warnings.warn(
                f"{name}: {failed.size} of {steps} steps were not finite and were "
                f"skipped, the first of them step {failed[0]}",
                RuntimeWarning,
                stacklevel=2,
            )
        evaluation = evaluator(name, method, run)
        if runs is not None:
            evaluation = evaluation._replace(
                sensitivity=evaluator.sensitivity(evaluation, runs)
            )
        evaluations.append(evaluation)
    return evaluations


def _swept(
    method: Method, problem: Problem, params: Any, values: list[float], steps: int
) -> SweepResult:
    """Trains by every value of a hyperparameter, in one program."""
    return sweep(
        lambda value: (method.solver(problem, value), params, problem.batch),
        {"value": np.array(values)},
        steps=steps,
        keep=steps,
    )


def _alone(method: Method, problem: Problem, params: Any, steps: int) -> FitResult:
    """Trains by one value; a solver that ends by itself does so."""
    with warnings.catch_warnings():  # the caller says it, with the method's name
        warnings.filterwarnings("ignore", ".*the step was skipped")
        return fit(
            method.solver(problem, method.value),
            params,
            problem.batch,
            steps=steps,
            max_skipped=steps,
            progress=False,
        )


def train(
    problem: Problem,
    method: Method,
    *,
    steps: int,
    seed: int = 0,
    progress: bool | None = None,
    checkpoint: Any = None,
) -> FitResult:
    """Trains one problem by one method with the whole batch at every step.

    Args:
        problem: the definition of the problem.
        method: the method of training.
        steps: their number.
        seed: of the initial parameters.
        progress: as in `fit`.
        checkpoint: as in `fit`.

    Returns:
        The result of `fit`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: a number is out of its range.
    """
    _check_problem(problem)
    _check_method("method", method)
    _check_seed(seed)
    changed = method.change(problem)
    solver = method.solver(changed, method.value)
    state = solver.init(changed.init(jax.random.key(seed)), changed.batch)
    return fit(
        solver,
        state,
        changed.batch,
        steps=steps,
        progress=progress,
        checkpoint=checkpoint,
    )


def _check_problem(problem: Any) -> None:
    check_type("problem", problem, Problem, "a jaxcon.Problem")


def _check_method(name: str, method: Any) -> None:
    check_type(name, method, Method, "a jaxcon.Method")


def _check_seed(seed: Any) -> None:
    # JAX would cut a longer one to its last 32 bits.
    check_number("seed", seed, least=0, below=2**32, whole=True)


def _worst(searched: dict[str, float], random: dict[str, float]) -> float:
    # Not Python's max, which passes over a NaN.
    return float(np.max([*searched.values(), *random.values()], initial=0.0))
