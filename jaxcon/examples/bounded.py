r"""Bounded outputs in [0, 1], fitted to data outside the bounds.

Targets are :math:`y_i = u(x_i) + \varepsilon_i` with :math:`u(x) = 1/2 + \sin 2 \pi x`,
which itself leaves the bounds. A network f is fitted by least squares subject to

.. math::
    g(x) = \max(-f(x), f(x) - 1) \le 0.

The truth is :math:`\min(\max(u, 0), 1)`, because least squares within bounds separates over
the points. So do the multipliers,
:math:`n \lambda(x) = 2 \max(-u(x), u(x) - 1, 0)`, whose mean over x is
:math:`(2 \sqrt 3 - 2 \pi / 3) / \pi`. The greatest violation of u is 1/2. A fixed penalty
of weight w leaves of it:

- with the squared hinge on both sides, :math:`\tfrac w2 g_+^2`: :math:`1 / (2 + w)`;
- with the hinge: nothing if :math:`w \ge 1`, else the part that its slope cannot outweigh.

The multipliers' sum is known for given data too: the mean of :math:`2 \max(-y, y - 1)` over
the points where u is out of bounds, with zero for the others. A network of finite width
determines that sum, and not each of the multipliers.

A sigmoid, :math:`1 / (1 + e^{-z})`, reaches its bounds only in the limit, and its slope
vanishes there. Clipping is the projection onto [0, 1]. It reaches the bounds and has no
gradient beyond them: a network that starts outside at every point never moves. Both
stop where a fit lies at a bound and should leave it: at the two ends of the range, where u
returns to 1/2. Clipping *after* training uses all of the data and is the formula of the
truth, because bounds act on each point separately; a bound on the slope has no such
formula.

Methods with multipliers, and clipping afterwards, reach the truth to 0.05 (root mean
square; the noise is 0.2), the multipliers' sum to 0.03. At seeds 0 and 1 the
squared hinge ends at 0.065, the hinge and layers between 0.08 and 0.12, or at 0.67 from a
start outside. Clipped outputs have no violation.

    jaxcon example bounded
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import layers, points, report, shapes, tabular
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import Constraints
from jaxcon.examples._example import Findings, study
from jaxcon.methods import (
    Apply,
    Method,
    Problem,
    afterwards,
    augmented,
    by_construction,
    default,
    lagrangian,
    penalty,
    pi_control,
    unconstrained,
)

__all__ = [
    "MEASUREMENTS",
    "NOISE",
    "OUTSIDE",
    "PRIMAL",
    "SHOWN",
    "SIZES",
    "STEPS",
    "bounded_problem",
    "findings",
    "methods",
    "total_multiplier",
    "truth",
    "unbounded",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


NOISE = 0.2
MEASUREMENTS = 200
SIZES = (1, 32, 32, 1)
STEPS = 3000
# With Adam's usual momentum of 0.9 multipliers and outputs oscillate with growing size.
PRIMAL = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS), b1=0.5)
OUTSIDE = 5.0  # added to the bias of the network that starts outside


def unbounded(x: jax.Array) -> jax.Array:
    """Evaluates the mean u of the targets.

    Args:
        x: any shape.

    Returns:
        u(x), of that shape.
    """
    return 0.5 + jnp.sin(2 * jnp.pi * x)


def truth(x: jax.Array) -> jax.Array:
    """Evaluates the least-squares solution within the bounds.

    Args:
        x: any shape.

    Returns:
        u(x) clipped to [0, 1], of that shape.
    """
    return jnp.clip(unbounded(x), 0, 1)


def bounded_problem(seed: int = 0) -> Problem:
    """Builds the least-squares problem with outputs in [0, 1] at every point.

    Args:
        seed: of the noise.

    Returns:
        A `Problem`, scored against the truth between the training points.
    """
    x = points.grid([0.0], [1.0], MEASUREMENTS)
    noise = NOISE * jax.random.normal(jax.random.key(seed), (MEASUREMENTS,))
    unseen = points.sobol([0.0], [1.0], 1024)

    def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
        fitted = jax.vmap(partial(apply, params))(batch["x"])
        return jnp.mean(jnp.square(fitted - batch["y"]))

    def score(apply: Apply, params: Any) -> dict[str, float]:
        fitted = jax.vmap(partial(apply, params))(unseen)
        error = np.asarray(fitted - truth(unseen[:, 0]), float)
        return {"RMSE to truth": np.sqrt(np.mean(error**2))}

    return Problem(
        init=lambda key: tabular.init_network(key, SIZES),
        apply=tabular.network,
        loss=loss,
        constraints=lambda apply: Constraints(
            inequality={"in bounds": shapes.bounded(apply, 0.0, 1.0, on="points")}
        ),
        batch={"x": x, "y": unbounded(x[:, 0]) + noise, "points": x},
        score=score,
        lower=[0.0],
        upper=[1.0],
    )


def total_multiplier(problem: Problem) -> float:
    """Computes the sum of the multipliers at the constrained optimum from the data.

    Args:
        problem: from `bounded_problem`.

    Returns:
        The sum over all points.
    """
    u, y = unbounded(problem.batch["x"][:, 0]), problem.batch["y"]
    beyond = jnp.where(u > 1, y - 1, jnp.where(u < 0, -y, 0))
    return float(2 * jnp.mean(beyond))


def methods() -> dict[str, Method]:
    """Lists the methods that keep the bounds."""

    def clipped(apply: Apply) -> Apply:
        return lambda params, x: jnp.clip(apply(params, x), 0, 1)

    def outside(key: jax.Array) -> Any:
        *hidden, last = tabular.init_network(key, SIZES)
        return [*hidden, {**last, "b": last["b"] + OUTSIDE}]

    return {
        "unconstrained": unconstrained(PRIMAL),
        # The published weight is 10 of squares: 20 of halved squares.
        "squared hinge": penalty(PRIMAL, 20.0),
        "hinge": penalty(PRIMAL, 2.0, "absolute"),
        "Lagrangian": lagrangian(PRIMAL, 0.1),
        "PI control": pi_control(PRIMAL, 0.1),
        "augmented": augmented(PRIMAL, 0.1),
        "default": default(),
        "sigmoid layer": by_construction(PRIMAL, layers.bounded(0.0, 1.0).wrap),
        "clipping layer": by_construction(PRIMAL, clipped),
        "clipping layer, begun outside": by_construction(PRIMAL, clipped, outside),
        "clipped afterwards": afterwards(PRIMAL, clipped),
    }


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method.

    Args:
        seed: of the noise and of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of the one part.
    """
    if skip > 0:
        return
    problem = bounded_problem(seed)
    yield study(
        "outputs between bounds",
        problem,
        methods(),
        steps=STEPS,
        note=partial(_note, problem),
        draw=partial(_draw, problem),
        seed=seed,
    )


def _note(problem: Problem, evaluations: dict[str, MethodEvaluation]) -> str:
    errors = {name: one.scores["RMSE to truth"] for name, one in evaluations.items()}
    hinge, held = evaluations["squared hinge"], evaluations["augmented"]
    outside = evaluations["clipping layer, begun outside"].result.history.loss
    return (
        f"The squared hinge leaves {hinge.violation:.3f} of violation, "
        f"{1 / (2 + hinge.method.value):.3f} in theory; multipliers (augmented) leave "
        f"{held.violation:.0e} and sum to {held.multipliers['in bounds']:.3f}, "
        f"{total_multiplier(problem):.3f} in theory. Layers obey exactly but are off by "
        f"{errors['sigmoid layer']:.2f} (sigmoid) and {errors['clipping layer']:.2f} "
        "(clipping), because they have no slope left at the bounds; the loss of a clipping "
        f"layer that starts outside moves by {np.ptp(outside):.1g} in all (off by "
        f"{errors['clipping layer, begun outside']:.2f}). Clipping after training is off "
        f"by {errors['clipped afterwards']:.2f}."
    )


SHOWN = ("unconstrained", "squared hinge", "augmented", "sigmoid layer")


def _draw(
    problem: Problem, evaluations: Sequence[MethodEvaluation], path: Path
) -> None:
    """Draws fits with data and bounds, the points' multipliers and the layers' errors."""
    x = points.grid([0.0], [1.0], 401)
    u = unbounded(x[:, 0])
    fits = {
        evaluation.name: jax.vmap(
            partial(
                evaluation.method.change(problem).apply, evaluation.result.state.params
            )
        )(x)
        for evaluation in evaluations
    }
    figure = report.new_figure(15, 4.2)
    left, middle, right = (figure.add_subplot(1, 3, i) for i in (1, 2, 3))
    left.scatter(problem.batch["x"], problem.batch["y"], s=5, c="0.7")
    left.axhspan(1, 1.9, color="C3", alpha=0.1)
    left.axhspan(-0.9, 0, color="C3", alpha=0.1)
    left.set_ylim(-0.9, 1.9)
    for name in SHOWN:
        left.plot(x, fits[name], label=name)
    left.plot(x, truth(x[:, 0]), ":", c="black", label="truth")
    left.set_title("fits, and what is out of bounds", fontsize=10)
    for evaluation in evaluations:
        multipliers = evaluation.result.state.multipliers.inequality["in bounds"]
        if np.any(multipliers):
            scaled = MEASUREMENTS * multipliers
            middle.plot(problem.batch["x"], scaled, lw=1, label=evaluation.name)
    exactly = 2 * jnp.maximum(jnp.maximum(-u, u - 1), 0)
    middle.plot(x, exactly, ":", c="black", label="without noise")
    middle.set_title(
        f"n times the multipliers; their sum should be {total_multiplier(problem):.3f}",
        fontsize=10,
    )
    for evaluation in evaluations:
        if "layer" in evaluation.name or evaluation.name == "clipped afterwards":
            error = evaluation.scores["RMSE to truth"]
            off = fits[evaluation.name] - truth(x[:, 0])
            right.plot(x, off, label=f"{evaluation.name}, RMSE {error:.3f}")
    right.set_title("errors of what cannot leave the bounds", fontsize=10)
    for axes in figure.axes:
        axes.set_xlabel("x")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
