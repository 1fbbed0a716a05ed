r"""Poisson's equation, by its residual and its energy, with boundary values as constraints.

.. math::
    -u'' = f \text{ on } [0, 1], \qquad u(0) = 0, \qquad u(1) = 1, \qquad
    f(x) = k^2 \sin k x, \qquad k = 2 \pi

The truth is :math:`u(x) = \sin k x + x`. It minimises two losses, each under the boundary
values as equality constraints:

.. math::
    \frac{1}{n} \sum \left( \frac{u'' + f}{k^2} \right)^2 \qquad \text{and} \qquad
    \int_0^1 \tfrac12 u'^2 - f u \, dx

**The residual** is zero at the solution, and so are the multipliers: with any fixed weight
on the boundary values training converges to it. **The energy** has a derivative at the
ends, along v :math:`u'(1) v(1) - u'(0) v(0)`. So the multipliers are fluxes, and the error
of a quadratic penalty of weight w on each end is a line:

.. math::
    \mu_0 = u'(0) = k + 1, \qquad \mu_1 = -u'(1) = -(k + 1), \qquad
    u_w - u = \frac{(k + 1) (1 - 2 x)}{w + 2}

The residual is invariant to a line and the energy to a constant. Along these directions the
Lagrangian has no unique minimum, and ascent on it oscillates; a quadratic term damps this.

Second differences of step h in place of :math:`u''` solve another equation, after any
number of steps:

.. math::
    u_h = \frac{k^2 h^2}{2 - 2 \cos k h} \sin k x + x

The method by construction is :math:`u = x + x (1 - x)\, \mathrm{net}(x)`.

Reached by PI control, the method of multipliers and construction: u to an RMSE of 0.005 (by
the residual and construction to 1e-4, while differences stop at 0.009), boundary values to
1e-4 and, by the energy, both multipliers to 0.1 of 7.28.

Run it: ``jaxcon example poisson``.

References:
    Lagaris, Likas and Fotiadis, Artificial Neural Networks for Solving Ordinary and
    Partial Differential Equations (1998). E and Yu, The Deep Ritz Method (2018).
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import derivatives, domains, layers, points, report, shapes
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
    penalty,
    pi_control,
    unconstrained,
)
from jaxcon.tabular import init_network, network

__all__ = [
    "ENDS",
    "FLUX",
    "FREQUENCY",
    "NUM_MIDPOINTS",
    "PERIOD",
    "PRIMAL",
    "SIZES",
    "STEP",
    "STEPS",
    "Function",
    "boundary_values",
    "by_energy",
    "by_residual",
    "curvature",
    "differenced",
    "differenced_solution",
    "draw",
    "energy",
    "findings",
    "methods",
    "methods_by_energy",
    "methods_by_residual",
    "obeying",
    "penalised_solution",
    "residuals",
    "second_difference",
    "solution",
    "source",
    "squared_residual",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


FREQUENCY = 2 * np.pi  # k
FLUX = FREQUENCY + 1.0  # u'(0) and u'(1)
STEP = 1 / 16  # h, also between the points where the equation is enforced
NUM_MIDPOINTS = 64  # of the energy
SIZES = (1, 64, 1)
STEPS = 5000
PERIOD = 100  # steps between the moves of the method of multipliers
PRIMAL = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))
ENDS = {"u(0) = 0": 0.0, "u(1) = 1": 1.0}

Function = Callable[[jax.Array], jax.Array]


def solution(x: Any) -> Any:
    """Evaluates the true u.

    Args:
        x: any shape.

    Returns:
        u(x), of that shape.
    """
    return np.sin(FREQUENCY * x) + x


def penalised_solution(x: Any, weight: float) -> Any:
    """Evaluates the minimiser of the energy and a quadratic penalty.

    Args:
        x: any shape.
        weight: w, of half the squared violation at each end.

    Returns:
        u_w(x), of that shape.
    """
    return solution(x) + FLUX * (1 - 2 * x) / (weight + 2)


def differenced_solution(x: Any) -> Any:
    """Evaluates the solution of the equation with second differences.

    Args:
        x: any shape.

    Returns:
        u_h(x), of that shape.
    """
    kh = FREQUENCY * STEP
    return kh**2 / (2 - 2 * np.cos(kh)) * np.sin(FREQUENCY * x) + x


def source(x: jax.Array) -> jax.Array:
    """Evaluates the right-hand side f at one point (1,), shape ()."""
    return FREQUENCY**2 * jnp.sin(FREQUENCY * x[0])


def curvature(u: Function) -> Function:
    """Returns the exact second derivative."""
    return derivatives.partial_derivative(u, 0, 0)


def second_difference(u: Function) -> Function:
    """Approximates the second derivative by the difference of three values."""
    return lambda x: (u(x + STEP) - 2 * u(x) + u(x - STEP)) / STEP**2


def residuals(
    second: Callable[[Function], Function], apply: Apply, params: Any, x: jax.Array
) -> jax.Array:
    r"""Evaluates the residual of the equation, :math:`(u'' + f) / k^2`.

    Args:
        second: `curvature` or `second_difference`.
        apply: (params, x (1,)) -> ().
        params: of it.
        x: (n, 1).

    Returns:
        Shape (n,).
    """
    bent = second(partial(apply, params))
    return jax.vmap(lambda x: (bent(x) + source(x)) / FREQUENCY**2)(x)


def squared_residual(
    second: Callable[[Function], Function], apply: Apply, params: Any, batch: Any
) -> jax.Array:
    """Evaluates the mean square of `residuals` at the batch's points, shape ()."""
    return jnp.mean(jnp.square(residuals(second, apply, params, batch["points"])))


def energy(apply: Apply, params: Any, batch: Any) -> jax.Array:
    r"""Evaluates the mean of :math:`u'^2 / 2 - f u` over the batch's points, shape ()."""
    both = derivatives.value_and_gradient(partial(apply, params))

    def density(x: jax.Array) -> jax.Array:
        u, slope = both(x)
        return 0.5 * jnp.sum(jnp.square(slope)) - source(x) * u

    return jnp.mean(jax.vmap(density)(batch["points"]))


def by_residual() -> Problem:
    """Builds the problem of the equation's residual on an even grid with its ends.

    Returns:
        A `Problem` of a tanh network.
    """
    grid = points.grid([0.0], [1.0], round(1 / STEP) + 1)
    return _problem(partial(squared_residual, curvature), grid)


def by_energy() -> Problem:
    """Builds the problem of the energy by the midpoint rule.

    Returns:
        A `Problem` of a tanh network.
    """
    midpoints = (jnp.arange(NUM_MIDPOINTS) + 0.5) / NUM_MIDPOINTS
    return _problem(energy, midpoints[:, None])


def _problem(loss: Any, x: jax.Array) -> Problem:
    unseen = points.grid([0.0], [1.0], 1001)
    truth = jnp.asarray(solution(np.asarray(unseen[:, 0])))

    def score(apply: Apply, params: Any) -> dict[str, Any]:
        error = jax.vmap(partial(apply, params))(unseen) - truth
        missed = residuals(curvature, apply, params, unseen)
        return {
            "RMSE to truth": jnp.sqrt(jnp.mean(jnp.square(error))),
            "worst PDE residual": jnp.max(jnp.abs(missed)),
        }

    return Problem(
        init=lambda key: init_network(key, SIZES),
        apply=network,
        loss=loss,
        constraints=boundary_values,
        batch={"points": x},
        score=score,
    )


def boundary_values(apply: Apply) -> Constraints:
    """Constrains both ends, each with a multiplier of its own.

    Args:
        apply: (params, x (1,)) -> ().

    Returns:
        Two equalities, each of shape (1,).
    """
    return Constraints(
        equality={
            name: shapes.boundary(apply, end, on=jnp.full((1, 1), end))
            for name, end in ENDS.items()
        }
    )


def obeying(apply: Apply) -> Apply:
    r"""Makes a network that has the boundary values by construction.

    .. math::
        u(x) = x + x (1 - x)\, \mathrm{net}(x)

    Args:
        apply: net, (params, x (1,)) -> ().

    Returns:
        u, (params, x (1,)) -> ().
    """
    ends = layers.dirichlet(domains.box([0.0], [1.0]), lambda x: x[0])
    return ends.wrap(apply)


def methods(strength: float) -> dict[str, Method]:
    """Lists the methods that keep the boundary values, for either loss.

    Args:
        strength: c of the penalties and of the augmented Lagrangian.

    Returns:
        Methods by name.
    """
    return {
        "unconstrained": unconstrained(PRIMAL),
        "penalty": penalty(PRIMAL, strength),
        "absolute penalty": penalty(PRIMAL, strength, "absolute"),
        "lagrangian": lagrangian(PRIMAL, strength / 100),
        "PI control": pi_control(PRIMAL, strength / 100),
        "augmented, each step": augmented(PRIMAL, strength),
        f"augmented, each {PERIOD} steps": augmented(PRIMAL, strength, PERIOD),
        "default": default(),
        "by construction": by_construction(PRIMAL, obeying),
    }


def differenced(method: Method) -> Method:
    """Replaces the second derivatives in a method's loss by second differences.

    Args:
        method: one that solves the equation by its residual.

    Returns:
        A `Method`.
    """
    loss = partial(squared_residual, second_difference)
    return method._replace(
        change=lambda problem: method.change(problem)._replace(loss=loss)
    )


def methods_by_residual() -> dict[str, Method]:
    """Lists `methods` for the residual, and two of them with differences.

    Returns:
        Methods by name.
    """
    exact = methods(1.0)
    return exact | {
        f"{name}, differences": differenced(exact[name])
        for name in ("PI control", "by construction")
    }


def methods_by_energy() -> dict[str, Method]:
    """Lists `methods` for the energy, with a strength on its scale.

    Returns:
        Methods by name.
    """
    return methods(100.0)


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method for both losses.

    Args:
        seed: of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` by the residual, then by the energy.
    """
    parts = (
        ("Poisson by residual", by_residual(), methods_by_residual(), _residual_note),
        ("Poisson by energy", by_energy(), methods_by_energy(), _energy_note),
    )
    for title, problem, its_methods, note in parts[skip:]:
        yield study(
            title,
            problem,
            its_methods,
            steps=STEPS,
            factors=(0.01, 0.1, 10.0),
            seed=seed,
            note=note,
            draw=partial(draw, problem),
        )


def _residual_note(evaluations: dict[str, MethodEvaluation]) -> str:
    exact, differences = (
        evaluations[name].scores
        for name in ("by construction", "by construction, differences")
    )
    x = np.linspace(0, 1, 1001)
    expected = np.sqrt(np.mean((differenced_solution(x) - solution(x)) ** 2))
    ratios = [differences[name] / exact[name] for name in exact]
    return (
        f"By construction, exact derivatives end {ratios[0]:.0f} times nearer to the truth "
        f"than differences, which end at {differences['RMSE to truth']:.4f} where theory "
        f"says {expected:.4f}; the worst residual, which training limits, is "
        f"{ratios[1]:.1f} times smaller. "
        "The plain Lagrangian is linear along straight lines, which the loss does not "
        f"feel: it ends {evaluations['lagrangian'].violation:.1e} off the boundary values. "
        "Multipliers that move at each step by the full strength leave "
        f"{evaluations['augmented, each step'].violation:.1e}, moved each {PERIOD} steps "
        f"{evaluations[f'augmented, each {PERIOD} steps'].violation:.1e}."
    )


def _energy_note(evaluations: dict[str, MethodEvaluation]) -> str:
    moved = evaluations[f"augmented, each {PERIOD} steps"]
    seen = evaluations["penalty"].sensitivity
    assert seen is not None
    off = ", ".join(
        f"{violation:.3g} at weight {weight:g} (theory: {FLUX / (weight + 2):.3g})"
        for weight, violation in zip(seen.values, seen.violation)
    )
    found = " and ".join(f"{moved.multipliers[end]:.3f}" for end in ENDS)
    return (
        f"The energy pulls at the ends with ±{FLUX:.3f}: a penalty leaves them off by "
        f"{off}. The method of multipliers ends with {found} for multipliers and a worst "
        f"violation of {moved.violation:.1g}."
    )


def draw(problem: Problem, evaluations: Sequence[MethodEvaluation], path: Path) -> None:
    """Draws the solutions, their errors and the residuals of the equation.

    Args:
        problem: whose evaluations they are.
        evaluations: of its methods.
        path: the PNG to write.
    """
    x = points.grid([0.0], [1.0], 401)
    along = np.asarray(x[:, 0])
    truth = solution(along)
    figure = report.new_figure(15, 5)
    left, middle, right = (figure.add_subplot(1, 3, i) for i in (1, 2, 3))
    left.plot(along, truth, color="black", lw=5, alpha=0.25, label="truth")
    for place, evaluation in enumerate(evaluations):
        apply, params = (
            evaluation.method.change(problem).apply,
            evaluation.result.state.params,
        )
        style = {"color": f"C{place % 10}", "ls": "-" if place < 10 else "--", "lw": 1}
        u = np.asarray(jax.vmap(partial(apply, params))(x))
        left.plot(along, u, label=evaluation.name, **style)
        middle.semilogy(along, np.abs(u - truth), label=evaluation.name, **style)
        missed = np.asarray(residuals(curvature, apply, params, x))
        right.semilogy(along, np.abs(missed), **style)
    left.plot([0, 1], [0, 1], "ks", ms=6)
    best = min(evaluations, key=lambda evaluation: evaluation.scores["RMSE to truth"])
    left.set(title="u and the boundary values", ylim=(-1.5, 2.5), xlabel="x")
    middle.set(
        title=f"error; least {best.scores['RMSE to truth']:.1g}, {best.name}",
        xlabel="x",
    )
    right.set(title="residual, as a share of the largest f", xlabel="x")
    middle.legend(fontsize=6, ncols=2)
    figure.savefig(path, dpi=120)
