r"""Two objectives with a concave Pareto front, which weighted sums do not reach.

Two saturating objectives pull a model u to c and to -c, where the mean of :math:`c^2` is 1:

.. math::
    f_1 = 1 - e^{-\operatorname{mean}(u - c)^2}, \qquad
    f_2 = 1 - e^{-\operatorname{mean}(u + c)^2}, \qquad
    \min f_1 \quad \text{subject to} \quad f_2 \le 1/2

These are Fonseca and Fleming's two functions, of a model's outputs in place of a few
numbers. Every Pareto optimum is u = s c with :math:`|s| \le 1`: any other component of u
increases both distances.

Truth. The wanted point is :math:`s^* = \sqrt{\log 2} - 1`, where f2 is 1/2. There
:math:`f_1' + \lambda f_2' = 0` for

.. math::
    \lambda(s) = \frac{1 - s}{1 + s}\, e^{4 s}, \qquad
    f_1'' + \lambda f_2'' = 4 e^{-(1 - s)^2}\, \frac{2 s^2 - 1}{1 + s}

The second formula is the curvature of :math:`f_1 + w f_2` at s for the only weight w for
which s is stationary. It is negative wherever :math:`s^2 < 1/2`: that weight makes s a
maximum along the front, and no weight makes it a minimum. Weighted sums of two numbers end
where :math:`s^2 \ge 1/2`, which is f2 below 0.083 or above 0.945; on a network some end at
0.092. For the same reason the Lagrangian has no saddle point, and ascent on its multiplier
diverges in a spiral. The augmented Lagrangian adds :math:`\rho (f_2')^2`, and the wanted
point is its minimum once

.. math::
    \rho > \rho^* = \frac{e^{-(1 - s)^2} (1 - 2 s^2)}{(1 + s)^3 e^{-2 (1 + s)^2}}
    = 1.674

Reached, on two numbers: u to an RMSE of 1e-5 and :math:`\lambda^* = 0.7177` to 1e-5, by the
augmented Lagrangian and PI control; u alone by projection and by construction. On a
network: u to 0.02, :math:`\lambda^*` to 0.01. All use plain descent: momentum sustains the
oscillation of parameters and multiplier.

Run it: ``jaxcon example front``.

References:
    Fonseca and Fleming, An Overview of Evolutionary Algorithms in Multiobjective
    Optimization (1995). Das and Dennis, A Closer Look at Drawbacks of Minimizing
    Weighted Sums of Objectives (1997).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import report
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import Constraints
from jaxcon.examples._example import Findings, study
from jaxcon.methods import (
    Apply,
    Method,
    Problem,
    augmented,
    by_construction,
    lagrangian,
    penalty,
    pi_control,
    projected,
    unconstrained,
)
from jaxcon.tabular import init_network, network
from jaxcon.training import sweep

__all__ = [
    "FIRST",
    "LIMIT",
    "MOMENTUM",
    "PRIMAL",
    "SECOND",
    "STEPS",
    "STRENGTH",
    "Truth",
    "aim",
    "draw",
    "findings",
    "late_aims",
    "methods",
    "methods_of_two_numbers",
    "one_network",
    "onto_disc",
    "truth",
    "two_numbers",
    "weight_of",
    "weighted_sums",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


LIMIT = 0.5  # of f2
STRENGTH = 5.0
STEPS = 5000
PRIMAL = optax.sgd(0.05)
# This is as fast in the long run, by ten times smaller moves that add up.
MOMENTUM = optax.sgd(0.005, momentum=0.9)


class Truth(NamedTuple):
    """Solution on the front, with its multiplier.

    Attributes:
        place: s, of u = s c.
        aim: f1 there.
        multiplier: of f2's limit.
        strength: the penalty above which it is a minimum of the augmented Lagrangian.
    """

    place: float
    aim: float
    multiplier: float
    strength: float


def truth() -> Truth:
    """Computes the wanted point in closed form (the module's formulas, for any `LIMIT`).

    Returns:
        A `Truth`.
    """
    s = float(np.sqrt(-np.log(1 - LIMIT)) - 1)
    near, far = np.exp(-((1 - s) ** 2)), 1 - LIMIT
    return Truth(
        place=s,
        aim=float(1 - near),
        multiplier=weight_of(s),
        strength=float(near * (1 - 2 * s**2) / ((1 + s) ** 3 * far**2)),
    )


def weight_of(s: Any) -> Any:
    """Computes the weight for which s is stationary along the front.

    Args:
        s: place on the front, in (-1, 1), any shape.

    Returns:
        Lambda(s), of that shape.
    """
    return (1 - s) / (1 + s) * np.exp(4 * s)


def aim(side: float) -> Callable[[Apply, Any, Any], jax.Array]:
    """Returns one of the two objectives.

    Args:
        side: 1 for f1, -1 for f2.

    Returns:
        (apply, params, batch) -> ().
    """

    def objective(apply: Apply, params: Any, batch: Any) -> jax.Array:
        u = jax.vmap(lambda x: apply(params, x))(batch["x"])
        return -jnp.expm1(-jnp.mean(jnp.square(u - side * batch["c"])))

    return objective


FIRST, SECOND = aim(1.0), aim(-1.0)


def two_numbers() -> Problem:
    """Builds the problem where u is a pair of numbers and c is (1, 1).

    Returns:
        A `Problem` whose parameters are the pair.
    """
    batch = {"x": jnp.eye(2), "c": jnp.ones(2)}
    return _problem(
        lambda key: jax.random.normal(key, (2,)), lambda u, x: u @ x, batch, batch
    )


def one_network() -> Problem:
    """Builds the problem where u is a network on [0, 1] and c(x) is sqrt(2) sin(2 pi x).

    Returns:
        A `Problem`, trained at 32 points and evaluated at 301 others.
    """
    sizes = (1, 16, 1)
    return _problem(
        lambda key: init_network(key, sizes), network, _sampled(32), _sampled(301)
    )


def _sampled(num: int) -> dict[str, jax.Array]:
    """Returns midpoints of equal intervals, over which the mean of c squared is 1."""
    x = (jnp.arange(num) + 0.5) / num
    return {"x": x[:, None], "c": jnp.sqrt(2.0) * jnp.sin(2 * jnp.pi * x)}


def _problem(init: Any, apply: Apply, batch: Any, unseen: Any) -> Problem:
    best = truth().place * unseen["c"]

    def score(apply: Apply, params: Any) -> dict[str, Any]:
        u = jax.vmap(lambda x: apply(params, x))(unseen["x"])
        return {
            "RMSE to truth": jnp.sqrt(jnp.mean(jnp.square(u - best))),
            "f1": FIRST(apply, params, unseen),
            "f2": SECOND(apply, params, unseen),
        }

    def constraints(apply: Apply) -> Constraints:
        return Constraints(inequality={"f2": lambda p, b: SECOND(apply, p, b) - LIMIT})

    return Problem(
        init=init,
        apply=apply,
        loss=FIRST,
        constraints=constraints,
        batch=batch,
        score=score,
        unseen=unseen,
    )


def methods() -> dict[str, Method]:
    """Lists the methods for either model.

    Returns:
        Methods by name. The weighted sum's weight is the true multiplier.
    """
    return {
        "unconstrained": unconstrained(PRIMAL),
        "weighted sum": penalty(PRIMAL, truth().multiplier, "linear"),
        "quadratic penalty": penalty(PRIMAL, STRENGTH),
        "absolute penalty": penalty(PRIMAL, STRENGTH, "absolute"),
        "lagrangian": lagrangian(PRIMAL, STRENGTH / 10),
        "PI control": pi_control(PRIMAL, STRENGTH / 10),
        "augmented": augmented(PRIMAL, STRENGTH),
        "augmented, momentum": augmented(MOMENTUM, STRENGTH),
    }


def methods_of_two_numbers() -> dict[str, Method]:
    """Adds two methods for a pair of numbers, whose feasible set is a disc.

    Returns:
        Methods by name, `methods` among them.
    """
    return methods() | {
        "projection": projected(PRIMAL, onto_disc),
        "by construction": by_construction(
            PRIMAL, lambda apply: lambda u, x: apply(onto_disc(u), x)
        ),
    }


def onto_disc(u: jax.Array) -> jax.Array:
    r"""Projects a pair onto the disc where f2 is within its limit.

    .. math::
        |u + c|^2 \le -2 \log(1 - \text{limit})

    Args:
        u: (2,).

    Returns:
        Shape (2,).
    """
    radius = np.sqrt(-2 * np.log(1 - LIMIT))
    return optax.projections.projection_l2_ball(u + 1.0, radius) - 1.0


def weighted_sums(problem: Problem, weights: np.ndarray, starts: int) -> np.ndarray:
    """Minimises :math:`f_1 + w f_2` for many weights and starts in one program.

    Args:
        problem: either model's.
        weights: w, (k,).
        starts: the number of random starts for each weight.

    Returns:
        f1 and f2 at the end of each run, (k starts, 2).
    """
    method = penalty(PRIMAL, 1.0, "linear")
    runs = sweep(
        lambda weight, start: (
            method.solver(problem, weight),
            problem.init(jax.random.key(start)),
            problem.batch,
        ),
        {"weight": weights, "start": np.arange(starts)},
        steps=2 * STEPS,
        keep=1,
    )
    ends = [
        jax.vmap(lambda p, f=f: f(problem.apply, p, problem.batch))(runs.state.params)
        for f in (FIRST, SECOND)
    ]
    return np.stack(ends, axis=1)


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method and of weighted sums on both models.

    Args:
        seed: of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of two numbers, then of a network.
    """
    parts = (
        ("a front of two numbers", two_numbers(), methods_of_two_numbers(), (50, 4)),
        ("a front of a network", one_network(), methods(), (10, 2)),
    )
    for title, problem, its_methods, grid in parts[skip:]:
        ends = weighted_sums(problem, np.geomspace(0.1, 10.0, grid[0]), grid[1])
        yield study(
            title,
            problem,
            its_methods,
            steps=STEPS,
            factors=(0.1, 0.3, 3.0),
            seed=seed,
            note=partial(_note, ends),
            draw=partial(draw, ends),
        )


def late_aims(evaluation: MethodEvaluation) -> tuple[float, float]:
    """Returns the least and greatest f1 over the last quarter of a run.

    Args:
        evaluation: of one method.

    Returns:
        Both.
    """
    late = evaluation.result.history.loss[-STEPS // 4 :]
    return float(np.min(late)), float(np.max(late))


def _note(ends: np.ndarray, evaluations: dict[str, MethodEvaluation]) -> str:
    best, below = truth(), ends[:, 1] < LIMIT
    low, high = late_aims(evaluations["lagrangian"])
    heavy = late_aims(evaluations["augmented, momentum"])
    held = evaluations["augmented"]
    return (
        f"f2 = {LIMIT:g} is wanted, where the multiplier is {best.multiplier:.4f}: of "
        f"{len(ends)} weighted sums none ends between f2 = {ends[below, 1].max():.3f} and "
        f"{ends[~below, 1].min():.3f}, and the multiplier as their weight ends at "
        f"{evaluations['weighted sum'].scores['f2']:.3f}. "
        f"The plain Lagrangian's f1 goes from {low:.2f} to {high:.2f} in its last quarter; "
        f"the augmented one, stronger than {best.strength:.3f}, ends at "
        f"f2 = {held.scores['f2']:.4f} with the multiplier {held.multipliers['f2']:.4f}. "
        f"With momentum its f1 goes from {heavy[0]:.3f} to {heavy[1]:.3f}."
    )


def draw(ends: np.ndarray, evaluations: Sequence[MethodEvaluation], path: Path) -> None:
    """Draws the front with the methods' last iterates, and the multipliers' paths.

    Args:
        ends: the result of `weighted_sums`.
        evaluations: of either model.
        path: the PNG to write.
    """
    s = np.linspace(-0.999, 0.999, 400)
    f1, f2 = -np.expm1(-((1 - s) ** 2)), -np.expm1(-((1 + s) ** 2))
    best = truth()
    figure = report.new_figure(12, 5)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.fill_between(f1, f2, 1.0, color="0.9", label="attainable")
    left.axhspan(LIMIT, 1.02, color="C3", alpha=0.1, lw=0, label="f2 too large")
    left.plot(f1, f2, color="black", lw=1)
    left.plot(*ends.T, "x", color="0.4", label=f"{len(ends)} weighted sums")
    for place, evaluation in enumerate(evaluations):
        at = evaluation.scores["f1"], evaluation.scores["f2"]
        left.plot(*at, "o", ms=7, color=f"C{place}", alpha=0.8, label=evaluation.name)
        if evaluation.name in ("lagrangian", "PI control", "augmented"):
            history = evaluation.result.history
            multiplier = history.multiplier.inequality["f2"]
            right.plot(
                history.loss, multiplier, color=f"C{place}", lw=1, label=evaluation.name
            )
    left.set(xlabel="f1", ylabel="f2", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    left.set_title(
        f"no weighted sum within {np.abs(ends[:, 1] - LIMIT).min():.2f} of f2 = {LIMIT:g}"
    )
    right.plot(f1, weight_of(s), color="black", lw=0.8, ls=":", label="stationary")
    for axes, y in ((left, LIMIT), (right, best.multiplier)):
        axes.plot(best.aim, y, "k*", ms=14, label="truth")
    right.set(xlabel="f1", ylabel="multiplier", ylim=(-0.1, 4 * best.multiplier))
    right.set_title("the multipliers' paths")
    left.legend(fontsize=7, loc="lower left")
    right.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=120)
