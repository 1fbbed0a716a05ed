r"""Equality constraint on outputs of twice the input: at every point or in the mean.

The targets have a systematic error,

.. math::
    t(x) = 2 x + e(x), \qquad e(x) = 0.2 + 0.5 \sin(2 \pi x), \qquad 0 \le x \le 1,

and a network f is fitted to them by least squares subject to one of

.. math::
    h_i = f(x_i) - 2 x_i = 0 \text{ at every point}, \qquad
    \bar h = \operatorname{mean}_i (f(x_i) - 2 x_i) = 0.

They differ. The truth of the first is :math:`f = 2x`, with multipliers
:math:`\mu_i = 2 e(x_i) / n`. The truth of the second is :math:`f = t - 0.2`, which still
deviates by up to 0.5, with the one multiplier :math:`\bar\mu = 2 \cdot 0.2`. The
multipliers of the first add up to that of the second: the multiplier of a mean does not
determine the function.

A fixed quadratic penalty of weight w leaves :math:`e / (1 + w/2)`, an absolute one the part
of e beyond :math:`w/2` (smoothed by the network).

Multipliers may have any optimizer of their own (`jaxcon.dual_ascent` of Adam), and it may
ignore residuals within a tolerance (`dead_zone`). It must ascend. An optimizer that
descends on the multipliers as on the parameters moves away from the constraint for good;
with a step of ascent after it, it stops at the tolerance of that ascent
(`descent_and_ascent`).

At every point, methods with multipliers and by construction reach 2x to 0.01 (RMSE), and
the multipliers' sum to 0.01; a network of 49 parameters does not determine the single
multipliers at 64 points. In the mean, methods of ascent and by construction reach
:math:`t - 0.2` to 0.02 and the multiplier to 0.01.

    jaxcon example doubling
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import points, report, shapes, tabular
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import Constraints
from jaxcon.examples._example import Findings, study
from jaxcon.methods import (
    Apply,
    Method,
    Problem,
    augmented,
    by_construction,
    default,
    lagrangian,
    multipliers,
    penalty,
    pi_control,
    projected,
    unconstrained,
)
from jaxcon.transforms import dual_ascent

__all__ = [
    "ASCENT",
    "DESCENT",
    "OFFSET",
    "POINTS",
    "PRIMAL",
    "STEPS",
    "TOLERANCE",
    "WAVE",
    "by_adam",
    "by_descent",
    "by_patient_sgd",
    "common_methods",
    "dead_zone",
    "descent_and_ascent",
    "doubling_problem",
    "error",
    "everywhere",
    "findings",
    "in_the_mean",
    "inputs",
    "mean_methods",
    "methods",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


OFFSET = 0.2  # mean of the targets' error
WAVE = 0.5  # amplitude of the wave in the error
POINTS = 64
STEPS = 3000
TOLERANCE = 1e-3  # of the residuals that move no multiplier
# Of the published rule: Adam's rate on the multiplier, and the rate of its ascent by hand.
DESCENT, ASCENT = 1e-3, 0.1
PRIMAL = optax.adam(optax.cosine_decay_schedule(3e-2, STEPS))


def inputs() -> jax.Array:
    """Returns the training points, even on [0, 1], (n, 1)."""
    return points.grid([0.0], [1.0], POINTS)


def error(x: jax.Array) -> jax.Array:
    """Evaluates the targets' systematic error e.

    Args:
        x: any shape.

    Returns:
        e(x), of that shape.
    """
    return OFFSET + WAVE * jnp.sin(2 * jnp.pi * x)


def everywhere(apply: Apply) -> Constraints:
    """Returns the constraint at every point, residual (n,)."""
    return Constraints(
        {"doubles": shapes.equals(apply, lambda x: 2 * x[0], on="points")}
    )


def in_the_mean(apply: Apply) -> Constraints:
    """Returns the constraint on the mean, residual ()."""
    doubles = everywhere(apply).equality["doubles"]
    return Constraints({"mean": lambda p, batch: jnp.mean(doubles(p, batch))})


def doubling_problem(*, mean: bool = False) -> Problem:
    """Builds the least-squares problem under one of the two constraints.

    Args:
        mean: whether only the mean is constrained.

    Returns:
        A `Problem`, scored against its truth between the training points.
    """
    x = inputs()

    def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
        fitted = jax.vmap(partial(apply, params))(batch["x"])
        return jnp.mean(jnp.square(fitted - batch["y"]))

    def score(apply: Apply, params: Any) -> dict[str, float]:
        between = (x[1:] + x[:-1]) / 2
        fitted = jax.vmap(partial(apply, params))(between)
        off = np.asarray(fitted - 2 * between[:, 0], float)
        truth = np.asarray(error(between[:, 0]) - OFFSET, float) if mean else 0.0
        return {
            "RMSE to truth": np.sqrt(np.mean((off - truth) ** 2)),
            "mean of y - 2x": abs(np.mean(off)),
            "worst y - 2x": np.max(np.abs(off)),
        }

    return Problem(
        init=lambda key: tabular.init_network(key, (1, 16, 1)),
        apply=tabular.network,
        loss=loss,
        constraints=in_the_mean if mean else everywhere,
        batch={"x": x, "y": 2 * x[:, 0] + error(x[:, 0]), "points": x},
        lower=[0.0],
        upper=[1.0],
        score=score,
    )


def dead_zone(tolerance: float) -> optax.GradientTransformation:
    r"""Sets residuals within a tolerance to zero, :math:`r \leftarrow r\, [|r| > \tau]`.

    Args:
        tolerance: tau, in the residuals' units.

    Returns:
        A transform to put before an optimizer of multipliers.
    """

    def beyond(residual: jax.Array) -> jax.Array:
        return jnp.where(jnp.abs(residual) > tolerance, residual, 0)

    return optax.stateless(lambda updates, _: jax.tree.map(beyond, updates))


def descent_and_ascent(rate: Any) -> optax.GradientTransformation:
    """Moves multipliers by the published rule: Adam's descent, then a step of ascent.

    Args:
        rate: of the ascent.

    Returns:
        A transform over `Constraints` of residuals and multipliers.
    """
    descent = optax.adam(DESCENT)
    ascent = dual_ascent(optax.chain(dead_zone(TOLERANCE), optax.sgd(rate)))

    def init(params: Any) -> Any:
        return descent.init(params), ascent.init(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        down, below = descent.update(updates, state[0], params)
        up, above = ascent.update(updates, state[1], params)
        return jax.tree.map(jnp.add, down, up), (below, above)

    return optax.GradientTransformation(init, update)


def by_adam(rate: Any) -> optax.GradientTransformation:
    """Ascends on the multipliers with an Adam of their own."""
    return dual_ascent(optax.adam(rate))


def by_patient_sgd(rate: Any) -> optax.GradientTransformation:
    """Ascends on the multipliers whose residuals exceed the tolerance."""
    return dual_ascent(optax.chain(dead_zone(TOLERANCE), optax.sgd(rate)))


def by_descent(rate: Any) -> optax.GradientTransformation:
    """Descends on the multipliers, as a counterexample."""
    # The sign changes inside, because a transform that descends is refused.
    return dual_ascent(optax.chain(optax.scale(-1.0), optax.adam(rate)))


def common_methods() -> dict[str, Method]:
    """Lists the methods for both constraints."""
    return {
        "unconstrained": unconstrained(PRIMAL),
        "quadratic penalty": penalty(PRIMAL, 10.0),
        "absolute penalty": penalty(PRIMAL, 1.0, "absolute"),
        "Lagrangian": lagrangian(PRIMAL, 0.01),
        "PI control": pi_control(PRIMAL, 0.01),
        "augmented": augmented(PRIMAL, 0.1),
        "default": default(),
    }


def methods() -> dict[str, Method]:
    """Lists the methods for the constraint at every point; the last one is for the mean."""

    def mean_only(problem: Problem) -> Problem:
        return problem._replace(trained=in_the_mean)

    common = common_methods()
    return {
        **common,
        "Adam on multipliers": multipliers(PRIMAL, by_adam, 0.01),
        "tolerance": multipliers(PRIMAL, by_patient_sgd, 0.01),
        # No freedom remains; outputs projected onto y = 2x would be the same.
        "by construction": by_construction(
            PRIMAL, lambda apply: lambda params, x: 2 * x[0]
        ),
        "mean only": common["Lagrangian"]._replace(change=mean_only),
    }


def mean_methods() -> dict[str, Method]:
    """Lists the methods for the mean, and two that descend on its multiplier."""

    def mean_error(apply: Apply, params: Any) -> jax.Array:
        return in_the_mean(apply).equality["mean"](params, {"points": inputs()})

    def nearest(params: Any) -> Any:
        h, slope = jax.value_and_grad(partial(mean_error, tabular.network))(params)
        size = optax.tree.norm(slope, squared=True)
        return optax.tree.add_scale(params, -h / size, slope)

    def centred(apply: Apply) -> Apply:
        return lambda params, x: apply(params, x) - mean_error(apply, params)

    # Adam has other fixed points under a projection (`jaxcon.proximal`). Plain steps are
    # slower on a wave, as the results show.
    plain = optax.sgd(optax.cosine_decay_schedule(0.1, STEPS), momentum=0.9)

    return {
        **common_methods(),
        "Adam on multipliers": multipliers(PRIMAL, by_adam, 1e-3),
        "tolerance": multipliers(PRIMAL, by_patient_sgd, 0.01),
        "projection": projected(plain, nearest),
        "by construction": by_construction(PRIMAL, centred),
        "descent": multipliers(PRIMAL, by_descent, DESCENT),
        "descent and ascent": multipliers(PRIMAL, descent_and_ascent, ASCENT),
    }


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method for both constraints.

    Args:
        seed: of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of the constraint at every point, and of that on the mean.
    """
    parts = (
        ("twice the input at every point", methods(), _note),
        ("twice the input in the mean", mean_methods(), _mean_note),
    )
    for mean, (title, tried, note) in [*enumerate(parts)][skip:]:
        yield study(
            title,
            doubling_problem(mean=bool(mean)),
            tried,
            steps=STEPS,
            note=note,
            draw=partial(_draw, mean=bool(mean)),
            factors=(0.1, 10.0),
            seed=seed,
        )


def _note(evaluations: dict[str, MethodEvaluation]) -> str:
    mean, each = evaluations["mean only"], evaluations["Lagrangian"]
    return (
        "Holding the mean alone leaves the function wrong by up to "
        f"{mean.scores['worst y - 2x']:.2f}, with a mean error of "
        f"{mean.scores['mean of y - 2x']:.1e}; a multiplier at every point leaves "
        f"{each.scores['worst y - 2x']:.1e}. Yet the multipliers add up to the same, "
        f"{mean.multipliers['mean']:.3f} and {each.multipliers['doubles']:.3f}. "
        f"The quadratic penalty leaves {evaluations['quadratic penalty'].violation:.2f}, "
        "the absolute one, too light here, "
        f"{evaluations['absolute penalty'].violation:.2f}."
    )


def _mean_note(evaluations: dict[str, MethodEvaluation]) -> str:
    down, both = evaluations["descent"], evaluations["descent and ascent"]
    return (
        f"A multiplier that descends ends at {down.multipliers['mean']:.2f} instead of "
        f"{2 * OFFSET:.2f} and has driven the mean error from {OFFSET:.2f} to "
        f"{down.violation:.2f}, further with every step. With an ascent by hand that stops "
        f"at {TOLERANCE:g}, the mean error rests at {both.violation:.1e}: descent does not "
        f"stop there. Ascent alone leaves {evaluations['Lagrangian'].violation:.1e}. "
        "Whatever holds the mean, y is still wrong by "
        f"{evaluations['by construction'].scores['worst y - 2x']:.2f}."
    )


def _draw(evaluations: Sequence[MethodEvaluation], path: Path, mean: bool) -> None:
    """Draws errors against x, and the points' multipliers or the mean error by step."""
    problem = doubling_problem(mean=mean)
    x = inputs()[:, 0]
    targets = np.asarray(error(x))
    truth = targets - OFFSET if mean else 0 * targets
    figure = report.new_figure(11, 4.2)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.plot(x, targets, ".", color="0.7", label="targets")
    left.plot(x, truth, color="black", ls=":", lw=2, label="truth")
    left.fill_between(x, targets, color="C3", alpha=0.08)
    for place, evaluation in enumerate(evaluations):
        apply, result = evaluation.method.change(problem).apply, evaluation.result
        style: dict[str, Any] = {
            "color": f"C{place % 10}",
            "ls": "-" if place < 10 else "--",
        }
        fitted = jax.vmap(partial(apply, result.state.params))(x[:, None])
        left.plot(x, fitted - 2 * x, lw=1, label=evaluation.name, **style)
        mu = result.state.multipliers.equality
        if mean:
            label = f"{evaluation.name}: {mu['mean']:.3g}"
            right.semilogy(result.history.max_violation, lw=1, label=label, **style)
        elif "mean" in mu:
            right.axhline(mu["mean"], lw=1, label=evaluation.name, **style)
        elif np.any(mu["doubles"]):
            each = POINTS * mu["doubles"]
            right.plot(x, each, lw=1, label=evaluation.name, **style)
    left.set(xlabel="x", ylabel="y - 2x")
    left.set_title(f"errors; the targets' are up to {np.max(np.abs(targets)):.2f}")
    if mean:
        right.axhline(
            TOLERANCE, color="black", ls=":", label=f"tolerance {TOLERANCE:g}"
        )
        right.set(xlabel="step", ylim=(1e-11, 10), title="size of the mean error")
    else:
        right.plot(x, 2 * targets, color="black", ls=":", lw=2, label="truth")
        right.set(xlabel="x", title=f"{POINTS} times the multipliers")
    left.legend(fontsize=7, ncols=2)
    # The label ends with the last multiplier.
    title = f"truth: {2 * OFFSET:.3g}" if mean else None
    right.legend(fontsize=7, ncols=2, framealpha=1, title=title)
    figure.savefig(path, dpi=120)
