"""Projection onto matrices of a bounded spectral norm."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcon._checks import check_array, check_number


def spectral_ball(W: Any, radius: Any) -> jax.Array:
    r"""Returns the nearest matrix, in the Frobenius norm, of bounded spectral norm.

    .. math::
        P(W) = U \min(\Sigma, r) V^T, \qquad W = U \Sigma V^T

    The derivative is that of the matrix function, in divided differences, not the
    derivative of U and V, which does not exist where singular values repeat: it is finite
    at repeated and at zero singular values. In the ball, where P(W) = W, the second
    derivatives are finite too; outside they need distinct singular values. The cost is
    one singular value decomposition.

    Args:
        W: the matrix to project, (m, n).
        radius: r >= 0, (), in units of W.

    Returns:
        Shape (m, n), in float32 or wider; W itself where it is in the ball.

    Raises:
        TypeError: W is no array of numbers, or radius no number.
        ValueError: the shapes do not fit or the radius is negative. If the radius is
            traced and not known, the result is NaN instead.

    References:
        Lewis and Sendov, Nonsmooth analysis of singular values, part I (2005), on
        functions of singular values.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxcon as jc
        >>> print(jc.projections.spectral_ball(jnp.array([[3.0, 0.0], [0.0, 0.5]]), 1.0))
        [[1.  0. ]
         [0.  0.5]]
    """
    W = check_array("spectral_ball: W", W, "of any shape", finite=None)
    if W.ndim != 2 or W.size < 1:
        raise ValueError(
            f"spectral_ball needs W (m, n), got {W.shape}; use jax.vmap for many"
        )
    check_number("spectral_ball: radius", radius, least=0)
    dtype = jnp.result_type(W, radius, jnp.float32)
    W, radius = jnp.asarray(W, dtype), jnp.asarray(radius, dtype)
    return _clipped(W, jnp.where(radius >= 0, radius, jnp.nan))


def _product(*factors: jax.Array) -> jax.Array:
    """Returns the matrix product of the factors, in full precision on accelerators too."""
    return jnp.linalg.multi_dot(factors, precision="highest")


@jax.custom_jvp
def _clipped(W: jax.Array, radius: jax.Array) -> jax.Array:
    u, s, vt = jnp.linalg.svd(W, full_matrices=False)
    clipped = _product(u * jnp.minimum(s, radius)[None], vt)
    return jnp.where(s[0] <= radius, W, clipped)


@_clipped.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (W, radius), (dW, dradius) = primals, tangents
    nearest = _clipped(W, radius)
    inside = jnp.all(nearest == W)
    # Repeated singular values have no slopes: they would make all of the tangent NaN.
    distinct = jnp.zeros_like(W)
    distinct = jnp.fill_diagonal(
        distinct, jnp.arange(1, min(W.shape) + 1), inplace=False
    )
    u, s, vt = jnp.linalg.svd(jnp.where(inside, distinct, W), full_matrices=False)
    clipped, over = jnp.minimum(s, radius), s > radius
    core = _product(u.T, dW, vt.T)
    first, second = s[:, None], s[None, :]
    # Divided differences of the clipping, which is odd, between singular values and
    # between one and the negative of another; its own slope where they meet.
    either = over[:, None] | over[None, :]
    crossed = over[:, None] ^ over[None, :]
    apart = jnp.where(crossed, first - second, 1.0)
    inner = jnp.where(crossed, (clipped[:, None] - clipped[None, :]) / apart, ~either)
    sums = jnp.where(either, first + second, 1.0)
    outer = jnp.where(either, (clipped[:, None] + clipped[None, :]) / sums, 1.0)
    within = inner * (core + core.T) / 2 + outer * (core - core.T) / 2
    # The parts outside the spaces of U or V belong to singular values of zero.
    ratio = jnp.where(over, radius / jnp.where(over, s, 1.0), 1.0)
    left = _product(dW, vt.T) - _product(u, core)
    right = _product(u.T, dW) - _product(core, vt)
    tangent = (
        _product(u, within, vt)
        + _product(left * ratio[None, :], vt)
        + _product(u, ratio[:, None] * right)
        + dradius * _product(u * over[None, :], vt)
    )
    return nearest, jnp.where(inside, dW, tangent)
