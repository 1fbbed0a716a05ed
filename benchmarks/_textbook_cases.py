"""A textbook problem as every solver can take it: functions of one vector."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks.problems.published import Published
from jaxcon import Constraints

BOUNDS = ("lower bounds", "upper bounds")


class Flat(NamedTuple):
    """Compiled functions of a vector, float64 in and out.

    Attributes:
        problem: what they are of.
        start: the vector to begin at.
        loss: x -> (value, gradient).
        residuals: x -> every residual, equalities first.
        jacobian: x -> their Jacobian, by rows.
        hessian: (x, factor, multipliers) -> Hessian of factor f + multipliers·residuals.
        names: the constraint of each row.
        equality: which rows are equalities.
        bound: which rows are bounds.
        lower: bounds of the vector.
        upper: bounds of the vector.
    """

    problem: Published
    start: np.ndarray
    loss: Callable[..., Any]
    residuals: Callable[..., Any]
    jacobian: Callable[..., Any]
    hessian: Callable[..., Any]
    names: np.ndarray
    equality: np.ndarray
    bound: np.ndarray
    lower: Any
    upper: Any


def flat(problem: Published) -> Flat:
    """Makes a problem functions of one vector."""
    start, restore = ravel_pytree(jax.tree.map(jnp.asarray, problem.start))
    entries = [
        (kind == "equality", name, constraint)
        for kind in ("equality", "inequality")
        for name, constraint in getattr(problem.constraints, kind).items()
    ]

    def loss(x: jax.Array) -> jax.Array:
        return problem.loss(restore(x), None)

    def residuals(x: jax.Array) -> jax.Array:
        rows = [jnp.ravel(function(restore(x), None)) for _, _, function in entries]
        return jnp.concatenate(rows) if rows else jnp.zeros(0)

    def weighted(x: jax.Array, factor: jax.Array, multipliers: jax.Array) -> jax.Array:
        return factor * loss(x) + multipliers @ residuals(x)

    sizes = [np.size(jax.eval_shape(f, restore(start), None)) for _, _, f in entries]
    free = np.full(start.size, np.inf)
    lower, upper = problem.bounds or (-free, free)
    return Flat(
        problem,
        np.array(start),
        jax.jit(jax.value_and_grad(loss)),
        jax.jit(residuals),
        jax.jit(jax.jacobian(residuals)),
        jax.jit(jax.hessian(weighted)),
        np.repeat([name for _, name, _ in entries], sizes),
        np.repeat([kind for kind, _, _ in entries], sizes).astype(bool),
        np.repeat([name in BOUNDS for _, name, _ in entries], sizes).astype(bool),
        lower,
        upper,
    )


class Altered(NamedTuple):
    """A problem in other units, from another start.

    Attributes:
        problem: the problem; its bounds, apart, are in the units of old.
        loss: what the loss was multiplied by.
        constraints: what each constraint was multiplied by.
    """

    problem: Published
    loss: float
    constraints: dict[str, float]


def altered(problem: Published, rng: np.random.Generator) -> Altered:
    """Scales loss and constraints, each by 1e-4 to 1e4, and moves the start by a tenth.

    Entries that are zero or small move by a hundredth.
    """
    names = [name for kind in problem.constraints for name in kind]
    loss, *scales = (10 ** rng.uniform(-4, 4, 1 + len(names))).tolist()
    factors = dict(zip(names, scales))
    constraints = Constraints(
        *(
            {name: partial(_times, factors[name], f) for name, f in kind.items()}
            for kind in problem.constraints
        )
    )
    start = jax.tree.map(
        lambda x: x + np.maximum(0.1 * abs(x), 0.01) * rng.normal(size=np.shape(x)),
        problem.start,
    )
    made = problem._replace(
        loss=partial(_times, loss, problem.loss),
        constraints=constraints,
        start=start,
        value=loss * problem.value,
    )
    return Altered(made, loss, factors)


def _times(factor: float, function: Callable[..., Any], params: Any, _: Any) -> Any:
    """Scales a function's value."""
    return factor * function(params, None)
