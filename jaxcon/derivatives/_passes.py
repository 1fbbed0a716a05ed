"""The three passes through a function from which every operator reads.

Each returns the value with the derivatives, because XLA merges a separately written
value with a forward derivative but not with a backward one. Tangents and cotangents
are batched with ``jax.vmap``, so that the value is computed once for all of them. The
functions passed in have been checked to return one real array.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Function = Callable[[jax.Array], jax.Array]


def units(x: jax.Array) -> jax.Array:
    """Returns the d unit vectors as rows (d, d)."""
    return jnp.eye(x.size, dtype=x.dtype)


def reverse(f: Function, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns f(x) and its gradient (d,) or Jacobian (m, d), one cotangent per row."""
    value, pull = jax.vjp(f, x)
    if value.ndim == 0:
        return value, pull(jnp.ones_like(value))[0]
    return value, jax.vmap(pull)(jnp.eye(value.size, dtype=value.dtype))[0]


def forward(f: Function, x: jax.Array, tangents: jax.Array):
    """Returns f(x) and its derivatives along k tangents, in a new last axis."""
    # out_axes=None: the value does not depend on the tangent and is not repeated.
    along = jax.vmap(lambda v: jax.jvp(f, (x,), (v,)), out_axes=(None, -1))
    return along(tangents)


def jacobian(f: Function, x: jax.Array, m: int) -> tuple[jax.Array, jax.Array]:
    """Returns f(x) and its Jacobian (m, d) by the cheaper of the two modes."""
    return reverse(f, x) if reverse_is_cheaper(m, x.size) else forward(f, x, units(x))


def reverse_is_cheaper(m: int, k: int) -> bool:
    """Says whether m cotangents cost less than k tangents."""
    # At a tie forward wins: it keeps no intermediate values for a backward pass.
    return m < k


def curvature(
    f: Function, x: jax.Array, directions: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns f(x), its gradient (d,) and H v for each of k directions, (k, d)."""
    if x.size == 1:
        # With one input a backward pass has nothing to share: nested jvp is cheaper.
        value, slope, second = _twice_forward(f, x)
        return value, slope[None], directions * second
    value_and_gradient = jax.value_and_grad(f)

    def along(v: jax.Array):
        (value, gradient), (_, product) = jax.jvp(value_and_gradient, (x,), (v,))
        return value, gradient, product

    # Rows in front, not in the last axis where jax.hessian puts them: with equal
    # FLOPs the copies of the latter make it three times slower on a CPU.
    return jax.vmap(along, out_axes=(None, None, 0))(directions)


def _twice_forward(f: Function, x: jax.Array):
    one = jnp.ones_like(x)

    def slope(x: jax.Array):
        return jax.jvp(f, (x,), (one,))

    (value, first), (_, second) = jax.jvp(slope, (x,), (one,))
    return value, first, second


def weighted_sum(
    products: jax.Array, weights: jax.Array | None, directions: jax.Array | None
) -> jax.Array:
    r"""Returns :math:`\sum_k c_k v_k^\top H v_k` from the products H v_k (k, d)."""
    # Products and sums, not a matrix product: accelerators round the latter's
    # operands to fewer bits by default.
    if directions is None:
        seconds = jnp.diagonal(products)
    else:
        seconds = jnp.sum(products * directions, axis=1)
    return jnp.sum(seconds if weights is None else weights * seconds)


def times(hessian: jax.Array, directions: jax.Array) -> jax.Array:
    """Returns H v for each row v of directions, (k, d), from the whole Hessian."""
    return jnp.matmul(directions, hessian, precision=jax.lax.Precision.HIGHEST)


def laplacian(
    f: Function,
    x: jax.Array,
    weights: jax.Array | None,
    directions: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Returns f(x) and its weighted Laplacian, from at most d products H v."""
    if directions is None or directions.shape[0] <= x.size:
        seeds = units(x) if directions is None else directions
        value, _, products = curvature(f, x, seeds)
    else:
        # More directions than inputs: the whole Hessian costs fewer tangents.
        value, _, hessian = curvature(f, x, units(x))
        products = times(hessian, directions)
    return value, weighted_sum(products, weights, directions)


def nested(f: Function, x: jax.Array, tangents: tuple[jax.Array, ...]) -> jax.Array:
    """Returns the mixed derivative of f along each tangent in turn, by nested jvp."""
    for v in tangents:
        f = _along(f, v)
    return f(x)


def _along(f: Function, v: jax.Array) -> Function:
    return lambda x: jax.jvp(f, (x,), (v,))[1]
