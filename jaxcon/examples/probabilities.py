r"""Class probabilities that must sum to one.

Three classes, equally likely, each normal in x around :math:`m_k` with one deviation s.
By Bayes' rule the truth is

.. math::
    \eta_k(x) = \frac{e^{-(x - m_k)^2 / 2 s^2}}{\sum_j e^{-(x - m_j)^2 / 2 s^2}}.

A network's outputs :math:`p_k(x) \in (0, 1)` are sigmoids, which need not sum to one, and
its loss is the cross-entropy :math:`f = -\operatorname{mean}_i \log p_{y_i}(x_i)`, which
alone is least where every output is 1. The constraint

.. math::
    h(x) = \sum_k p_k(x) - 1 = 0

is needed to make it meaningful. At each x the optimum is :math:`p = \eta / n \mu` for any
multiplier, so that with :math:`n \mu = 1` it is the truth: the multipliers of any part of
the data sum to that part's share. The residuals under fixed penalties of weight w are known
too (where no output is at 1):

- :math:`w |h|` bounds :math:`n \mu` by w: it leaves nothing if :math:`w \ge 1`, and
  :math:`h = 1 / w - 1` below;
- :math:`\tfrac w2 h^2` leaves :math:`h = (\sqrt{1 + 4 / w} - 1) / 2`.

A softmax layer sums to one by construction. The nearest point of the simplex
(sparsemax) does too, but with exact zeros, for which the cross-entropy is infinite: it is
trained on squared errors of the probabilities instead.

Methods that obey reach the truth to 0.05 (root mean square, from 500 labels) and a sum of
the multipliers within 0.05 of 1 at seed 0 and, by PI control, within 0.11 at seed 1.

    jaxcon example probabilities
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
    augmented,
    by_construction,
    default,
    lagrangian,
    penalty,
    pi_control,
    unconstrained,
)

__all__ = [
    "DEVIATION",
    "LABELS",
    "MEANS",
    "PRIMAL",
    "STEPS",
    "findings",
    "labelled",
    "left_by_penalty",
    "methods",
    "posterior",
    "probabilities_problem",
]


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


MEANS = np.array([0.25, 0.5, 0.75])
DEVIATION = 0.12
LABELS = 500
STEPS = 3000
# With Adam's usual momentum of 0.9 multipliers and outputs oscillate with growing size.
PRIMAL = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS), b1=0.5)


def posterior(x: jax.Array) -> jax.Array:
    """Computes the true probability of each class.

    Args:
        x: (1,).

    Returns:
        eta(x), (3,).
    """
    return jax.nn.softmax(-jnp.square(x - MEANS) / (2 * DEVIATION**2))


def labelled(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws points in [0, 1], normal around each class's mean, and their classes.

    Args:
        seed: of the draws.

    Returns:
        x (500, 1), sorted, and labels (500,).
    """
    rng = np.random.default_rng(seed)
    label = rng.integers(len(MEANS), size=2 * LABELS)
    x = MEANS[label] + DEVIATION * rng.normal(size=2 * LABELS)
    kept = np.flatnonzero((x >= 0) & (x <= 1))[:LABELS]
    kept = kept[np.argsort(x[kept])]
    return x[kept, None], label[kept]


def probabilities_problem(seed: int = 0) -> Problem:
    """Builds the cross-entropy problem of sigmoid outputs with a sum of one at each point.

    Args:
        seed: of the data.

    Returns:
        A `Problem`. Its second score is the expected cross-entropy of new labels at x
        uniform in [0, 1], which a sum above one lowers.
    """
    x, label = labelled(seed)
    unseen = points.sobol([0.0], [1.0], 1024)

    def loss(apply: Apply, params: Any, batch: Any) -> jax.Array:
        p = jax.vmap(partial(apply, params))(batch["x"])
        own = jnp.take_along_axis(p, batch["label"][:, None], axis=1)
        return -jnp.mean(jnp.log(own))

    def score(apply: Apply, params: Any) -> dict[str, float]:
        p = np.asarray(jax.vmap(partial(apply, params))(unseen), float)
        truth = np.asarray(jax.vmap(posterior)(unseen), float)
        with np.errstate(divide="ignore"):
            entropy = -np.mean(np.sum(truth * np.log(p), axis=1))
        return {
            "RMSE to truth": np.sqrt(np.mean((p - truth) ** 2)),
            "cross-entropy": entropy,
        }

    x = jnp.asarray(x, jnp.float32)
    return Problem(
        init=lambda key: tabular.init_network(key, (1, 16, len(MEANS))),
        apply=lambda params, x: jax.nn.sigmoid(tabular.outputs(params, x)),
        loss=loss,
        constraints=lambda apply: Constraints(
            {"sum": shapes.sums_to(apply, 1.0, on="points")}
        ),
        batch={"x": x, "label": jnp.asarray(label), "points": x},
        score=score,
        lower=[0.0],
        upper=[1.0],
    )


def left_by_penalty(weight: Any, kind: str) -> np.ndarray:
    """Computes the greatest residual under a fixed penalty, for an unlimited network.

    Args:
        weight: w, any shape; for "quadratic" at least 1, below which outputs reach 1.
        kind: "absolute" or "quadratic".

    Returns:
        Of that shape.
    """
    weight = np.asarray(weight, float)
    if kind == "quadratic":
        return (np.sqrt(1 + 4 / weight) - 1) / 2
    truth = np.asarray(jax.vmap(posterior)(points.grid([0.0], [1.0], 1001)), float)
    outputs = np.minimum(1, truth / weight[..., None, None])
    return np.maximum(outputs.sum(axis=-1).max(axis=-1) - 1, 0)


def methods() -> dict[str, Method]:
    """Lists the methods that make the outputs sum to one."""

    def softmax(apply: Apply) -> Apply:
        del apply
        return layers.simplex().wrap(tabular.outputs)

    def squared(apply: Apply, params: Any, batch: Any) -> jax.Array:
        p = jax.vmap(partial(apply, params))(batch["x"])
        return jnp.mean(jnp.square(p - jax.nn.one_hot(batch["label"], len(MEANS))))

    def on_simplex(problem: Problem) -> Problem:
        nearest = layers.sparse_simplex().wrap(problem.apply)
        return problem._replace(apply=nearest, loss=squared)

    return {
        "unconstrained": unconstrained(PRIMAL),
        "absolute penalty": penalty(PRIMAL, 1.0, "absolute"),
        "quadratic penalty": penalty(PRIMAL, 10.0),
        "Lagrangian": lagrangian(PRIMAL, 0.1),
        "PI control": pi_control(PRIMAL, 0.1),
        "augmented": augmented(PRIMAL, 0.1),
        "default": default(),
        "softmax layer": by_construction(PRIMAL, softmax),
        "simplex projection, squares": unconstrained(PRIMAL)._replace(
            change=on_simplex
        ),
    }


def findings(seed: int = 0, skip: int = 0) -> Iterator[Findings]:
    """Yields the results of every method.

    Args:
        seed: of the data and of the initial parameters.
        skip: first parts that are left out.

    Yields:
        `Findings` of the one part.
    """
    if skip > 0:
        return
    problem = probabilities_problem(seed)
    yield study(
        "probabilities that sum to one",
        problem,
        methods(),
        steps=STEPS,
        note=_note,
        draw=partial(_draw, problem),
        seed=seed,
    )


def _note(evaluations: dict[str, MethodEvaluation]) -> str:
    free, held = evaluations["unconstrained"], evaluations["augmented"]
    quadratic = evaluations["quadratic penalty"]
    sparse = evaluations["simplex projection, squares"]
    return (
        "Alone, cross-entropy is least "
        f"({free.scores['cross-entropy']:.1g}) where it is worth nothing: the outputs sum "
        f"to up to {1 + free.violation:.3g}. On the absolute value a weight of 1 is the "
        "least that can hold the sum, because that is what n points' multipliers come to "
        f"(augmented: {held.multipliers['sum']:.2f} in all); the quadratic "
        f"penalty of {quadratic.method.value:g} leaves "
        f"{left_by_penalty(quadratic.method.value, 'quadratic'):.2f} in theory, "
        f"{quadratic.violation:.2f} here. The cross-entropy of the simplex "
        f"projection, which can give exact zeros, is {sparse.scores['cross-entropy']:.2g}."
    )


def _draw(
    problem: Problem, evaluations: Sequence[MethodEvaluation], path: Path
) -> None:
    """Draws outputs and truth, sums, added multipliers and the penalties' residuals."""
    x = points.grid([0.0], [1.0], 401)
    truth = jax.vmap(posterior)(x)
    fits = {
        evaluation.name: jax.vmap(
            partial(
                evaluation.method.change(problem).apply, evaluation.result.state.params
            )
        )(x)
        for evaluation in evaluations
    }
    figure = report.new_figure(12, 8)
    outputs, sums, duals, weights = (figure.add_subplot(2, 2, i) for i in range(1, 5))
    for k in range(len(MEANS)):
        outputs.plot(x, truth[:, k], ":", c="black")
        outputs.plot(x, fits["augmented"][:, k], c=f"C{k}", label=f"class {k}")
        outputs.plot(x, fits["unconstrained"][:, k], "--", c=f"C{k}", lw=1)
        own = problem.batch["x"][problem.batch["label"] == k]
        outputs.plot(own, jnp.full_like(own, -0.03 * (k + 1)), "|", c=f"C{k}")
    error = next(o for o in evaluations if o.name == "augmented").scores[
        "RMSE to truth"
    ]
    outputs.set_title(
        f"augmented, RMSE {error:.3f} to truth (dots); unconstrained (dashes)"
    )
    for place, (name, fit) in enumerate(fits.items()):
        total = fit.sum(axis=1)
        sums.plot(x, total, c=f"C{place}", label=name)
        if name == "unconstrained":
            sums.fill_between(x[:, 0], 1, total, alpha=0.15, color=f"C{place}")
    sums.set_title("sum of the outputs")
    share = np.arange(1, LABELS + 1) / LABELS
    for place, evaluation in enumerate(evaluations):
        multipliers = evaluation.result.state.multipliers.equality["sum"]
        if np.any(multipliers):
            added = np.cumsum(multipliers)
            duals.plot(share, added, c=f"C{place}", label=evaluation.name)
        kind = evaluation.name.removesuffix(" penalty")
        if kind != evaluation.name and evaluation.sensitivity is not None:
            seen = evaluation.sensitivity
            weights.loglog(
                seen.values, seen.violation, "o", c=f"C{place}", label=evaluation.name
            )
            least, most = (1, 1e3) if kind == "quadratic" else (0.01, 0.999)
            line = np.geomspace(least, most, 100)
            weights.loglog(line, left_by_penalty(line, kind), c=f"C{place}", lw=1)
    duals.plot([0, 1], [0, 1], ":", c="black", label="truth")
    duals.set_title("multipliers of the points below x, against their share")
    weights.set_title("worst excess of the sum (lines: in theory)")
    outputs.set_xlabel("x")
    sums.set_xlabel("x")
    duals.set_xlabel("share of the points")
    weights.set_xlabel("weight")
    for axes in figure.axes:
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
