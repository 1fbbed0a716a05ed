"""Products with the Jacobian of a problem's residuals, compiled once for each problem."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxcon.constraints import Constraints
from jaxcon.lagrangians import Lagrangian


class Programs(NamedTuple):
    """Compiled functions of one problem, with (params, batch, extra) as last arguments.

    Rows are indices into the raveled residuals, (m,); J are the gradients of these rows,
    (m, p); directions are vectors as `flat` makes them, (p,).

    Attributes:
        residuals: () -> h and g.
        gram: (rows) -> J times its transpose, (m, m).
        slopes: (multipliers, with_loss) -> the gradients of all residuals times the
            Lagrangian's gradient, raveled, and that gradient's norm.
        slope: () -> the loss's gradient, (p,).
        pulled: (rows, weights) -> the transpose of J times the weights, (p,).
        pushed: (rows, direction) -> J times the direction, (m,).
        inner: (rows, weights) -> the transpose of J times the weights times J, (p, p).
        squares: (rows) -> squares of the lengths of J's rows, (m,), by p products.
        squares_by_probes: (rows) -> estimates of them, by `PROBES` products.
    """

    residuals: Callable[..., Constraints]
    gram: Callable[..., jax.Array]
    slopes: Callable[..., tuple[jax.Array, jax.Array]]
    slope: Callable[..., jax.Array]
    pulled: Callable[..., jax.Array]
    pushed: Callable[..., jax.Array]
    inner: Callable[..., jax.Array]
    squares: Callable[..., jax.Array]
    squares_by_probes: Callable[..., jax.Array]


# The estimate of a square by n random signs has a standard deviation of (2 / n)^1/2 of it.
PROBES = 256


@lru_cache(maxsize=16)
def programs(problem: Lagrangian) -> Programs:
    """Returns the functions of a problem, compiled once for all calls."""
    functions = {
        "residuals": _residuals,
        "gram": gram,
        "slopes": _slopes,
        "slope": _slope,
        "pulled": _pulled,
        "pushed": _pushed,
        "inner": _inner,
        "squares": partial(_squares, random=False),
        "squares_by_probes": partial(_squares, random=True),
    }
    return Programs(
        **{name: jax.jit(partial(f, problem)) for name, f in functions.items()}
    )


def flat(tree: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Returns the real numbers of a pytree as one vector, and the inverse of this.

    Args:
        tree: real or complex arrays.

    Returns:
        Shape (p,), of complex arrays the real parts before the imaginary ones; and the
        function that makes a pytree like `tree` of such a vector.
    """
    vector, unravel = ravel_pytree(tree)
    if not jnp.iscomplexobj(vector):
        return vector, lambda parts: unravel(parts.astype(vector.dtype))
    parts = jnp.concatenate([vector.real, vector.imag])

    def inverse(other: jax.Array) -> Any:
        return unravel(jax.lax.complex(*jnp.split(other.astype(parts.dtype), 2)))

    return parts, inverse


def _residuals(problem: Lagrangian, params: Any, batch: Any, extra: Any) -> Constraints:
    return problem.evaluate(params, batch, extra).residuals


def gram(problem: Lagrangian, rows: jax.Array, *at: Any) -> jax.Array:
    """Computes inner products of the rows' gradients, (m, m), one gradient at a time."""
    with jax.default_matmul_precision("highest"):  # TF32 would pass for dependence
        residuals, pull, push = _products(problem, *at)

        def column(row: jax.Array) -> jax.Array:
            return push(pull(jnp.zeros_like(residuals).at[row].set(1)))[rows]

        return jax.lax.map(column, rows)


def _slopes(
    problem: Lagrangian, multipliers: Constraints, with_loss: Any, *at: Any
) -> tuple[jax.Array, jax.Array]:
    with jax.default_matmul_precision("highest"):
        _, pull, push = _products(problem, *at)
        pulled = pull(ravel_pytree(multipliers)[0])
        gradient = jax.tree.map(
            jnp.add, _loss_gradient(problem, with_loss, *at), pulled
        )
        return push(gradient), _norm(gradient)


def _slope(problem: Lagrangian, *at: Any) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        return flat(_loss_gradient(problem, 1.0, *at))[0]


def _loss_gradient(
    problem: Lagrangian, weight: Any, params: Any, batch: Any, extra: Any
) -> Any:
    def loss(params: Any) -> jax.Array:
        return weight * problem.evaluate(params, batch, extra).loss

    return jax.grad(loss)(params)


def _pulled(
    problem: Lagrangian, rows: jax.Array, weights: jax.Array, *at: Any
) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        residuals, pull, _ = _products(problem, *at)
        weights = weights.astype(residuals.dtype)
        return flat(pull(jnp.zeros_like(residuals).at[rows].set(weights)))[0]


def _pushed(
    problem: Lagrangian, rows: jax.Array, direction: jax.Array, params: Any, *at: Any
) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        _, _, push = _products(problem, params, *at)
        return push(flat(params)[1](direction))[rows]


def _inner(
    problem: Lagrangian, rows: jax.Array, weights: jax.Array, params: Any, *at: Any
) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        residuals, pull, push = _products(problem, params, *at)
        start, unflat = flat(params)

        def column(entry: jax.Array) -> jax.Array:
            unit = jnp.zeros_like(start).at[entry].set(1)
            moved = (weights * push(unflat(unit))[rows]).astype(residuals.dtype)
            return flat(pull(jnp.zeros_like(residuals).at[rows].set(moved)))[0]

        return jax.lax.map(column, jnp.arange(start.size))


def _squares(
    problem: Lagrangian, rows: jax.Array, params: Any, *at: Any, random: bool
) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        residuals, _, push = _products(problem, params, *at)
        start, unflat = flat(params)

        def direction(entry: jax.Array) -> jax.Array:
            if random:
                key = jax.random.fold_in(jax.random.key(0), entry)
                return jax.random.rademacher(key, start.shape, start.dtype)
            return jnp.zeros_like(start).at[entry].set(1)

        def add(total: jax.Array, entry: jax.Array) -> tuple[jax.Array, None]:
            moved = push(unflat(direction(entry)))[rows]
            return total + jnp.square(moved.astype(total.dtype)), None

        dtype = jnp.promote_types(residuals.dtype, jnp.float32)
        count = PROBES if random else start.size
        total = jnp.zeros(rows.shape, dtype)
        total, _ = jax.lax.scan(add, total, jnp.arange(count))
        return total / count if random else total


def _products(
    problem: Lagrangian, params: Any, batch: Any, extra: Any
) -> tuple[jax.Array, Callable[[jax.Array], Any], Callable[[Any], jax.Array]]:
    """Returns the raveled residuals, and products with the transpose of J and with J."""
    residuals, pull = jax.vjp(
        lambda params: ravel_pytree(_residuals(problem, params, batch, extra))[0],
        params,
    )
    # Backwards twice rather than jax.jvp, which a jax.custom_vjp does not have.
    _, back = jax.vjp(lambda weights: pull(weights)[0], jnp.zeros_like(residuals))

    def push(gradient: Any) -> jax.Array:
        # A complex gradient is the conjugate of the direction it stands for.
        return back(jax.tree.map(jnp.conj, gradient))[0]

    return residuals, lambda weights: pull(weights)[0], push


def _norm(tree: Any) -> jax.Array:
    # Half precision would overflow at squares and lose their sum.
    sizes = [jnp.abs(leaf) for leaf in jax.tree.leaves(tree)]
    wide = [size.astype(jnp.promote_types(size.dtype, jnp.float32)) for size in sizes]
    squares = [jnp.sum(jnp.square(size)) for size in wide]
    return jnp.sqrt(sum(squares, start=jnp.zeros(())))
