r"""Conservation laws of outputs: A y = b(x) for every input.

A network f of x in [0, 1] is fitted to noisy measurements of a truth t that obeys
:math:`A t(x) = b(x)`, by least squares over its m outputs, subject to

.. math::
    h(x) = A f(x) - b(x) = 0.

- `REACTION`: one substance turns into a second and that into a third, at rates
  :math:`k_1, k_2` per unit of time; their shares sum to one,

  .. math::
      t_1 = e^{-k_1 x}, \quad t_2 = \frac{k_1}{k_2 - k_1} (e^{-k_1 x} - e^{-k_2 x}),
      \quad t_3 = 1 - t_1 - t_2, \qquad A = (1, 1, 1), \quad b = 1.

- `PIPES`: the inflow of two junctions is :math:`b(x)`. The first one's leaves by pipes 1
  and 2; the second one's, with the flow of pipe 2, leaves by pipes 3 and 4,

  .. math::
      A = \begin{pmatrix} 1 & 1 & 0 & 0 \\ 0 & -1 & 1 & 1 \end{pmatrix}.

The projection P onto :math:`\{y : A y = b(x)\}` cannot make a fit worse:

.. math::
    \|P(f) - t\|^2 = \|f - t\|^2 - \|f - P(f)\|^2.

If all outputs have equal noise it leaves the share :math:`\sqrt{1 - k/m}` of the expected
error, with k equations for m outputs. The multipliers' sums follow from the data d alone,
because the network can shift its outputs:

.. math::
    \sum_i \mu_i = \frac{2}{m} (A A^T)^{-1} \operatorname{mean}_i (A d_i - b(x_i)).

Methods that conserve reach the truth to 0.02 (root mean square; the noise is 0.05) and
the multipliers' sums to 1e-3. Projection obeys the laws to 4 roundings of the largest terms
(`jaxcon.projections.affine`).

    jaxcon example conservation
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcon import points, report, tabular
from jaxcon.comparison import MethodEvaluation
from jaxcon.constraints import Constraints
from jaxcon.derivatives import Value
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
    projected,
    unconstrained,
)
from jaxcon.projections import affine
from jaxcon.shapes import Pointwise

__all__ = [
    "MEASUREMENTS",
    "NOISE",
    "PIPES",
    "PRIMAL",
    "RATES",
    "REACTION",
    "STEPS",
    "WIDTH",
    "System",
    "conservation_problem",
    "findings",
    "flows",
    "inflow",
    "methods",
    "shares",
    "total_multipliers",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


RATES = (3.0, 5.0)  # k_1, k_2, per unit of time
NOISE = 0.05  # standard deviation of each measured output
MEASUREMENTS = 60
WIDTH = 32
STEPS = 6000
# With Adam's usual momentum of 0.9 multipliers and outputs oscillate with growing size.
PRIMAL = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS), b1=0.5)


class System(NamedTuple):
    """System of outputs with conservation laws.

    Attributes:
        outputs: their names, m of them.
        laws: the equations' names, k of them.
        matrix: A, (k, m).
        total: b, (x (1,)) -> (k,).
        truth: t, (x (1,)) -> (m,).
    """

    outputs: tuple[str, ...]
    laws: tuple[str, ...]
    matrix: np.ndarray
    total: Callable[[jax.Array], jax.Array]
    truth: Callable[[jax.Array], jax.Array]


def shares(x: jax.Array) -> jax.Array:
    """Evaluates the shares of the three substances at one time.

    Args:
        x: time, (1,).

    Returns:
        Shape (3,).
    """
    first, second = RATES
    left, right = jnp.exp(-first * x[0]), jnp.exp(-second * x[0])
    middle = first / (second - first) * (left - right)
    return jnp.stack([left, middle, 1 - left - middle])


def inflow(x: jax.Array) -> jax.Array:
    """Evaluates the inflow of the two junctions.

    Args:
        x: time as a share of the whole, (1,).

    Returns:
        Shape (2,).
    """
    phase = jnp.pi * x[0]
    return jnp.stack([1 + 0.5 * jnp.sin(phase), 0.5 + 0.3 * jnp.cos(phase)])


def flows(x: jax.Array) -> jax.Array:
    """Evaluates the flows through the four pipes.

    Args:
        x: time as a share of the whole, (1,).

    Returns:
        Shape (4,).
    """
    first, second = inflow(x)
    over = 0.3 + 0.3 * jnp.cos(2 * jnp.pi * x[0])
    third = 0.4 * jnp.exp(-2 * x[0])
    return jnp.stack([first - over, over, third, second + over - third])


REACTION = System(
    ("first", "second", "third"),
    ("sum",),
    np.ones((1, 3)),
    lambda x: jnp.ones(1),
    shares,
)
PIPES = System(
    ("pipe 1", "pipe 2", "pipe 3", "pipe 4"),
    ("junction 1", "junction 2"),
    np.array([[1.0, 1.0, 0.0, 0.0], [0.0, -1.0, 1.0, 1.0]]),
    inflow,
    flows,
)


def conservation_problem(system: System, seed: int = 0) -> Problem:
    """Builds the least-squares problem of one system with its laws at every point.

    Args:
        system: `REACTION` or `PIPES`.
        seed: of the noise.

    Returns:
        A `Problem`, scored against the truth between the measured points.
    """
    x = points.grid([0.0], [1.0], MEASUREMENTS)
    noise = NOISE * jax.random.normal(
        jax.random.key(seed), (MEASUREMENTS, len(system.outputs))
    )
    unseen = points.sobol([0.0], [1.0], 1024)

    def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
        fitted = jax.vmap(partial(apply, params))(batch["x"])
        return jnp.mean(jnp.square(fitted - batch["y"]))

    def constraints(apply: Apply) -> Constraints:
        def excess(row: int) -> Pointwise:
            return Pointwise(
                apply,
                "points",
                (Value(),),
                lambda x, y: jnp.dot(system.matrix[row], y) - system.total(x)[row],
            )

        return Constraints({law: excess(row) for row, law in enumerate(system.laws)})

    def score(apply: Apply, params: Any) -> dict[str, float]:
        fitted = jax.vmap(partial(apply, params))(unseen)
        error = np.asarray(fitted - jax.vmap(system.truth)(unseen), float)
        return {"RMSE to truth": np.sqrt(np.mean(error**2))}

    return Problem(
        init=lambda key: tabular.init_network(key, (1, WIDTH, len(system.outputs))),
        apply=tabular.outputs,
        loss=loss,
        constraints=constraints,
        batch={"x": x, "y": jax.vmap(system.truth)(x) + noise, "points": x},
        score=score,
        lower=[0.0],
        upper=[1.0],
    )


def total_multipliers(system: System, problem: Problem) -> dict[str, float]:
    """Computes each law's sum of multipliers at the constrained optimum from the data.

    Args:
        system: the one of the problem.
        problem: from `conservation_problem`.

    Returns:
        One sum for each law.
    """
    A, (x, y) = system.matrix, (problem.batch["x"], problem.batch["y"])
    excess = np.asarray(y, float) @ A.T - np.asarray(jax.vmap(system.total)(x), float)
    sums = np.linalg.solve(A @ A.T, 2 / len(system.outputs) * excess.mean(axis=0))
    return dict(zip(system.laws, map(float, sums)))


def methods(system: System) -> dict[str, Method]:
    """Lists the methods that impose the laws of one system.

    Args:
        system: `REACTION` or `PIPES`.

    Returns:
        Methods by name.
    """

    def nearest(apply: Apply) -> Apply:
        return lambda params, x: affine(
            apply(params, x), system.matrix, system.total(x)
        )

    def last_layer(params: Any) -> Any:
        # f = W h + c sums to one for every h if and only if 1 W = 0 and 1 c = 1.
        *hidden, last = params
        onto = partial(affine, A=system.matrix)
        w = jax.vmap(lambda row: onto(row, b=jnp.zeros(1)))(last["w"])
        return [*hidden, {"w": w, "b": onto(last["b"], b=jnp.ones(1))}]

    constant = {"projected weights": projected(PRIMAL, last_layer)}
    return {
        "unconstrained": unconstrained(PRIMAL),
        "quadratic penalty": penalty(PRIMAL, 1.0),
        "absolute penalty": penalty(PRIMAL, 0.1, "absolute"),
        "Lagrangian": lagrangian(PRIMAL, 0.01),
        "PI control": pi_control(PRIMAL, 0.01),
        "augmented": augmented(PRIMAL, 0.01),
        "default": default(),
        **(constant if system is REACTION else {}),
        "projected afterwards": afterwards(PRIMAL, nearest),
        "projection layer": by_construction(PRIMAL, nearest),
    }


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method on both systems.

    Args:
        seed: of the noise and of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of `REACTION`, and of `PIPES`.
    """
    parts = (("a sum", REACTION), ("two junctions", PIPES))
    for title, system in parts[skip:]:
        problem = conservation_problem(system, seed)
        yield study(
            f"outputs that conserve {title}",
            problem,
            methods(system),
            steps=STEPS,
            note=partial(_note, system, problem),
            draw=partial(_draw, system, problem),
            seed=seed,
        )


def _note(
    system: System, problem: Problem, evaluations: dict[str, MethodEvaluation]
) -> str:
    free = evaluations["unconstrained"].scores["RMSE to truth"]
    after = evaluations["projected afterwards"].scores["RMSE to truth"]
    k, m = system.matrix.shape
    sums = evaluations["augmented"].multipliers
    pairs = ", ".join(
        f"{sums[law]:.5f} for {expected:.5f}"
        for law, expected in total_multipliers(system, problem).items()
    )
    return (
        f"Projecting the unconstrained fit leaves {after / free:.2f} of its error "
        f"({np.sqrt(1 - k / m):.2f} expected of alike noise) and a violation of "
        f"{evaluations['projected afterwards'].violation:.0e}, as a layer does; "
        f"multipliers leave {evaluations['augmented'].violation:.0e} after {STEPS} steps, "
        f"and their sums are known (augmented: {pairs})."
    )


def _draw(
    system: System,
    problem: Problem,
    evaluations: Sequence[MethodEvaluation],
    path: Path,
) -> None:
    """Draws layer and data, the laws' residuals by method, and Pythagoras' theorem."""
    x = points.grid([0.0], [1.0], 201)
    truth = jax.vmap(system.truth)(x)
    fits = {
        evaluation.name: jax.vmap(
            partial(
                evaluation.method.change(problem).apply,
                evaluation.result.state.params,
            )
        )(x)
        for evaluation in evaluations
    }
    figure = report.new_figure(14, 4)
    left, middle, right = (figure.add_subplot(1, 3, i) for i in (1, 2, 3))
    for output, name in enumerate(system.outputs):
        color = f"C{output}"
        left.scatter(problem.batch["x"], problem.batch["y"][:, output], s=5, c=color)
        left.plot(x, fits["projection layer"][:, output], c=color, label=name)
        left.plot(x, truth[:, output], ":", c="black", lw=1)
    layer = next(o for o in evaluations if o.name == "projection layer")
    left.set_title(
        f"projection layer, RMSE {layer.scores['RMSE to truth']:.3f} to the truth (dots)",
        fontsize=10,
    )
    left.legend(fontsize=8)
    totals = jax.vmap(system.total)(x)
    for place, (name, fit) in enumerate(fits.items()):
        excess = (fit @ system.matrix.T - totals)[:, 0]
        middle.plot(x, excess, lw=1, c=f"C{place}", label=name)
        if name == "unconstrained":
            middle.fill_between(x[:, 0], excess, alpha=0.2, color=f"C{place}")
    middle.set_title(f"excess of {system.laws[0]}", fontsize=10)
    middle.legend(fontsize=7)
    free, after = fits["unconstrained"], fits["projected afterwards"]
    parts = [
        float(jnp.mean((free - after) ** 2)),
        float(jnp.mean((after - truth) ** 2)),
    ]
    whole = float(jnp.mean((free - truth) ** 2))
    right.bar(["unconstrained"], [whole], color="C0")
    right.bar(["projected"], parts[1:], color="C1", label="what projection leaves")
    right.bar(
        ["projected"], parts[:1], bottom=parts[1:], label="what it takes", color="0.8"
    )
    right.set_title(
        f"squared error: {whole:.3g} = {parts[1]:.3g} + {parts[0]:.3g}", fontsize=10
    )
    right.legend(fontsize=8)
    for axes in (left, middle):
        axes.set_xlabel("x")
    figure.savefig(path, dpi=120)
