"""Smooth functions of distances, without NaN where their slopes are not bounded."""

import jax
import jax.numpy as jnp


def least(dtype: jnp.dtype) -> float:
    """Returns the smallest number whose reciprocal has a finite third derivative."""
    return float(jnp.finfo(dtype).tiny) ** 0.2


def length(a: jax.Array, b: jax.Array) -> jax.Array:
    r"""Computes :math:`\sqrt{a^2 + b^2}`, zero with its derivatives where both are tiny.

    Args:
        a: any shape.
        b: the same.

    Returns:
        The same shape.
    """
    first = jnp.abs(a) >= jnp.abs(b)
    large, small = jnp.where(first, a, b), jnp.where(first, b, a)
    safe = jnp.abs(large) > least(large.dtype)
    size = jnp.where(safe, jnp.abs(large), 1.0)
    return jnp.where(safe, size * jnp.sqrt(1 + (small / size) ** 2), 0.0)


def conjunction(a: jax.Array, b: jax.Array) -> jax.Array:
    r"""Combines the distances of two sets to one of their intersection.

    .. math::
        a \wedge b = a + b - \sqrt{a^2 + b^2} = \frac{2 a b}{a + b + \sqrt{a^2 + b^2}}

    It is positive where both are, smooth except where both are zero, and where one is
    zero and the other positive it has the slope of the first.

    Args:
        a: ().
        b: ().

    Returns:
        ().

    References:
        Rvachev and Sheiko, R-Functions in Boundary Value Problems in Mechanics (1995).
    """
    root = length(a, b)
    # Each form where nothing in it cancels; the second is exactly zero where a or b is.
    inside = (a + b > 0) & (root > 0)
    return jnp.where(
        inside, 2 * a * b / jnp.where(inside, a + b + root, 1.0), a + b - root
    )
