r"""Sparse weights or sparse outputs by a bound on their L1 norm.

A linear model :math:`f = X w` is fitted by least squares,
:math:`\operatorname{mean}_i (f_i - t_i)^2`, subject to a budget on one of two norms,

.. math::
    g = \sum_j |w_j| - c \le 0 \qquad \text{or} \qquad
    g = \operatorname{mean}_i |f_i| - c \le 0 .

The L1 norm of the outputs is often recommended for sparse weights. It does not yield them:
it makes outputs zero, and leaves all weights. Here each norm has a problem of its own.

The problem of sparse weights has 40 rows and 20 columns, of which 3 enter. The truth is the
solution of a
quadratic program, and the budget's multiplier is the weight that an L1 penalty would need
for the same solution, twice the alpha of the Lasso in scikit-learn's scaling.

The problem of sparse outputs has a signal of 64 entries, most of them zero, in noise.
Here :math:`X^T X = n I`, so that the truth is soft thresholding of the targets by half the
multiplier,

.. math::
    f_i = \operatorname{sign}(t_i) \max(|t_i| - \tau, 0), \qquad
    c = \operatorname{mean}_i |f_i|, \qquad \lambda = 2 \tau .

Lagrangian, PI control, augmented Lagrangian, projection and by construction reach the
truth to 0.005 (RMSE), and multipliers to 0.02. Gradient methods make entries small and
none zero; projection onto the L1 ball and the proximal step, soft thresholding, make them
exactly zero. Outputs are sums of 64 rounded terms: those below 1e-5 count as zero.

    jaxcon example sparse
"""

from collections.abc import Iterator, Sequence
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
from jaxcon.transforms import proximal

__all__ = [
    "BUDGET",
    "COLUMNS",
    "ENTRIES",
    "NOISE",
    "PRIMAL",
    "RATE",
    "ROUNDING",
    "ROWS",
    "SIGNAL_NOISE",
    "SPIKES",
    "STEPS",
    "THRESHOLD",
    "WEIGHTS",
    "Sparse",
    "findings",
    "fitted_weights",
    "methods",
    "proximal_gradient",
    "reached",
    "soft_threshold",
    "sparse_outputs",
    "sparse_problem",
    "sparse_weights",
    "within",
    "within_budget",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


STEPS = 3000
RATE = 0.1  # of plain gradient steps
ROUNDING = 1e-5  # outputs below it count as zero

ROWS, COLUMNS = 40, 20
WEIGHTS = (3.0, -2.0, 1.5)  # those that are not zero
NOISE = 0.5
BUDGET = 5.0  # of the weights' norm; the true weights' is 6.5

ENTRIES = 64
SPIKES = (4.0, -3.0, 5.0, 2.0, -4.0)
SIGNAL_NOISE = 0.25
THRESHOLD = 0.75  # three standard deviations of it

PRIMAL = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS))


class Sparse(NamedTuple):
    """Linear problem with its truth.

    Attributes:
        design: X, (n, d).
        targets: t, (n,).
        outputs: whether the budget bounds the outputs, not the weights.
        budget: c.
        unseen: inputs to score at, (k, d).
        truth: w of the problem with the budget, (d,).
        multiplier: lambda of the budget there.
    """

    design: jax.Array
    targets: jax.Array
    outputs: bool
    budget: float
    unseen: jax.Array
    truth: np.ndarray
    multiplier: float

    def entries(self, weights: jax.Array) -> jax.Array:
        """Returns the entries that the budget bounds: outputs (n,) or weights (d,)."""
        return self.design @ weights if self.outputs else weights

    def weights(self, entries: jax.Array) -> jax.Array:
        """Returns the weights (d,) of these entries."""
        if not self.outputs:
            return entries
        return self.design.T @ entries / len(self.targets)

    @property
    def radius(self) -> float:
        """Largest sum of the entries' sizes."""
        return self.budget * (len(self.targets) if self.outputs else 1)


def sparse_weights(seed: int = 0) -> Sparse:
    """Draws the problem of sparse weights: noisy sums of three out of twenty columns.

    Args:
        seed: of columns and noise.

    Returns:
        A `Sparse` whose truth is by quadratic programming.
    """
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(ROWS, COLUMNS))
    targets = design[:, : len(WEIGHTS)] @ WEIGHTS + NOISE * rng.normal(size=ROWS)
    truth, multiplier = within_budget(design, targets, BUDGET)
    unseen = rng.normal(size=(1000, COLUMNS))
    return Sparse(
        design=jnp.asarray(design),
        targets=jnp.asarray(targets),
        outputs=False,
        budget=BUDGET,
        unseen=jnp.asarray(unseen),
        truth=truth,
        multiplier=multiplier,
    )


def sparse_outputs(seed: int = 0) -> Sparse:
    """Draws the problem of sparse outputs: a few spikes in noise, as a sum of cosines.

    Args:
        seed: of places and noise.

    Returns:
        A `Sparse` whose truth is soft thresholding.
    """
    from scipy.fft import idct

    rng = np.random.default_rng(seed)
    signal = np.zeros(ENTRIES)
    signal[rng.choice(ENTRIES, len(SPIKES), replace=False)] = SPIKES
    targets = signal + SIGNAL_NOISE * rng.normal(size=ENTRIES)
    design = np.sqrt(ENTRIES) * idct(np.eye(ENTRIES), norm="ortho", axis=0)
    outputs = soft_threshold(targets, THRESHOLD)
    return Sparse(
        design=jnp.asarray(design),
        targets=jnp.asarray(targets),
        outputs=True,
        budget=float(np.mean(np.abs(outputs))),
        unseen=jnp.asarray(design),
        truth=design.T @ outputs / ENTRIES,
        multiplier=2 * THRESHOLD,
    )


def within_budget(
    design: np.ndarray, targets: np.ndarray, budget: float
) -> tuple[np.ndarray, float]:
    r"""Solves least squares within an L1 ball, as a quadratic program in float64.

    .. math::
        \min_{a, b \ge 0} \operatorname{mean}_i (X (a - b) - t)_i^2 \quad
        \text{subject to} \quad \sum_j (a_j + b_j) \le c

    Args:
        design: X, (n, d).
        targets: t, (n,).
        budget: c.

    Returns:
        w = a - b, (d,), and the multiplier of the budget.
    """
    from scipy.optimize import minimize

    signed = np.concatenate([design, -design], axis=1)

    def loss(parts: np.ndarray) -> float:
        return np.mean((signed @ parts - targets) ** 2)

    def slope(parts: np.ndarray) -> np.ndarray:
        return 2 / len(targets) * signed.T @ (signed @ parts - targets)

    solved = minimize(
        loss,
        np.zeros(signed.shape[1]),
        jac=slope,
        method="SLSQP",
        bounds=[(0, None)] * signed.shape[1],
        constraints={
            "type": "ineq",
            "fun": lambda parts: budget - np.sum(parts),
            "jac": lambda parts: -np.ones_like(parts),
        },
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    positive, negative = np.split(solved.x, 2)
    # At each nonzero weight the budget's multiplier balances the gradient.
    return positive - negative, float(np.max(np.abs(slope(solved.x))))


def soft_threshold(entries: Any, threshold: Any) -> Any:
    r"""Applies soft thresholding, the proximal step of :math:`\tau \|z\|_1`.

    Args:
        entries: z, any shape.
        threshold: tau >= 0.

    Returns:
        sign(z) max(abs z - tau, 0), of that shape.
    """
    # Moreau: z less the result is in the ball of the dual norm.
    return entries - optax.projections.projection_linf_ball(entries, threshold)


def sparse_problem(data: Sparse) -> Problem:
    """Builds the least-squares problem within the budget.

    Args:
        data: its numbers.

    Returns:
        A `Problem`; "RMSE to truth" is at unseen inputs, where there are others.
    """

    def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
        fitted = jax.vmap(partial(apply, params))(batch["x"])
        return jnp.mean(jnp.square(fitted - batch["y"]))

    def score(apply: Apply, params: Any) -> dict[str, float]:
        f = jax.vmap(partial(apply, params))
        off = f(data.unseen) - data.unseen @ data.truth
        return {
            "RMSE to truth": float(jnp.sqrt(jnp.mean(jnp.square(off)))),
            "weights not 0": int(
                jnp.count_nonzero(fitted_weights(apply, params, data))
            ),
            "outputs not 0": int(jnp.sum(jnp.abs(f(data.design)) > ROUNDING)),
        }

    return Problem(
        init=lambda key: jnp.zeros(data.design.shape[1]),
        apply=lambda weights, x: x @ weights,
        loss=loss,
        constraints=partial(within, data),
        batch={"x": data.design, "y": data.targets},
        score=score,
    )


def fitted_weights(apply: Apply, params: Any, data: Sparse) -> jax.Array:
    """Evaluates the weights (d,) of a linear model, as its outputs for unit inputs."""
    return jax.vmap(partial(apply, params))(jnp.eye(data.design.shape[1]))


def within(data: Sparse, apply: Apply) -> Constraints:
    """Returns the budget's constraint."""

    def spent(params: Any, batch: Any) -> jax.Array:
        if data.outputs:
            sizes = jnp.mean(jnp.abs(jax.vmap(partial(apply, params))(batch["x"])))
        else:
            sizes = jnp.sum(jnp.abs(fitted_weights(apply, params, data)))
        return sizes - data.budget

    return Constraints(inequality={"budget": spent})


def proximal_gradient(data: Sparse, weight: float) -> Method:
    """Minimises an L1 penalty by gradient steps and soft thresholding.

    Args:
        data: the problem's numbers.
        weight: of the norm that the budget bounds.

    Returns:
        A `Method` whose hyperparameter is the weight.
    """

    def solver(problem: Problem, weight: Any) -> Any:
        def shrink(weights: jax.Array) -> jax.Array:
            return data.weights(soft_threshold(data.entries(weights), RATE * weight))

        return unconstrained(proximal(optax.sgd(RATE), shrink)).solver(problem, None)

    return Method(solver, "weight", weight)


def methods(data: Sparse) -> dict[str, Method]:
    """Lists the methods that keep the budget, or use a penalty instead.

    Args:
        data: the problem's numbers.

    Returns:
        Methods by name; the last one takes the other norm.
    """
    other = data._replace(outputs=not data.outputs, budget=0.0)
    ball = optax.projections.projection_l1_ball

    def nearest(weights: jax.Array) -> jax.Array:
        return data.weights(ball(data.entries(weights), data.radius))

    def spend(apply: Apply) -> Apply:
        def within_ball(logits: jax.Array, x: jax.Array) -> jax.Array:
            positive, negative = jnp.split(jax.nn.softmax(logits)[:-1], 2)
            return apply(data.weights(data.radius * (positive - negative)), x)

        return within_ball

    spending = 2 * data.entries(jnp.zeros(data.design.shape[1])).size
    if data.outputs:
        # A mean moves less than a sum, and there are more weights, so each is smaller.
        rate, confused, name = 0.1, proximal_gradient(other, 0.1), "L1 of weights"
    else:
        rate, confused, name = 0.01, penalty(PRIMAL, 1.0, "linear"), "L1 of outputs"
    return {
        "unconstrained": unconstrained(PRIMAL),
        "L1 penalty": penalty(PRIMAL, 1.0, "linear"),
        "hinge": penalty(PRIMAL, 10.0, "absolute"),
        "squared hinge": penalty(PRIMAL, 10.0),
        "Lagrangian": lagrangian(PRIMAL, rate),
        "PI control": pi_control(PRIMAL, rate),
        "augmented": augmented(PRIMAL, rate),
        "projected": projected(optax.sgd(RATE), nearest),
        "proximal": proximal_gradient(data, 1.0),
        # Its logits need long steps.
        "by construction": by_construction(
            optax.adam(optax.cosine_decay_schedule(RATE, STEPS)),
            spend,
            lambda key: jnp.zeros(spending + 1),
        ),
        name: confused._replace(
            change=lambda problem: problem._replace(trained=partial(within, other))
        ),
    }


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method for both norms.

    Args:
        seed: of data and noise.
        skip: first parts that are left out.

    Yields:
        `Findings` of the sparse weights, and of the sparse outputs.
    """
    parts = (("sparse weights", sparse_weights), ("sparse outputs", sparse_outputs))
    for title, make in parts[skip:]:
        data = make(seed)
        yield study(
            title,
            sparse_problem(data),
            methods(data),
            steps=STEPS,
            note=partial(_note, data),
            draw=partial(_draw, data=data),
            factors=(0.1, 10.0),
            seed=seed,
        )


def reached(evaluation: MethodEvaluation, data: Sparse) -> jax.Array:
    """Returns the last weights (d,) of a method."""
    problem = evaluation.method.change(sparse_problem(data))
    return fitted_weights(problem.apply, evaluation.result.state.params, data)


def _note(data: Sparse, evaluations: dict[str, MethodEvaluation]) -> str:
    kind, other = ("outputs", "weights") if data.outputs else ("weights", "outputs")
    followed, confused = evaluations["Lagrangian"], evaluations[f"L1 of {other}"]
    sizes = np.abs(data.entries(reached(followed, data)))
    none = np.abs(data.entries(jnp.asarray(data.truth, sizes.dtype))) < ROUNDING

    def left(evaluation: MethodEvaluation) -> str:
        scores = evaluation.scores
        return (
            f"{scores['weights not 0']:.0f} weights and "
            f"{scores['outputs not 0']:.0f} outputs"
        )

    return (
        f"The truth has {np.sum(~none)} {kind} that are not zero and the multiplier "
        f"{data.multiplier:.3f}; the Lagrangian's is {followed.multipliers['budget']:.3f}. "
        f"By gradients the other {kind} become small, up to {np.max(sizes[none]):.1e} with "
        f"the Lagrangian; projected onto the ball, {left(evaluations['projected'])} are "
        f"left. The L1 norm of the {other} leaves {left(confused)}."
    )


def _draw(evaluations: Sequence[MethodEvaluation], path: Path, data: Sparse) -> None:
    """Draws the entries that the budget bounds, in order and by size."""
    kind = "output" if data.outputs else "weight"
    truth = np.asarray(data.entries(jnp.asarray(data.truth)))
    figure = report.new_figure(12, 4.4)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    places = np.arange(truth.size)
    left.axhline(0, color="0.8", lw=0.8)
    left.bar(places, truth, color="0.8", width=0.8, label="truth")
    if data.outputs:
        left.plot(places, data.targets, "x", color="black", ms=4, label="targets")
    floor = 1e-9
    for place, evaluation in enumerate(evaluations):
        entries = np.asarray(data.entries(reached(evaluation, data)))
        style: dict[str, Any] = {
            "color": f"C{place % 10}",
            "lw": 1,
            "label": evaluation.name,
        }
        mark = {"projected": "o"}.get(evaluation.name, "." if place < 10 else "x")
        left.plot(places, entries, mark, ms=4, **style)
        right.semilogy(
            places + 1,
            np.maximum(np.sort(np.abs(entries))[::-1], floor),
            mark,
            ms=4,
            **style,
        )
    right.axhline(floor, color="0.6", lw=0.8, zorder=0)
    right.text(truth.size, 1.5 * floor, "zero", ha="right", color="0.4")
    left.set(
        xlabel=kind, title=f"{kind}s; {np.sum(np.abs(truth) > ROUNDING)} are not zero"
    )
    right.set(xlabel="place by size", title=f"sizes of the {kind}s")
    left.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=120)
